"""What inv tp.start does between its hooks: all ranks are started, and waited for."""

from ...cluster.cluster import Cluster
from ...session import Session
from . import foreground, launch, lock, wait


def run(session: Session, cluster: Cluster, timeout: float | None, attached: bool) -> None:
    """Start under the lock, and wait for a token; `attached` the ranks are ours to the end."""
    with lock.locked(session, cluster, "tp.start"):
        if attached:
            foreground.run(session, cluster, timeout)
            return
        started = launch.run(session, cluster)
        if not session.dry:
            wait.run(session, cluster, timeout, started)
