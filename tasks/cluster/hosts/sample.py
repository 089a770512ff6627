"""A sample of real hosts: what they said, without private values, as tests/data/macos has it.

DIR/HOST/ holds a file per fact that is read by the system's commands, and `status.json`, the exit
status of each that is not 0. `read` gives them back to parsers.
"""

import json
import re
from collections.abc import Iterator, Mapping
from ipaddress import ip_address
from pathlib import Path

from ..facts import NodeFacts
from ..facts.snapshot import Snapshot
from .placeholders import Placeholders
from .said import ASSUMED, Raw, sections

# Facts whose file is called otherwise.
FILES = {
    "interfaces": "ifconfig.txt",
    "routes": "netstat_routes.txt",
    "hardware_ports": "networksetup.txt",
    "thunderbolt": "system_profiler.json",
}
_OURS = {"audit", "config"}  # what users of ours did and run: no matter of macOS
_STATUS = "status.json"
# What of a command line tells a server; all else may be anything, keys too.
_TELLS = {"-m", "mlx_lm", "mlx_lm.server", "vllm_mlx.cli", "server", "serve", "--port", "-c"}


def write(folder: Path, read: Snapshot) -> list[Path]:
    """Write a sample into `folder`, which is empty; give the folders of the hosts."""
    said = {host: _texts(facts) for host, facts in read.nodes.items()}
    everything = [raw.text for texts in said.values() for raw in texts.values()]
    known = [pair for host, facts in read.nodes.items() for pair in _private(host, facts)]
    put = Placeholders(everything, known)
    written = []
    for number, texts in enumerate(said.values(), 1):
        place = folder / f"host{number}"
        place.mkdir()
        for name, raw in texts.items():
            (place / _file(name)).write_text(put(raw.text), encoding="utf-8")
        statuses = {_file(name): raw.status for name, raw in texts.items() if raw.status}
        (place / _STATUS).write_text(json.dumps(statuses, indent=2) + "\n", encoding="utf-8")
        written.append(place)
    return written


def read(folder: Path) -> dict[str, Raw]:
    """What a host of a sample said, by the name of the fact."""
    names = {file: name for name, file in FILES.items()}
    statuses = json.loads((folder / _STATUS).read_text(encoding="utf-8"))
    return {
        names.get(path.name, path.stem): Raw(
            path.read_text(encoding="utf-8"), statuses.get(path.name, 0)
        )
        for path in sorted(folder.iterdir())
        if path.name != _STATUS
    }


def _file(name: str) -> str:
    return FILES.get(name, f"{name}.txt")


def _texts(facts: NodeFacts) -> dict[str, Raw]:
    """What is kept of a host; what gave no answer in time is not there."""
    found = {}
    for key, raw in facts.values.items():
        if isinstance(raw, Raw) and key.name not in _OURS:
            cut = _CUT.get(key.name, str)
            found[key.name] = Raw(cut(raw.text), raw.status)
    return found


def _private(host: str, facts: NodeFacts) -> Iterator[tuple[str, str]]:
    """What this host says of itself, and how we call it."""
    user, _, name = host.rpartition("@")
    yield from (("user", user), *_host(name))
    raw = facts.values.get(ASSUMED)
    if not isinstance(raw, Raw):
        return
    kinds = {"user": "user", "home": "home", "host": "host", "volume": "volume"}
    for line in _mine(raw).splitlines():
        word, _, value = line.partition(" ")
        if word == "host":
            yield from _host(value)
        elif word in kinds:
            yield kinds[word], value


def _host(name: str) -> Iterator[tuple[str, str]]:
    """A host's name, with its domain and without."""
    try:
        ip_address(name)
    except ValueError:
        yield from (("host", name), ("host", name.partition(".")[0]))


def _mine(raw: Raw) -> str:
    try:
        return sections(raw.text, raw.status).get("mine", "")
    except ValueError:
        return ""


def _processes(text: str) -> str:
    """Command lines without the arguments that tell nothing of a server."""
    programs = dict(re.findall(r"^ *(\d+) (/.*?) *$", text.partition("== processes")[0], re.M))

    def cut(found: re.Match[str]) -> str:
        line: str = found["line"]
        program = programs.get(found["pid"], "")
        program = program if program and line.startswith(program) else line.split(" ")[0]
        words = line[len(program) :].split()
        told = [word if word in _TELLS or word.isdigit() else "x" for word in words]
        return " ".join([found["head"] + program, *told])

    row = r"^(?P<head> *(?P<pid>\d+) +\d+ +\d+ +\d+ )(?P<line>.*)$"
    head, mark, rest = text.partition("== processes\n")
    return head + mark + re.sub(row, cut, rest, flags=re.MULTILINE)


# What is shown of a record in place of what may be private.
_SHOWN: Mapping[str, object] = {
    "command": ["python3", "-m", "mlx_lm", "server"],
    **{"env": [], "hosts": [], "model": "model", "cwd": None, "log_dir": None},
}


def _state(text: str) -> str:
    """Records without the server's command line."""
    return re.sub(r"^record (.*)$", lambda found: f"record {_record(found[1])}", text, flags=re.M)


def _record(text: str) -> str:
    try:
        record = json.loads(text)
        ranks = [{k: _SHOWN.get(k, v) for k, v in rank.items()} for rank in record["ranks"]]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return "{}"
    return json.dumps({**record, "ranks": ranks})


def _assumed(text: str) -> str:
    return re.sub(r"^== mine\n(?:(?!== ).*\n)*", "", text, flags=re.MULTILINE)


_CUT = {"processes": _processes, "state": _state, ASSUMED.name: _assumed}
