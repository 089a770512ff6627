"""Where the logs of a run lie, on its nodes and here."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..cluster import Cluster
from ..facts.server.state import Record
from ..facts.snapshot import Snapshot
from .launch import LINKS, link, log_path

NAME = "tp_server.log"
Source = tuple[str, int]  # node, rank


@dataclass(frozen=True)
class LogPaths:
    """Where logs are: on nodes by rank, the combined one here, its known name `link` (or None)."""

    paths: Mapping[Source, str]
    combined: Path
    link: Path | None = None

    @property
    def positions(self) -> Path:
        return self.combined.with_name(f".{NAME}.positions")


def place(cluster: Cluster, read: Snapshot, run: str | None = None) -> LogPaths:
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
) -> LogPaths:
    if folder:
        return LogPaths(paths, _combined(folder))
    runs = Path(os.path.expanduser(cluster.folder)) / "runs"
    newest = max(runs.glob(f"*/{NAME}"), default=runs / NAME)
    return LogPaths(paths, runs / run / NAME if run else newest, Path(LINKS) / link(cluster))


def _combined(folder: str) -> Path:
    return Path(os.path.expanduser(folder)) / NAME
