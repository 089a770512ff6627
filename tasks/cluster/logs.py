"""The ranks' logs, collected into one `tp_server.log` on the control machine.

The combined log is the single source of every view. What has been taken so far is kept beside
it, by the log's first line (which names the run), so that collecting goes on where it left off.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from . import nodes
from .cluster import Cluster
from .errors import ActionFailed, CheckFailed
from .hints import first_error
from .launch import HEADER, LINKS, link, log_path
from .nodes import Answer
from .snapshot import Snapshot
from .ssh import scripts
from .state import Record
from .text import plain

CHUNK = 1024 * 1024  # bytes of one log per round trip
NAME = "tp_server.log"

Source = tuple[str, int]  # node, rank


@dataclass(frozen=True)
class Piece:
    """A part of one rank's log: `key` tells the log, `offset` is where the part begins in it."""

    node: str
    rank: int
    key: str
    offset: int
    data: bytes


@dataclass(frozen=True)
class Place:
    """Where the logs are: on each node by rank, and the combined one here.

    `link` is the known name that leads to the combined one; None where the user named a folder.
    """

    paths: Mapping[Source, str]
    combined: Path
    link: Path | None = None

    @property
    def positions(self) -> Path:
        return self.combined.with_name(f".{NAME}.positions")


def place(cluster: Cluster, read: Snapshot, run: str | None = None) -> Place:
    """The logs of this start's `run`, else of what is recorded, else of what was started last.

    The combined log lies with its run here, or where --log-dir says; without it beside the
    recorded ones, if there is one here already: a record is the node's word, which has no say in
    where we write.
    """
    if run:
        paths = {(rank.host.ssh, rank.rank): log_path(cluster, rank, run) for rank in cluster.ranks}
        return _placed(cluster, paths, cluster.log_dir, run)
    records = {(node, rank.rank): rank.record for node, rank in read.ranks if rank.record}
    if not records:
        states = {node: read.state(node) for node in read.nodes}
        records = {(n, rank): r for n, s in states.items() if s for rank, r in s.last.items()}
    paths = {source: record.log for source, record in records.items() if record.log}
    first = next((record for (_, rank), record in records.items() if rank == 0), None)
    return _placed(cluster, paths, _folder(cluster, first), first.run if first else None)


def _folder(cluster: Cluster, record: Record | None) -> str | None:
    """The folder of the combined log where it is the user's to name; None where it is not."""
    if not cluster.log_dir_given and record and record.log and record.run not in record.log:
        beside = os.path.dirname(record.log)
        if _combined(beside).is_file():
            return beside
    return cluster.log_dir


def _placed(
    cluster: Cluster, paths: Mapping[Source, str], folder: str | None, run: str | None
) -> Place:
    if folder:
        return Place(paths, _combined(folder))
    runs = Path(os.path.expanduser(cluster.folder)) / "runs"
    newest = max(runs.glob(f"*/{NAME}"), default=runs / NAME)
    combined = runs / run / NAME if run else newest
    return Place(paths, combined, Path(LINKS) / link(cluster))


def _combined(folder: str) -> Path:
    return Path(os.path.expanduser(folder)) / NAME


@dataclass(frozen=True)
class Collected:
    """Why the logs of a node could not be collected, and what it said to the script beside.

    `is_all` says that there was no more when we looked.
    """

    failed: Mapping[str, str]
    answers: Mapping[str, Answer]
    is_all: bool


def collect(
    cluster: Cluster,
    where: Place,
    final: bool = False,
    beside: Mapping[str, str] | None = None,
    whole: bool = True,
) -> Collected:
    """Append what is new of every rank to the combined log; all of it if `whole`, else a part.

    Only whole lines are taken, unless `final` says that no more will come. A node's script in
    `beside` runs in the same round trip, after its logs have been read.
    """
    answers: dict[str, Answer] = {}
    if not where.paths:  # nothing was ever started: no file is made for it
        return Collected({}, nodes.sh(cluster.nodes, beside or {}), True)
    if where.link and not where.combined.exists():
        _begin(where, where.link, cluster.keep_logs)
    with _locked(where) as (log, taken):
        while True:
            pieces, found = _fetch(cluster, where, taken, {} if answers else beside or {})
            answers = answers or found
            for piece in pieces:
                _append(log, piece, taken, final)
            failed = {name: a.failure for name, a in found.items() if a.failure}
            is_all = all(len(piece.data) < CHUNK for piece in pieces)
            if failed or is_all or not whole:
                return Collected(failed, {name: _utf_8(a) for name, a in answers.items()}, is_all)


def _utf_8(answer: Answer) -> Answer:
    return replace(answer, out=answer.out.encode("latin-1").decode("utf-8", "replace"))


def tail(where: Path, lines: int, rank: int | None = None, grep: str | None = None) -> list[str]:
    """The last `lines` lines (0: all) of the last run in the combined log, as `select` has them."""
    with _readable(where) as file:
        file.seek(_last_run(file))
        return _last(select(file, rank, grep), lines)


def _last(found: Iterable[str], lines: int) -> list[str]:
    from collections import deque

    return list(deque(found, maxlen=lines or None))


def _last_run(file: Iterable[bytes]) -> int:
    """Where the last run of a combined log begins: at the first of its ranks' headers."""
    run, begin, offset = b"", 0, 0
    for line in file:
        header = _COMBINED_HEADER.match(line)
        if header and header[1] != run:
            run, begin = header[1], offset
        offset += len(line)
    return begin


_COMBINED_HEADER = re.compile(rf"rank \d+ \| {HEADER}(\S+)".encode())


def select(file: Iterable[bytes], rank: int | None, grep: str | None) -> Iterator[str]:
    """The lines of a combined log, from where it stands, of one rank and that match `grep`."""
    pattern = re.compile(grep) if grep else None
    tag = f"rank {rank} | " if rank is not None else ""
    for raw in file:
        line = plain(raw.decode("utf-8", "replace").rstrip("\n"))
        if line.startswith(tag) and (not pattern or pattern.search(line.partition(" | ")[2])):
            yield line


def errors(
    cluster: Cluster, where: Place, lines: int = 10
) -> dict[int, tuple[str | None, list[str]]]:
    """Rank -> (first error, last lines) of the logs as they are on the nodes now."""
    logs = {}
    pieces, _ = _fetch(cluster, where, {}, {})
    for piece in pieces:
        text = piece.data.decode("utf-8", "replace").replace("\r", "\n")
        rows = [plain(line) for line in text.split("\n") if line.strip()][1:]
        logs[piece.rank] = (first_error(rows), rows[-lines:])
    return logs


@dataclass(frozen=True)
class Kept:
    """A log that a node has written and kept; the lowest `age` is the newest of its rank."""

    node: str
    rank: int
    age: int
    run: str
    path: str


def earlier(
    cluster: Cluster, read: Snapshot, number: int, folder: Path
) -> tuple[Place, dict[str, str]]:
    """The logs of the run that was started `number` runs before the last one, for `collect`.

    They are found by their first lines: ranks may have kept different numbers of logs. The
    combined log will be in `folder`; nodes that gave no answer are told with why. Raise
    CheckFailed if rank 0's node has no such log.
    """
    where = place(cluster, read)
    texts = {}
    for node in cluster.nodes:
        logs = [path for (name, _), path in where.paths.items() if name == node.name]
        folders = [os.path.dirname(path) for path in logs if not _OF_RUN.search(path)]
        folder_of = (folders or [cluster.log_dir or LINKS])[0]
        texts[node.name] = scripts.script("logs/kept.sh", **cluster.where, folder=folder_of)
    answers = nodes.sh(cluster.nodes, texts)
    found = [log for name, answer in answers.items() for log in kept(name, answer.out)]
    first = [log for log in found if log.rank == 0]
    newest = sorted(first, key=lambda log: (_begun(log.run), -log.age), reverse=True)
    runs = list(dict.fromkeys(log.run for log in newest))
    if number >= len(runs):
        name = cluster.leader.name
        why = answers[name].failure or f"it has {max(len(runs) - 1, 0)} (--keep-logs)"
        raise CheckFailed(f"{name}: no log of {number} starts before the last one: {why}")
    paths = {(log.node, log.rank): log.path for log in found if log.run == runs[number]}
    return Place(paths, folder / NAME), {n: a.failure for n, a in answers.items() if a.failure}


def _begun(run: str) -> str:
    """When a run began, by its id; "" where that does not tell: it is older then, or a test's."""
    return run if re.match(r"\d{8}T\d{6}", run) else ""


def kept(node: str, text: str) -> Iterator[Kept]:
    """The logs of `node` in the output of its script; what another node left there is not its."""
    for number, row in enumerate(text.splitlines()):
        log = _KEPT_LOG.match(row)
        if log and log["host"] == node:
            # Those of runs come first, the newest first; by their names others tell their age.
            age = number if log["ours"] else 1_000_000 + int(log["age"] or 0)
            yield Kept(node, int(log["rank"]), age, log["run"], log["path"])


_OF_RUN = re.compile(r"/rank-\d+\.log$")  # not of a folder that the user named
_KEPT_LOG = re.compile(
    r"(?P<path>/.*/(?:(?P<ours>rank-)|tp_server\.rank)(?P<rank>\d{1,4})\.log(?:\.(?P<age>\d{1,4}))?)"
    rf"\t{HEADER}(?P<run>\w+) rank=(?P=rank) host=(?P<host>\S+) "
)


def _fetch(
    cluster: Cluster,
    where: Place,
    taken: Mapping[str, tuple[str, int]],
    beside: Mapping[str, str],
) -> tuple[list[Piece], dict[str, Answer]]:
    nonce = secrets.token_hex(8)
    logs: dict[str, list[tuple[int, str, str, int]]] = {}
    for (node, rank), path in where.paths.items():
        logs.setdefault(node, []).append((rank, path, *taken.get(_name(node, rank), ("", 0))))
    texts = {node: read_script(each, nonce) for node, each in logs.items()}
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


def parse(node: str, text: str, nonce: str) -> list[Piece]:
    """The parts that a node printed between marks; an unfinished one is left out."""
    pattern = rf"\n{nonce} begin (\d+) (\d+) (\d+ \d+)\n(.*?)\n{nonce} end\n"
    return [
        Piece(node, int(rank), key, int(offset), data.encode("latin-1"))
        for rank, offset, key, data in re.findall(pattern, text, re.DOTALL)
    ]


def read_script(logs: Iterable[tuple[int, str, str, int]], nonce: str) -> str:
    """Tells what is new in logs: of each its rank, its path, and its key and length as taken."""
    words = [str(word) for log in logs for word in log]
    return scripts.script("logs/new.sh", words, nonce=nonce, limit=CHUNK)


def _name(node: str, rank: int) -> str:
    return f"{rank}@{node}"


@contextmanager
def _locked(where: Place) -> Iterator[tuple[IO[bytes], dict[str, tuple[str, int]]]]:
    """The combined log, open for appending by us alone, and what has been taken so far."""
    try:
        _make(where.combined.parent)
        log = _own(where.combined, "ab")
        positions = _own(where.positions, "r+b")
    except OSError as error:
        raise ActionFailed(
            f"{where.combined}: can't be written ({error.strerror}): choose another --log-dir"
        ) from None
    with log, positions:
        fcntl.flock(positions, fcntl.LOCK_EX)
        taken = _positions(positions.read())
        try:
            yield log, taken
        finally:
            log.flush()
            positions.seek(0)
            positions.truncate()
            positions.write(json.dumps(taken).encode())


def _begin(where: Place, known_name: Path, keep: int) -> None:
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


def _own(path: Path, mode: str) -> IO[bytes]:
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


def _append(log: IO[bytes], piece: Piece, taken: dict[str, tuple[str, int]], final: bool) -> None:
    data = piece.data
    # The rest of a line that is still being written is taken the next time.
    if len(data) == CHUNK or not final:
        data = data[: data.rfind(b"\n") + 1] or (data if len(data) == CHUNK else b"")
    tag = b"rank %d | " % piece.rank
    lines = data.removesuffix(b"\n").split(b"\n") if data else []
    log.write(b"".join(tag + line + b"\n" for line in lines))
    taken[_name(piece.node, piece.rank)] = (piece.key, piece.offset + len(data))


@contextmanager
def _readable(path: Path) -> Iterator[IO[bytes]]:
    try:
        file = path.open("rb")
    except OSError:
        raise ActionFailed(f"{path}: no log yet: inv tp.start makes one") from None
    with file:
        yield file
