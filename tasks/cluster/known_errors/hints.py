"""What a line in a rank's log means (errors.toml), a log's first error, exit statuses. Pure."""

import re
import signal
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ..config.ranks import FAST_SYNCH, fast_synch_of
from ..facts.server import marks
from . import table


@dataclass(frozen=True)
class Hint:
    """What a known error means, and what to do first."""

    cause: str
    remedy: str


_TRACEBACK = "Traceback (most recent call last):"
_ERROR = re.compile(
    r"((?<![,{])\bERROR\b(?![,}])|\b\w*(Error|Exception)\b: |^\w*(Error|Exception)$"
    r"|\[jaccl\].*(fail|errno|Could|No )|\[ring\].*(fail|Couldn't|lost)|errno|[Ff]atal"
    r"|\[METAL\].*fail|terminate called|not found$|command not found|error: "
    r"|^MLX .* has no backend |^MLX could not join |^this is rank \d+ of |^Timeout \(\d"
    r"|libc\+\+abi|No module named|No such file|connection to a peer was lost)"
)


def hint(lines: Iterable[str], facts: Mapping[str, str] | None = None) -> Hint | None:
    """The first known error in `lines`, with what `facts` make of it."""
    known = table.first_known(lines)
    told = known.told(facts or {}) if known else None
    return Hint(told.means, told.first) if told else None


def facts(env: Mapping[str, str]) -> Mapping[str, str]:
    """What a rank's environment tells of the facts on which a known error's sentence depends."""
    return {FAST_SYNCH: "set" if fast_synch_of(env) == "on" else "unset"}


def first_error(lines: list[str]) -> str | None:
    """The first error in a log, often the cause; of a traceback the line that ends it."""
    for index, line in enumerate(lines):
        if line.startswith(_TRACEBACK):
            rest = (after for after in lines[index + 1 :] if after and not after[0].isspace())
            return next(rest, line)
        if _ERROR.search(line):
            return line.strip()
    return None


class ErrorWatch:
    """Finds the first error of a combined log whose lines come one by one, harmless ones aside."""

    def __init__(self) -> None:
        self._open: set[str] = set()  # tags of ranks in whose log a traceback has begun

    def take(self, line: str) -> str | None:
        """The line, if an error ends with it."""
        tag, _, text = line.partition(" | ")
        if tag in self._open:
            if not text or text[0].isspace():
                return None
            self._open.discard(tag)
            return line
        if text.startswith(_TRACEBACK):
            self._open.add(tag)
            return None
        known = table.first_known([text])
        return line if first_error([text]) and not (known and known.harmless) else None


_ENTRY = {
    marks.WRONG_WORLD: "MLX made another group than was asked for",
    marks.NO_BACKEND: "its MLX has no such backend",
    marks.NOT_JOINED: "MLX could not join the others",
}


def describe_exit(status: int | None) -> str:
    """An exit status of a rank in words: shells add 128 to a signal's number."""
    if status is None:
        return "exit status unknown"
    if status in _ENTRY:
        return _ENTRY[status]
    if 128 < status < 160:
        try:
            return f"killed by {signal.Signals(status - 128).name}"
        except ValueError:
            pass
    return f"exit status {status}"
