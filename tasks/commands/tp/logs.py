"""What inv tp.logs does: all ranks' lines, collected, tagged and shown."""

from __future__ import annotations

import os
import re
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from ...cli import screen
from ...cluster.cluster import Cluster
from ...cluster.errors import ActionFailed, BadInput, Unreachable
from ...cluster.facts.machine import memory as memories
from ...cluster.facts.snapshot import Snapshot
from ...cluster.server import combined_log, earlier_logs, log_paths, logs, snapshots
from ...cluster.ssh import nodes
from ...cluster.ssh.node import CommandResult


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
        _check_rank(where, rank)
        taken = logs.collect(cluster, where)
        failed = taken.failed
        for line in combined_log.tail(where.combined, lines, rank, grep):
            screen.log_line(line)
        tell_left(taken)
        if taken.unwritten:
            raise ActionFailed(taken.unwritten)
    if follow:
        _follow(cluster, where, rank, grep)
    if failed:
        raise Unreachable("; ".join(f"{node}: {why}" for node, why in failed.items()))


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


def _follow(
    cluster: Cluster, where: log_paths.LogPaths, rank: int | None, grep: str | None
) -> None:
    with where.combined.open("rb") as file:
        file.seek(0, 2)
        while True:
            # What has come is shown before more is asked for, however much that is.
            taken = logs.collect(cluster, where, stream=True)
            if taken.unwritten:
                raise ActionFailed(taken.unwritten)
            if file.tell() > os.fstat(file.fileno()).st_size:  # it was shortened
                file.seek(0)
            for line in combined_log.select(file, rank, grep):
                screen.log_line(line)
            if taken.is_all:
                time.sleep(0.3)


def collect(
    cluster: Cluster,
    read: Snapshot,
    final: bool = False,
    beside: Mapping[str, str] | None = None,
    run: str | None = None,
) -> Mapping[str, CommandResult]:
    """Take what is new into the combined log; a log that can't be taken stops nobody.

    What each node said to its script in `beside`, which runs in any case.
    """
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
