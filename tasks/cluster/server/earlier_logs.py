"""Logs of runs before the last, as their nodes have kept them."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..cluster import Cluster
from ..errors import CheckFailed
from ..facts.snapshot import Snapshot
from ..ssh import nodes, scripts
from .launch import HEADER, LINKS
from .log_paths import NAME, LogPaths, place


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
) -> tuple[LogPaths, dict[str, str]]:
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
    return LogPaths(paths, folder / NAME), {n: a.failure for n, a in answers.items() if a.failure}


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
