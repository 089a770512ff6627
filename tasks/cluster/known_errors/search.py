"""The first known error of a log of any size. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from ..hints import first_error
from ..text import plain
from .table import LIMIT, KnownError, table

BLOCK = 1024 * 1024
# Nothing that first_error takes for an error is without one of these.
_SIGNS = ("rror", "RROR", "xception", "rrno", "atal", "ail", "Could", "terminate", "not found",
          "libc++abi", "No ", "lost", "Traceback")  # fmt: skip
_TAG = re.compile(r"rank \d{1,4} \| ")  # of the combined log


@dataclass(frozen=True)
class Line:
    """A line of a log, by its number from 1."""

    number: int
    text: str


@dataclass(frozen=True)
class Found:
    """The first known error, where there is one, and the first error of all up to there."""

    known: KnownError | None = None
    line: Line | None = None
    error: Line | None = None


def search(stream: BinaryIO) -> Found:
    """Find the first error that is known; a line that is none of a log's may be known too."""
    error: Line | None = None
    for number, block in _blocks(stream):
        candidates = [each for each in table() if any(text in block for text in each.text)]
        wanted = error is None and any(sign in block for sign in _SIGNS)
        if not candidates and not wanted:
            continue
        rows = list(_rows(number, block))
        end = next((i for i, row in enumerate(rows) if _first(candidates, row.text)), len(rows))
        if wanted:
            error = _error(rows[: end + 1])
        if end < len(rows):
            return Found(_first(candidates, rows[end].text), rows[end], error)
    return Found(error=error)


def _first(candidates: list[KnownError], line: str) -> KnownError | None:
    return next((each for each in candidates if each.claims(line)), None)


def _error(rows: list[Line]) -> Line | None:
    text = first_error([row.text for row in rows])
    return next((row for row in rows if row.text.strip() == (text or "").strip()), None)


def _blocks(stream: BinaryIO) -> Iterator[tuple[int, str]]:
    """Give whole lines, about a megabyte at a time, with the number of the first of them."""
    number, rest = 1, b""
    while data := stream.read(BLOCK):
        whole, newline, rest = (rest + data).rpartition(b"\n")
        if newline:
            yield number, whole.decode("utf-8", "replace")
            number += whole.count(b"\n") + 1
        rest = rest[: LIMIT * 4]  # a line without an end: its beginning is what counts
    if rest:
        yield number, rest.decode("utf-8", "replace")


def _rows(number: int, block: str) -> Iterator[Line]:
    for offset, line in enumerate(block.split("\n")):
        for part in line.split("\r"):
            if part:
                yield Line(number + offset, _TAG.sub("", plain(part[:LIMIT]), count=1))
