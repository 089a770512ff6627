"""The first known error of a log of any size. Pure."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import BinaryIO

from ..text import plain
from .frames import Frames
from .hints import first_error
from .table import LIMIT, KnownError, claimant, table

BLOCK = 1024 * 1024
# Nothing that first_error takes for an error is without one of these.
_SIGNS = (b"rror", b"RROR", b"xception", b"rrno", b"atal", b"ail", b"Could", b"terminate",
          b"not found", b"libc++abi", b"No ", b"lost", b"Traceback")  # fmt: skip
# Whose line it is: the combined log's, torchrun's and ours in tracebacks, mpirun's, concurrently's.
_TAG = re.compile(
    r"(rank \d{1,4} \| |\[rank ?\d{1,4}\]:? |\[\d{1,4},\d{1,4}\]<\w{1,9}>:? ?|\[\d{1,2}\] )+"
)


@dataclass(frozen=True)
class LogLine:
    """A line of a log, by its number from 1, without its tag; the file that raised it, if known."""

    number: int
    text: str
    tag: str = ""
    frame: str = ""


@dataclass(frozen=True)
class FoundError:
    """The first known error, where there is one, and the first error of all up to there."""

    known: KnownError | None = None
    line: LogLine | None = None
    error: LogLine | None = None


def search(stream: BinaryIO) -> FoundError:
    """Find the first error that is known; a harmless one only where there is no other."""
    error: LogLine | None = None
    mild = FoundError()
    shapes = _Shapes()
    for number, block in _blocks(stream):
        new = shapes.new(block)
        candidates = [known for known, texts in _texts() if any(text in new for text in texts)]
        wanted = error is None and any(sign in new for sign in _SIGNS)
        if not candidates and not wanted:
            shapes.remember(block)
            continue
        rows = list(_rows(number, block.decode("utf-8", "replace")))
        found = _known(rows, candidates)
        grave = found.known is not None and not found.known.harmless
        if wanted:
            error = _error(rows)
            if grave and found.line and error and error.number > found.line.number:
                error = None
        if grave:
            return replace(found, error=error)
        mild = mild if mild.known else found
    return replace(mild, error=error)


def _known(rows: Sequence[LogLine], candidates: Sequence[KnownError]) -> FoundError:
    mild = FoundError()
    for row in rows:
        known = claimant(row.text, candidates, row.frame)
        if known and not known.harmless:
            return FoundError(known, row)
        if known and not mild.known:
            mild = FoundError(known, row)
    return mild


class _Shapes:
    """Lines that differ in their digits alone are looked at once: a log repeats itself."""

    def __init__(self) -> None:
        self._seen: set[bytes] = set()
        self._blocks = 0

    def new(self, block: bytes) -> bytes:
        return b"\n".join(_shapes(block) - self._seen)

    def remember(self, block: bytes) -> None:
        self._blocks += 1
        if self._blocks % 32 == 0:
            self._seen.clear()
        self._seen |= _shapes(block)


def _shapes(block: bytes) -> set[bytes]:
    return set(_shape(block).split(b"\n"))


def _shape(text: bytes) -> bytes:
    return text.translate(None, b"0123456789")


@cache
def _texts() -> tuple[tuple[KnownError, tuple[bytes, ...]], ...]:
    return tuple((each, tuple(_shape(text.encode()) for text in each.text)) for each in table())


def _error(rows: Sequence[LogLine]) -> LogLine | None:
    """Find the first error; each rank's lines for themselves, as tracebacks run into each other."""
    tags = dict.fromkeys(row.tag for row in rows)
    found = [_first([row for row in rows if row.tag == tag]) for tag in tags]
    return min((row for row in found if row), key=lambda row: row.number, default=None)


def _first(rows: Sequence[LogLine]) -> LogLine | None:
    text = first_error([row.text for row in rows])
    return next((row for row in rows if row.text.strip() == (text or "").strip()), None)


def _blocks(stream: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Give whole lines, about a megabyte at a time, with the number of the first of them."""
    number, rest = 1, b""
    while data := stream.read(BLOCK):
        whole, newline, rest = (rest + data).rpartition(b"\n")
        if newline:
            yield number, whole
            number += whole.count(b"\n") + 1
        rest = rest[: LIMIT * 4]  # a line without an end: its beginning is what counts
    if rest:
        yield number, rest


def _rows(number: int, block: str) -> Iterator[LogLine]:
    frames = Frames()
    for at, line in enumerate(block.split("\n"), number):
        for part in line.split("\r"):
            if part:
                text = part[:LIMIT]
                text = text if text.isprintable() else plain(text)
                tag = _TAG.match(text)
                whose = tag[0] if tag else ""
                frame = frames.of(text, whose)
                yield LogLine(at, text[len(whose) :], whose, frame)
