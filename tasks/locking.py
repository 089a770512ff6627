"""The hooks by which a task has its cluster's lock from before its first hook to after its last.

They are not in `inv --list`: alone they do nothing of use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from invoke.context import Context

from .options import WHAT, WHERE, cluster_task

if TYPE_CHECKING:
    from .cluster.cluster import Cluster


@cluster_task(*WHAT, "lock_wait", help={"what": "the command that others are told of"})
def hold(c: Context, cluster: Cluster, what: str = "inv", dry_run: bool = False) -> None:
    """Take the lock; the command has it until `release`, or else to its end."""
    if not dry_run:
        cluster.connect()
    from . import steps

    if not steps.is_dry(c, dry_run):
        steps.hold(cluster, what)


@cluster_task(*WHERE)
def release(c: Context, cluster: Cluster) -> None:
    """Give the lock back."""
    from .cluster import lock

    lock.release(cluster)
