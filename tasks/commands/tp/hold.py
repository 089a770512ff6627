"""Hooks by which a task has its cluster's lock from its first hook to its last; not listed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ... import commands
from ...cli.options import SERVER_OPTIONS, cluster_task

if TYPE_CHECKING:
    from ...cluster.cluster import Cluster
    from ...session import Session


@cluster_task(*SERVER_OPTIONS, "lock_wait", help={"what": "the command that others are told of"})
def hold(session: Session, cluster: Cluster, what: str = "inv", dry_run: bool = False) -> None:
    """Take the lock; the command has it until `release`, or else to its end."""
    if not dry_run:
        cluster.connect()
    if not session.dry:
        commands.tp.lock.hold(session, cluster, what)


@cluster_task(*SERVER_OPTIONS)
def release(session: Session, cluster: Cluster) -> None:
    """Give the lock back."""
    session.lock.release(cluster)
