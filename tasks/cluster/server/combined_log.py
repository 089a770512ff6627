"""The combined log: the lines of all ranks, each with its tag, in one file on the control machine.

It is read from its end, so that its length does not matter. What has become too old lies in
`NAME.older` beside it: copied there, so that the file stays the one that a `tail -f` has open.
"""

import errno
import os
import re
import shutil
import stat
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, suppress
from itertools import chain
from pathlib import Path
from typing import IO

from ..errors import ActionFailed
from ..text import LINE, plain
from .launch import HEADER

_BLOCK = 256 * 1024  # bytes that are read at once, from the end
_MARK = f" | {HEADER}".encode()
_HEADER = re.compile(rf"rank \d+ \| {HEADER}(\S+)".encode())

Takes = Callable[[bytes], str | None]


def older(path: Path) -> Path:
    """Where the lines are that were too old for the log itself."""
    return path.with_name(f"{path.name}.older")


def tail(path: Path, lines: int, rank: int | None = None, grep: str | None = None) -> Iterator[str]:
    """The last `lines` lines (0: all) of the last run, as `select` has them; raise ActionFailed."""
    with ExitStack() as stack:
        files = [stack.enter_context(file) for file in _opened(path)]
        takes = _takes(rank, grep)
        first, offset = _begin(files, lines, takes)
        for number, file in enumerate(files):
            file.seek(offset if number == first else 0)
        found = _select(chain(*files[first:]), takes)
        yield from deque(found, maxlen=lines) if lines else found


def select(file: Iterable[bytes], rank: int | None, grep: str | None) -> Iterator[str]:
    """The lines of a combined log, from where it stands, of one rank and that match `grep`."""
    return _select(file, _takes(rank, grep))


def _select(file: Iterable[bytes], takes: Takes) -> Iterator[str]:
    return (line for line in map(takes, file) if line is not None)


def _takes(rank: int | None, grep: str | None) -> Takes:
    """What gives a line to be shown, or None for one that is not."""
    pattern = re.compile(grep) if grep else None
    tag = f"rank {rank} | " if rank is not None else ""

    def takes(raw: bytes) -> str | None:
        line = plain(raw.decode("utf-8", "replace").rstrip("\n"))
        if not line.startswith(tag):
            return None
        return None if pattern and not pattern.search(line.partition(" | ")[2][:LINE]) else line

    return takes


def _opened(path: Path) -> Iterator[IO[bytes]]:
    """The files of a log, the older one first."""
    try:
        file = path.open("rb")
    except OSError:
        raise ActionFailed(f"{path}: no log yet: inv tp.start makes one") from None
    with suppress(OSError):
        yield older(path).open("rb")
    yield file


def _begin(files: list[IO[bytes]], lines: int, takes: Takes) -> tuple[int, int]:
    """File and offset where the last `lines` lines begin, or where the last run does.

    A run begins with the first header of any of its ranks: what stands before the last header is of
    it, where there is another one before.
    """
    run, begin, count = b"", (0, 0), 0
    for number in reversed(range(len(files))):
        for offset, line in _backwards(files[number]):
            header = _HEADER.match(line) if _MARK in line[:_BLOCK] else None
            if header and run and header[1] != run:
                return begin
            if header:
                run, begin = header[1], (number, offset)
            count += lines > 0 and takes(line) is not None
            if 0 < lines <= count and (header or not run):
                return number, offset
    return begin


def _backwards(file: IO[bytes]) -> Iterator[tuple[int, bytes]]:
    """Offset and bytes of each line, the last one first; one that is very long in parts."""
    begin, rest = file.seek(0, os.SEEK_END), b""
    while begin:
        end, begin = begin, max(begin - _BLOCK, 0)
        file.seek(begin)
        data = file.read(end - begin) + rest
        rest, *lines = data.split(b"\n")
        at = begin + len(data)
        for line in reversed(lines):
            at -= len(line)
            if line:
                yield at, line
            at -= 1
        if begin == 0 or len(rest) > 4 * _BLOCK:
            yield begin, rest
            rest = b""


def shorten(log: IO[bytes], path: Path, limit: int) -> int:
    """Move what is in `log` to the older file, once it has half of `limit` bytes (0: never).

    How long it is then. A disk that is full for the copy is no reason to let the log grow on.
    """
    size = log.seek(0, os.SEEK_END)
    if not limit or size < limit // 2:
        return size
    with suppress(OSError), path.open("rb") as source, own(older(path), "r+b") as target:
        target.truncate()
        source.seek(max(size - limit, 0))
        shutil.copyfileobj(source, target, _BLOCK)
    log.truncate(0)
    return 0


def own(path: Path, mode: str) -> IO[bytes]:
    """Open or create `path` for us alone: in /tmp another user may have laid something there.

    A link is not followed, and neither is a hard link to a file of ours, a pipe or another's file
    written to.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
    flags |= os.O_APPEND if "a" in mode else 0
    file = os.open(path, flags, 0o600)
    found = os.fstat(file)
    if found.st_uid != os.getuid() or found.st_nlink != 1 or not stat.S_ISREG(found.st_mode):
        os.close(file)
        raise PermissionError(errno.EPERM, "it is another user's, or no file of its own")
    return os.fdopen(file, mode)
