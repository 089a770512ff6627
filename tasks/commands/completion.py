"""The Tab key: what an option's value may be, and the script that asks, for each shell.

Invoke's own scripts drop the empty word at the end, so that `--hosts mac1 ` and `--hosts mac1` look
alike, and know tasks and options alone.
"""

import os
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from invoke.config import Config
from invoke.parser.context import ParserContext

from ..cli import screen
from ..cluster import cluster
from ..cluster.config import engine, hostfile
from ..cluster.config.values import Choice
from ..cluster.errors import BadInput
from ..cluster.ssh import scripts
from ..cluster.text import either

FOLDER = Path(__file__).parents[1] / "cli" / "completions"
SHELLS = ("bash", "zsh", "fish")
PLACE = ".config/mlx-tp"  # in the home: what the start-up file reads


def run(shell: str | None, show: bool) -> None:
    """Install the script of a shell, or show it."""
    shell = shell or _own()
    if show:
        screen.out(_script(shell).rstrip())
        return
    try:
        _install(shell, Path.home())
    except OSError as error:
        raise BadInput(f"{error.filename}: {error.strerror}") from None


def _own() -> str:
    """The shell that this machine's user has, by $SHELL."""
    name = Path(os.environ.get("SHELL", "")).name
    if name in SHELLS:
        return name
    why = f"$SHELL is {name}, which nothing is made for" if name else "$SHELL is not set"
    raise BadInput(f"{why}: inv completion --shell {either(SHELLS)}")


def _script(shell: str) -> str:
    return (FOLDER / f"inv.{shell}").read_text(encoding="utf-8")


def _install(shell: str, home: Path) -> None:
    if shell == "fish":
        script = home / ".config/fish/completions/inv.fish"
    else:
        script = home / PLACE / f"completion.{shell}"
    script.parent.mkdir(parents=True, exist_ok=True)
    script.write_text(_script(shell))
    screen.out(f"wrote {script}")
    if shell != "fish":
        _read_at_start(home / f".{shell}rc", f"source ~/{script.relative_to(home)}")
    screen.out(f"a new {shell} completes inv (not `uv run inv`: activate .venv there)")


def _read_at_start(file: Path, line: str) -> None:
    text = file.read_text() if file.exists() else ""
    if line in text.splitlines():
        screen.out(f"{file} reads it already")
        return
    ending = "" if not text or text.endswith("\n") else "\n"
    with file.open("a") as out:
        out.write(f"{ending}{line}\n")
    screen.out(f"{file} reads it: {line}")


def values(words: Sequence[str], task: ParserContext | None, config: Config) -> list[str] | None:
    """What the last of `words` may become; None where it is no value of an option of ours."""
    flag, typed = words[-2:] if len(words) > 1 else ("", "")
    tp = _configured(words, config)
    if "--" in words[:-1]:
        return _models(tp) if flag == "--model" else []
    if task is None or flag not in task.flags or not task.flags[flag].takes_value:
        return None
    argument = task.flags[flag]
    kind = getattr(argument, "value_kind", None)
    if isinstance(kind, Choice):
        return list(kind.words)
    known = VALUES.get(argument.name.replace("-", "_"))
    found = known(tp) if known else []
    return _after_commas(typed, found) if argument.kind is list else found


def _after_commas(typed: str, found: Sequence[str]) -> list[str]:
    first, comma, _ = typed.rpartition(",")
    given = first.split(",")
    return [f"{first}{comma}{each}" for each in found if each not in given]


Tp = Mapping[str, Any]  # the configuration's, not validated


def _configured(words: Sequence[str], config: Config) -> Tp:
    """`tp` as it would be for this line, as far as values depend on it."""
    tp = dict(config.get("tp", {}))
    tp["hostfile"] = os.environ.get("INVOKE_TP_HOSTFILE") or tp.get("hostfile")
    if "--hostfile" in words[:-2]:
        tp["hostfile"] = words[words.index("--hostfile") + 1]
    return {key: value for key, value in tp.items() if value}


def _hosts(tp: Tp) -> list[str]:
    return cluster.known_hosts(tp)


def _file(tp: Tp) -> hostfile.Hostfile | None:
    try:
        return hostfile.load(cluster.configured(tp))
    except BadInput:
        return None


def _ranks(tp: Tp) -> list[str]:
    file = _file(tp)
    return [str(number) for number in range(len(file.hosts))] if file else []


def _checks(tp: Tp) -> list[str]:
    from ..cluster.checks import CHECKS

    return list(CHECKS)


def _models(tp: Tp) -> list[str]:
    """The hostfile's model, those of Hugging Face's cache here, of ~/models; no node is asked."""
    file = _file(tp)
    own = file.model if file else None
    ask = ["/bin/sh", "-c", f"{scripts.script('hub.sh')}hub_cache"]
    found = subprocess.run(ask, capture_output=True, text=True, check=False).stdout
    hub = Path(found.rstrip("\n") or "/nowhere")
    cached = [each.name[len("models--") :].replace("--", "/") for each in hub.glob("models--*")]
    here = [f"~/models/{each.name}" for each in (Path.home() / "models").glob("*")]
    return sorted({*cached, *here, *([own] if own else [])})


def _engines(tp: Tp) -> list[str]:
    return sorted({*engine.BUILT_IN, *tp.get("engines", {})})


def _clusters(tp: Tp) -> list[str]:
    return sorted(tp.get("clusters", {}))


VALUES: Mapping[str, Callable[[Tp], list[str]]] = {
    "hosts": _hosts,
    "host": _hosts,
    "rank": _ranks,
    "skip": _checks,
    "model": _models,
    "engine": _engines,
    "cluster": _clusters,
}
