"""What a host said to hosts.selftest -> rows: ok, differs or not here. Pure."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ..facts import Fact, NodeFacts, Unknown
from ..facts.links import rdma
from .said import ASSUMED, Raw, sections

OK, DIFFERS, NOT_HERE = "ok", "differs", "not here"
Answered = tuple[str, str]  # state, what was found


@dataclass(frozen=True)
class SelftestRow:
    """`what` we take for granted, as it is on a host."""

    what: str
    host: str
    state: str
    found: str


def judge(wanted: Mapping[str, Fact[object]], said: NodeFacts) -> list[SelftestRow]:
    """A row per fact, whether its parser takes what was said, and one per assumption."""
    raws = {key.name: value for key, value in said.values.items()}
    told = _sections(raws[ASSUMED.name])
    is_mac = told.get("system") != "Linux"  # a Mac's begins with its version
    found = {name: _fact(fact, raws[name], is_mac) for name, fact in wanted.items()}
    found |= {f"vm_stat: {name}": each for name, each in _vm_stat(raws["memory"], is_mac).items()}
    found["ibv_devinfo: form"] = _devinfo(raws[rdma.DEVINFO.name])
    found["system_profiler: keys"] = _profiler(raws["thunderbolt"], is_mac)
    found |= {what: ask(told.get(name, ""), is_mac) for what, name, ask in ASSUMPTIONS}
    return [SelftestRow(what, said.node, *each) for what, each in found.items()]


def _sections(said: object) -> Mapping[str, str]:
    try:
        return sections(said.text, said.status) if isinstance(said, Raw) else {}
    except ValueError:
        return {}


def _fact(fact: Fact[object], said: object, is_mac: bool) -> Answered:
    if isinstance(said, Unknown):
        return DIFFERS, said.why
    assert isinstance(said, Raw)
    try:
        fact.parse(said.text, said.status)
    except ValueError as error:
        if fact.name in _OF_MACOS and not is_mac:
            return NOT_HERE, "a command of macOS"
        return _missing(said, is_mac) or (DIFFERS, f"{error}: {_last(said.text)}".strip(": "))
    return OK, "the parser takes it"


_OF_MACOS = {"interfaces"}  # Linux has a command of that name too


def _missing(said: Raw, is_mac: bool) -> Answered | None:
    """What no host need have: a file of ours, and on Linux a command of macOS."""
    if "No such file or directory" in said.text:
        return NOT_HERE, "there is no such file"
    is_command = said.status == 127 or re.search(r"\bnot found\b|^nc 127$", said.text, re.M)
    return (NOT_HERE, "a command of macOS") if is_command and not is_mac else None


def _last(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1][:120] if lines else ""


# The labels that we go by, each with its unit: pages, with a dot at the end.
LABELS = (
    "Pages wired down", "Anonymous pages", "Pages purgeable", "Pages occupied by compressor",
)  # fmt: skip


def _vm_stat(said: object, is_mac: bool) -> dict[str, Answered]:
    text = said.text if isinstance(said, Raw) else ""
    if "Mach Virtual Memory" not in text and not is_mac:
        return {"labels": (NOT_HERE, "a command of macOS")}
    rows = dict(re.findall(r'^"?(\w[^:"]*)"?: +(\d+\.?) *$', text, re.MULTILINE))
    wrong = [label for label in LABELS if not rows.get(label, "").endswith(".")]
    size = re.search(r"page size of (\d+) bytes", text)
    units: Answered = (OK, f"pages of {size[1]} bytes") if size else (DIFFERS, "no page size")
    labels: Answered = (
        (DIFFERS, f"no pages told: {', '.join(wrong)}") if wrong else (OK, "all there")
    )
    return {"labels": labels, "units": units}


def _devinfo(said: object) -> Answered:
    """What we read of each device; a parser leaves out what it does not find."""
    try:
        devices = rdma.parse_devinfo(said.text, said.status) if isinstance(said, Raw) else {}
    except ValueError:
        devices = {}
    if not devices:
        return NOT_HERE, "no device"
    for each in devices.values():
        there = {"state": each.state, "max_pd": each.max_pd, "max_qp": each.max_qp}
        if missing := [name for name, value in {**there, "GID": each.gids}.items() if not value]:
            return DIFFERS, f"{each.name} has no {', '.join(missing)}"
    return OK, f"all there, of {len(devices)} devices"


def _profiler(said: object, is_mac: bool) -> Answered:
    """The keys that the cables are found by; where no cable is in, only those of the ports."""
    if not is_mac and isinstance(said, Raw) and said.status == 127:
        return NOT_HERE, "a command of macOS"
    text = said.text if isinstance(said, Raw) else ""
    keys = {"SPThunderboltDataType", "domain_uuid_key", "current_speed_key", "receptacle_id_key"}
    missing = sorted(key for key in keys if f'"{key}"' not in text)
    speeds = re.findall(r'"current_speed_key" : "([^"]*)"', text)
    if odd := [each for each in speeds if not re.match(r"(Up to )?\d+ Gb/s", each)]:
        return DIFFERS, f"a speed of {odd[0][:40]}"
    return (DIFFERS, f"no {', '.join(missing)}") if missing else (OK, "all there")


def _of_mac(right: Callable[[str], bool], found: str = "") -> Callable[[str, bool], Answered]:
    """Judge a command that only a Mac has, or has in this form."""

    def ask(said: str, is_mac: bool) -> Answered:
        if not is_mac:
            return NOT_HERE, "a matter of macOS"
        return (OK, found or _line(said)) if right(said) else (DIFFERS, _line(said))

    return ask


def _line(said: str) -> str:
    return ", ".join(said.splitlines())[:120] or "nothing was said"


def _has_deletem(said: str) -> bool:
    counts = dict(re.findall(r"^(\w+) (\d+)$", said, re.MULTILINE))
    return all(int(counts.get(word, 0)) for word in ("addm", "deletem"))


def _echo(said: str, is_mac: bool) -> Answered:
    forms = {"a\nb": "echo reads backslashes", "a\\nb": "echo prints backslashes"}
    if said not in forms:
        return DIFFERS, _line(said)
    return (DIFFERS if is_mac and said == "a\\nb" else OK), forms[said]


def _rsync(said: str, is_mac: bool) -> Answered:
    """openrsync splits --rsync-path at blanks and takes quotes away, rsync hands it over whole."""
    version, _, words = said.partition("\n")
    if not said:
        return (DIFFERS, "there is no rsync") if is_mac else (NOT_HERE, "there is no rsync")
    is_open = "openrsync" in version
    split = "<a><b c>" if is_open else '<a "b c">'
    number = re.search(r"version (\d\S*)", version)
    name = f"{'openrsync' if is_open else 'rsync'} {number[1] if number else ''}".strip()
    how = "splits --rsync-path" if is_open else "hands --rsync-path over whole"
    return (OK, f"{name} {how}") if split in words else (DIFFERS, f"{name}: {_line(words)}")


def _names(said: str, is_mac: bool) -> Answered:
    """Folders are compared as what they are, so both will do."""
    known = {"ignored": "case is ignored", "minded": "case is minded", "unknown": "can't be asked"}
    return (OK, known[said]) if said in known else (DIFFERS, _line(said))


def _environment(said: str, is_mac: bool) -> Answered:
    """Nothing of ours goes by it; what it passes may change what ranks see."""
    passed = [name for name, mark in re.findall(r"^(\w+)=(.*)$", said, re.MULTILINE) if mark]
    names = {"LC": "LC_*", "any": "any name"}
    if "=" not in said:
        return DIFFERS, _line(said)
    if "any=local" in said:
        return NOT_HERE, "no ssh is on the way"
    return OK, f"passed: {', '.join(names[each] for each in passed) or 'nothing'}"


def _path(said: str, is_mac: bool) -> Answered:
    missing = [each for each in ("/usr/bin", "/bin") if each not in said.split(":")]
    return (DIFFERS, f"no {', '.join(missing)} in {_line(said)}") if missing else (OK, _line(said))


def _stat(said: str, is_mac: bool) -> Answered:
    forms = re.findall(r"^(-[cf]) \d+$", said, re.MULTILINE)
    if not forms or (is_mac and forms != ["-f"]):
        return DIFFERS, f"takes {', '.join(forms) or 'neither -f nor -c'}"
    return OK, f"takes {', '.join(forms)}"


def _python(said: str) -> Mapping[str, object]:
    try:
        found = json.loads(said.splitlines()[-1])
    except (ValueError, IndexError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _backends(said: str, is_mac: bool) -> Answered:
    found = _python(said).get("backends")
    if not isinstance(found, dict):
        return DIFFERS, f"the python says: {_last(said) or 'nothing'}"
    if not found:
        return NOT_HERE, "this python has no mlx"
    there = ", ".join(name for name, value in found.items() if value)
    # A Mac's mlx has both, whatever links there are.
    missing = [name for name in ("ring", *["jaccl"] * is_mac) if not found.get(name)]
    return (DIFFERS, f"no {', '.join(missing)}") if missing else (OK, there)


def _ps(said: str, is_mac: bool) -> Answered:
    if not is_mac:
        return NOT_HERE, "/proc tells it"
    shown = _python(said).get("ps")
    return (OK, "shown") if shown is True else (DIFFERS, "not shown")


UUID = r"[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}"
# What is told, the section of selftest.sh, and its judge.
ASSUMPTIONS: tuple[tuple[str, str, Callable[[str, bool], Answered]], ...] = (
    ("system", "system", lambda said, is_mac: (OK if said else DIFFERS, _line(said))),
    ("ifconfig: addm, deletem", "ifconfig", _of_mac(_has_deletem)),
    ("sh: echo", "echo", _echo),
    ("rsync: --rsync-path", "rsync", _rsync),
    (
        "nc: -G, -w, -z",
        "nc",
        _of_mac(lambda said: set(re.findall(r"-([Gwz])\b", said)) == set("Gwz"), "all there"),
    ),
    ("mlx: backends", "python", _backends),
    ("environments (ps -E)", "python", _ps),
    ("file names", "names", _names),
    ("sshd: AcceptEnv", "environment", _environment),
    ("PATH without a terminal", "path", _path),
    ("stat", "stat", _stat),
    ("kern.bootsessionuuid", "boot", _of_mac(lambda said: bool(re.fullmatch(UUID, said)), "there")),
    ("/tmp is a link", "tmp", _of_mac(lambda said: said in ("private/tmp", "/private/tmp"))),
)
