"""The table of known errors, as errors.toml has it. Pure."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from .frames import Frames, named

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FILE = Path(__file__).with_name("errors.toml")
LIMIT = 4096  # characters of a line that are looked at
# What an entry has that goes by the frame alone: any exception, but those that others tell better.
_RAISED = r"\b\w{0,60}(?:Error|Exception)(?:: |\(|$)"
_SPEAKS = ("Error", "Exception", "ERROR", "CRITICAL")  # the last two: by the logger's name
_TOLD_BETTER = ("rror: [", "HTTPException", "ImportError", "OSError", "FileExistsError",
                "PermissionError", "imeout", "Cancelled", "emory", "rror: (")  # fmt: skip

KnownFacts = Mapping[str, str]


@dataclass(frozen=True)
class When:
    """What is said instead where a fact is known, and is such."""

    fact: str
    equals: str | None = None
    below: str | None = None
    at_least: str | None = None
    means: str | None = None
    first: str | None = None
    then: str | None = None

    def holds(self, facts: KnownFacts) -> bool:
        """Tell whether the fact is known and is such; a version is compared number by number."""
        value = facts.get(self.fact)
        if value is None:
            return False
        return (
            value == self.equals
            or (self.below is not None and _version(value) < _version(self.below))
            or (self.at_least is not None and _version(value) >= _version(self.at_least))
        )


@dataclass(frozen=True)
class KnownError:
    """One entry of errors.toml, whose head tells what each field is for."""

    id: str
    about: str
    text: Sequence[str]
    means: str
    first: str
    source: str
    sample: str
    pattern: str = ""
    unless: Sequence[str] = ()
    then: str = ""
    versions: str = ""
    harmless: bool = False
    general: bool = False
    frame: str = ""
    at: str = ""
    when: Sequence[When] = ()

    @cached_property
    def _expression(self) -> re.Pattern[str]:
        return re.compile(self.pattern)

    @cached_property
    def _raised_in(self) -> re.Pattern[str]:
        return re.compile(self.frame)

    def claims(self, line: str, frame: str = "") -> bool:
        """Tell whether the line is this error; of a long line only its beginning counts."""
        line = line[:LIMIT]
        return (
            (not self.frame or self.covers(frame))
            and any(text in line for text in self.text)
            and self._expression.search(line) is not None
            and not any(text in line for text in self.unless)
        )

    def covers(self, frame: str) -> bool:
        """Tell whether the entry is for what that file raises or logs."""
        return bool(self.frame and frame and self._raised_in.search(frame))

    def named(self, frame: str) -> KnownError:
        """Give the entry with the words of the frame's path that its sentences ask for."""
        found = self._raised_in.search(frame) if self.frame else None
        words = found.groupdict() if found else {}
        told = {key: getattr(self, key).format(**words) for key in ("means", "first") if words}
        return replace(self, **told) if told else self

    def told(self, facts: KnownFacts) -> KnownError:
        """Give the entry with the sentences that these facts make of it: the first that holds."""
        for when in self.when:
            if when.holds(facts):
                return replace(
                    self,
                    means=when.means or self.means,
                    first=when.first or self.first,
                    then=when.then or self.then,
                )
        return self


@cache
def table() -> tuple[KnownError, ...]:
    """Read errors.toml, once; what is general stands last."""
    rows = tomllib.loads(FILE.read_text(encoding="utf-8"))["error"]
    return tuple(sorted((_entry(row) for row in rows), key=_order))


def _order(known: KnownError) -> int:
    """Give the place: by words, by the frame, by its kind."""
    return 2 * known.general - bool(known.frame)


def claimant(
    line: str, among: Sequence[KnownError] | None = None, frame: str = ""
) -> KnownError | None:
    """Find the entry to which the line belongs: a general one where no other claims it."""
    candidates = table() if among is None else among
    found = next((known for known in candidates if known.claims(line, frame)), None)
    if not found and (frame := named(line[:LIMIT])):
        found = next((known for known in candidates if known.covers(frame)), None)
    return found.named(frame) if found else None


def first_known(lines: Iterable[str]) -> KnownError | None:
    """Find the first error that is known; a harmless one only where there is no other."""
    harmless = None
    frames = Frames()
    for line in lines:
        known = claimant(line, frame=frames.of(line))
        if known and not known.harmless:
            return known
        harmless = harmless or known
    return harmless


def _entry(row: dict[str, Any]) -> KnownError:
    if "frame" in row:
        raised: dict[str, Any] = {"text": list(_SPEAKS), "pattern": _RAISED}
        row = raised | {"general": True} | row
        row["unless"] = [*_TOLD_BETTER, *row.get("unless", ())]
    text = row.pop("text")
    texts = (text,) if isinstance(text, str) else tuple(text)
    when = tuple(When(**each) for each in row.pop("when", ()))
    return KnownError(text=texts, unless=tuple(row.pop("unless", ())), when=when, **row)


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d{1,9}", text)[:4])
