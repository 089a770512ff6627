"""The ranks' logs, collected into one `tp_server.log` on the control machine.

The combined log (`combined.py`) is the single source of every view. What has been taken so far is
kept beside it, by the log's first line (which names the run), so that collecting goes on where it
left off. However long logs are, one round trip takes a bounded part of them.
"""

import fcntl
import json
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from pathlib import Path
from typing import IO

from ..cluster import Cluster
from ..errors import ActionFailed
from ..known_errors.hints import first_error
from ..ssh import nodes, scripts
from ..ssh.node import CONNECT_TIMEOUT, SCRIPT_TIMEOUT, CommandResult
from ..text import LINE, plain
from . import combined_log as combined
from .log_paths import NAME, LogPaths, Source

CHUNK = 1024 * 1024  # bytes of one log per round trip, at most
ALL = 8 * CHUNK  # bytes of all logs per round trip
# What argparse says before its error: all options that there are.
USAGE = re.compile(r"^usage: .*\n(?:[ \t].*\n)*", re.MULTILINE)
# Seconds for another command here to take what is new: as long as a node's answer may last.
TURN = CONNECT_TIMEOUT + SCRIPT_TIMEOUT
LONG = 64 * 1024  # bytes after which a line that has no end yet is taken as it is


@dataclass(frozen=True)
class LogChunk:
    """A part of one rank's log: `key` tells the log, `offset` is where the part begins in it."""

    node: str
    rank: int
    key: str
    offset: int
    data: bytes

    @property
    def end(self) -> int:
        return self.offset + len(self.data)

    @property
    def source(self) -> Source:
        return self.node, self.rank


@dataclass(frozen=True)
class Collected:
    """Why the logs of a node could not be collected, and what it said to the script beside.

    `left` are bytes of logs that were too long, and where they are; `unwritten` is why nothing
    could be written down here. `is_all` says that there was no more when we looked.
    """

    failed: Mapping[str, str]
    answers: Mapping[str, CommandResult]
    is_all: bool = True
    left: Mapping[Source, int] = field(default_factory=dict)
    unwritten: str = ""


def collect(
    cluster: Cluster,
    where: LogPaths,
    final: bool = False,
    beside: Mapping[str, str] | None = None,
    stream: bool = False,
) -> Collected:
    """Append what is new of every rank to the combined log: one round trip, and bounded.

    Of a log with more than `CHUNK` that is new its beginning and its end are taken, and a line
    tells what is left out; as a `stream` it is taken in parts, one each time. Only whole lines
    are, unless `final` says that no more will come. A node's script in `beside` runs in the same
    round trip, after its logs have been read.
    """
    if not where.paths:  # nothing was ever started: no file is made for it
        return Collected({}, nodes.sh(cluster.nodes, beside or {}))
    if where.link and not where.combined.exists():
        _begin(where, where.link, cluster.keep_logs)
    with _locked(where) as (log, positions):
        taken = _positions(positions.read())
        pieces, found = _fetch(cluster, where, taken, beside or {}, stream)
        left, why = _append(log, positions, pieces, taken, where, cluster.log_limit, final)
    return Collected(
        failed={name: each.failure for name, each in found.items() if each.failure},
        answers={name: _utf_8(each) for name, each in found.items()},
        is_all=all(len(piece.data) < limit(where) for piece in pieces),
        left=left,
        unwritten=why,
    )


def _utf_8(answer: CommandResult) -> CommandResult:
    return replace(answer, out=answer.out.encode("latin-1").decode("utf-8", "replace"))


def errors(
    cluster: Cluster, where: LogPaths, lines: int = 10
) -> dict[int, tuple[str | None, list[str]]]:
    """Rank -> (first error, last lines) of the logs as they are on the nodes now."""
    texts: dict[int, list[bytes]] = {}
    for piece in _fetch(cluster, where, {}, {})[0]:
        texts.setdefault(piece.rank, []).append(piece.data)
    logs = {}
    for rank, parts in texts.items():
        text = b"\n".join(parts).decode("utf-8", "replace").replace("\r", "\n")
        text = USAGE.sub("", text)
        rows = [plain(line[:LINE]) for line in text.split("\n") if line.strip()][1:]
        logs[rank] = (first_error(rows), rows[-lines:])
    return logs


def _fetch(
    cluster: Cluster,
    where: LogPaths,
    taken: Mapping[str, tuple[str, int]],
    beside: Mapping[str, str],
    stream: bool = False,
) -> tuple[list[LogChunk], dict[str, CommandResult]]:
    nonce = secrets.token_hex(8)
    logs: dict[str, list[tuple[int, str, str, int]]] = {}
    for (node, rank), path in where.paths.items():
        logs.setdefault(node, []).append((rank, path, *taken.get(_name(node, rank), ("", 0))))
    texts = {node: read_script(each, nonce, limit(where), stream) for node, each in logs.items()}
    for node, script in beside.items():
        texts[node] = texts.get(node, "") + f"(\n{script}\n)\n"
    # Bytes come through unharmed as latin-1, and logs may hold anything.
    answers = nodes.each(
        [node for node in cluster.nodes if node.name in texts],
        lambda node: node.sh(texts[node.name], encoding="latin-1"),
    )
    pieces = [
        piece for answer in answers.values() for piece in parse(answer.node, answer.out, nonce)
    ]
    return pieces, answers


def parse(node: str, text: str, nonce: str) -> list[LogChunk]:
    """The parts that a node printed between marks, joined; an unfinished one is left out."""
    pieces: list[LogChunk] = []
    for found in re.finditer(rf"\n{nonce} begin (\d+) (\d+) (\d+ \d+)\n", text):
        end = text.find(f"\n{nonce} end\n", found.end())
        if end < 0:
            break
        data = text[found.end() : end].encode("latin-1")
        piece = LogChunk(node, int(found[1]), found[3], int(found[2]), data)
        before = pieces[-1] if pieces else None
        if before and (before.rank, before.end) == (piece.rank, piece.offset):
            pieces[-1] = replace(before, data=before.data + data)
        else:
            pieces.append(piece)
    return pieces


def read_script(
    logs: Iterable[tuple[int, str, str, int]], nonce: str, limit: int = CHUNK, stream: bool = False
) -> str:
    """Tells what is new in logs: of each its rank, its path, and its key and length as taken."""
    words = [str(word) for log in logs for word in log]
    is_stream = "yes" if stream else ""
    return scripts.script("logs/new.sh", words, nonce=nonce, limit=limit, stream=is_stream)


def limit(where: LogPaths) -> int:
    """Bytes of one log per round trip: of many ranks' logs less, for all come at once."""
    return max(min(CHUNK, ALL // max(len(where.paths), 1)), LONG)


def _name(node: str, rank: int) -> str:
    return f"{rank}@{node}"


@contextmanager
def _locked(where: LogPaths) -> Iterator[tuple[IO[bytes], IO[bytes]]]:
    """The combined log, open for appending by us alone, and the file of what has been taken."""
    try:
        _make(where.combined.parent)
        log = combined.own(where.combined, "ab")
        positions = combined.own(where.positions, "r+b")
    except OSError as error:
        raise ActionFailed(_unwritten(where, error)) from None
    with log, positions:
        _take_turn(where, positions)
        yield log, positions


def _take_turn(where: LogPaths, positions: IO[bytes]) -> None:
    """Have the log to ourselves; one that is suspended (Ctrl-Z) would never give it back."""
    end = time.monotonic() + TURN
    while True:
        with suppress(BlockingIOError):
            fcntl.flock(positions, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        if time.monotonic() > end:
            why = f"another command here has had it for {TURN:g} s: is one suspended (jobs)?"
            raise ActionFailed(f"{where.combined}: {why}")
        time.sleep(0.05)


def _unwritten(where: LogPaths, error: OSError) -> str:
    return f"{where.combined}: can't be written ({error.strerror}): choose another --log-dir"


def _begin(where: LogPaths, known_name: Path, keep: int) -> None:
    """For a run's first lines here: lead the known name to them, and let the oldest runs go."""
    runs = where.combined.parents[1]
    # Where this machine is a node, too, its start lets them go.
    old = sorted(path.parent for path in runs.glob(f"*/{NAME}"))[: -keep or None]
    for folder in old:
        if not (folder / "record.json").exists():
            shutil.rmtree(folder, ignore_errors=True)
    with suppress(OSError):  # another user may have taken the name
        if known_name.is_symlink():
            known_name.unlink()
        elif known_name.exists():
            known_name.rename(f"{known_name}.1")  # of the layout before, or not ours
        known_name.symlink_to(where.combined)


def _make(folder: Path) -> None:
    """Make a folder that is not there, and those above it, for us alone."""
    if not folder.exists():
        _make(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)


def _positions(text: bytes) -> dict[str, tuple[str, int]]:
    """Rank and node -> (key, offset); what can't be read counts as nothing taken."""
    try:
        return {
            str(name): (str(key), max(int(offset), 0))
            for name, (key, offset) in json.loads(text).items()
            if re.fullmatch(r"\d+ \d+", str(key))
        }
    except (ValueError, TypeError, AttributeError):
        return {}


def _append(
    log: IO[bytes],
    positions: IO[bytes],
    pieces: Sequence[LogChunk],
    taken: dict[str, tuple[str, int]],
    where: LogPaths,
    most: int,
    final: bool,
) -> tuple[dict[Source, int], str]:
    """Write down all pieces, or none: bytes that are passed over, and why nothing was written."""
    left: dict[Source, int] = {}
    parts = []
    for piece, after in zip_longest(pieces, pieces[1:]):
        is_last = not after or after.source != piece.source
        passed, lines = _lines(piece, taken, final and is_last)
        if passed:
            left[piece.source] = left.get(piece.source, 0) + passed
            path = where.paths[piece.source]
            lines.insert(0, b"# mlx-tp: %d bytes are not here: see %s" % (passed, path.encode()))
        tag = b"rank %d | " % piece.rank
        parts += [tag + line + b"\n" for line in lines]
    size = log.seek(0, os.SEEK_END)
    try:
        size = combined.shorten(log, where.combined, most)
        _write(log, b"".join(parts))
        text = json.dumps(taken).encode()
        os.lseek(positions.fileno(), 0, os.SEEK_SET)
        _write(positions, text)
        os.truncate(positions.fileno(), len(text))
    except OSError as error:
        os.truncate(log.fileno(), size)
        return {}, _unwritten(where, error)
    return left, ""


def _write(file: IO[bytes], data: bytes) -> None:
    """Write all of it now; what is buffered would be tried again when the file is closed."""
    view = memoryview(data)
    while view:
        view = view[os.write(file.fileno(), view) :]


def _lines(
    piece: LogChunk, taken: dict[str, tuple[str, int]], final: bool
) -> tuple[int, list[bytes]]:
    """Note that a piece is taken: bytes before it that never were, and its whole lines."""
    name = _name(piece.node, piece.rank)
    key, offset = taken.get(name, ("", 0))
    passed = max(piece.offset - (offset if key == piece.key else 0), 0)
    data, begin = piece.data, piece.offset
    if passed:  # its first line began in what is passed over
        rest = data.find(b"\n") + 1
        passed, begin, data = passed + rest, begin + rest, data[rest:]
    if not final:  # the rest of a line that is still being written is taken the next time
        data = data[: data.rfind(b"\n") + 1] or (data if len(data) >= LONG else b"")
    taken[name] = (piece.key, begin + len(data))
    return passed, data.removesuffix(b"\n").split(b"\n") if data else []
