"""What inv tp.logs does: all ranks' lines, collected, tagged and shown."""

import os
import re
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from ...cli import screen
from ...cluster.cluster import Cluster
from ...cluster.errors import ActionFailed, BadInput, CheckFailed, Unreachable
from ...cluster.facts.machine import memory as memories
from ...cluster.facts.snapshot import Snapshot
from ...cluster.known_errors import hints
from ...cluster.server import combined_log, earlier_logs, log_paths, logs, readiness, snapshots
from ...cluster.ssh import nodes
from ...cluster.ssh.node import CommandResult
from ...cluster.text import one_line

PAUSE = 0.3  # seconds between two looks for new lines
LOOK = 1.0  # seconds between two looks at the ranks
LINE = 300  # characters of a line that ended a command


def run(
    cluster: Cluster,
    follow: bool,
    lines: int,
    rank: int | None,
    grep: str | None,
    previous: int | None,
) -> None:
    """The last run in the combined log, with `follow` until Ctrl-C; or an earlier run."""
    try:
        re.compile(grep or "")
    except re.error as error:
        raise BadInput(f"--grep {grep!r}: no regular expression ({error})") from None
    if previous and follow:
        raise BadInput("--follow shows what comes, --previous what was: give one of them")
    read = snapshots.states(cluster)
    where = log_paths.place(cluster, read)
    if previous:
        failed = _previous(cluster, read, previous, lines, rank, grep)
    else:
        failed = _last(cluster, where, lines, rank, grep, not follow)
    if follow:
        _follow(Follower(cluster, where, rank, grep))
    if failed:
        raise Unreachable("; ".join(f"{node}: {why}" for node, why in failed.items()))


def _last(
    cluster: Cluster,
    where: log_paths.LogPaths,
    lines: int,
    rank: int | None,
    grep: str | None,
    is_all: bool,
) -> Mapping[str, str]:
    """The last run, which `is_all` or is followed by more; node -> why, where it failed."""
    _check_rank(where, rank)
    taken, found = logs.collect(cluster, where), False
    for line in combined_log.tail(where.combined, lines, rank, grep):
        screen.log_line(line)
        found = True
    if grep and not found and is_all:
        screen.say(f"no line of the last run has {grep!r}")
    tell_left(taken)
    if taken.unwritten:
        raise ActionFailed(taken.unwritten)
    return taken.failed


def _check_rank(where: log_paths.LogPaths, rank: int | None) -> None:
    """Raise BadInput for a rank that the run has not; where nothing ran, that is told instead."""
    there = sorted(number for _, number in where.paths)
    if there and rank is not None and rank not in there:
        some = f"ranks {there[0]} to {there[-1]}" if len(there) > 1 else f"rank {there[0]} alone"
        raise BadInput(f"--rank {rank}: the run has {some}")


def tell_left(taken: logs.Collected) -> None:
    """What of the logs was not collected."""
    for (node, rank), size in taken.left.items():
        what = f"{memories.format_bytes(size)} of rank {rank}'s log were passed over"
        screen.say(f"{what}: {node} has what is kept of them")


def _previous(
    cluster: Cluster, read: Snapshot, number: int, lines: int, rank: int | None, grep: str | None
) -> Mapping[str, str]:
    """An earlier run as its nodes have kept it, rank after rank; node -> why, where it failed."""
    with tempfile.TemporaryDirectory() as folder:
        old, failed = earlier_logs.earlier(cluster, read, number, Path(folder))
        _check_rank(old, rank)
        taken = logs.collect(cluster, old, final=True)
        failed.update(taken.failed)
        if taken.unwritten:
            raise ActionFailed(taken.unwritten)
        for each in sorted(each for _, each in old.paths):
            if rank in (None, each):
                for line in combined_log.tail(old.combined, lines, each, grep):
                    screen.log_line(line)
        tell_left(taken)
    return failed


class Follower:
    """Takes what is new into the combined log and shows it; `error` is the first error shown."""

    def __init__(
        self,
        cluster: Cluster,
        where: log_paths.LogPaths,
        rank: int | None = None,
        grep: str | None = None,
    ) -> None:
        self.cluster, self.where, self.rank, self.grep = cluster, where, rank, grep
        self.error: str | None = None
        self._errors = hints.ErrorWatch()
        # One that is to be made by this very start begins with it.
        self._at = where.combined.stat().st_size if where.combined.exists() else 0

    def look(self) -> bool:
        """Show what has come; whether that was all."""
        taken = logs.collect(self.cluster, self.where, stream=True)
        if taken.unwritten:
            raise ActionFailed(taken.unwritten)
        for line in self._new():
            self.error = self.error or self._errors.take(line)
            screen.log_line(line)
        return taken.is_all

    def _new(self) -> Iterator[str]:
        with suppress(FileNotFoundError), self.where.combined.open("rb") as file:
            if self._at > os.fstat(file.fileno()).st_size:  # it was shortened
                self._at = 0
            file.seek(self._at)
            yield from combined_log.select(file, self.rank, self.grep)
            self._at = file.tell()


def _follow(follower: Follower) -> None:
    while True:
        # What has come is shown before more is asked for, however much that is.
        if follower.look():
            time.sleep(PAUSE)


def until_error(follower: Follower) -> None:
    """Show what comes until an error, or the server's end: raise, and leave the server as it is."""
    cluster, looked = follower.cluster, time.monotonic()
    while not follower.error:
        is_all = follower.look()
        if time.monotonic() - looked > LOOK:
            _check_alive(follower)
            looked = time.monotonic()
        if is_all:
            time.sleep(PAUSE)
    if known := hints.hint([follower.error], hints.facts(cluster.ranks[0].env)):
        screen.say(f"hint: {known.cause}: {known.remedy}")
    left = "the server is left as it is: inv tp.status, inv tp.stop"
    raise ActionFailed(f"{one_line(follower.error)[:LINE]}; {left}")


def _check_alive(follower: Follower) -> None:
    """Raise CheckFailed for a server that is no more, when its last lines have been shown."""
    read = snapshots.states(follower.cluster)
    health = readiness.judge(read, readiness.size(read, len(follower.cluster.ranks)))
    if health.state in (*readiness.FAILED, readiness.STOPPED):
        follower.look()
        raise CheckFailed(f"{health}: inv tp.status")


def collect(
    cluster: Cluster,
    read: Snapshot,
    final: bool = False,
    beside: Mapping[str, str] | None = None,
    run: str | None = None,
) -> Mapping[str, CommandResult]:
    """Take what is new into the combined log; `beside` runs in any case: what each node said."""
    try:
        taken = logs.collect(cluster, log_paths.place(cluster, read, run), final, beside)
    except ActionFailed as error:
        screen.say(f"warn: {error.message}")
        return nodes.sh(cluster.nodes, beside or {})
    for node, why in taken.failed.items():
        screen.say(f"warn: {node}: its logs could not be collected: {why}")
    tell_left(taken)
    if taken.unwritten:
        screen.say(f"warn: {taken.unwritten}")
    return taken.answers
