"""What inv tp.unlock does, and the lock of a command that changes a server."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress

from ...cli import envelope, screen
from ...cluster.cluster import Cluster
from ...cluster.errors import Unreachable
from ...cluster.server import lock
from ...session import Session


def hold(session: Session, cluster: Cluster, what: str) -> None:
    """Take the lock for `what`; a node that gives no answer is left to the checks to tell."""
    with suppress(Unreachable):
        session.lock.hold(cluster, what, session.say)


@contextmanager
def locked(session: Session, cluster: Cluster, what: str) -> Iterator[None]:
    """The lock for `what` while it lasts, noted on the nodes; nothing where nothing will change."""
    if session.dry:
        yield
        return
    server = f"{cluster.engine.name} over {cluster.backend}, {len(cluster.ranks)} ranks"
    line = noted(session, cluster, f"{what}: {server}")
    with session.lock.held(cluster, what, session.say), line:
        yield


def noted(session: Session, cluster: Cluster, what: str) -> AbstractContextManager[None]:
    """A line of what was done, and how it ended, in the nodes' audit logs."""
    return session.audit.recorded(cluster.nodes, cluster.state_dir, what)


def unlock(session: Session, cluster: Cluster) -> None:
    """Remove the lock and tell whose it was."""
    name = cluster.leader.name
    if session.dry:
        screen.out(f"rm -rf {cluster.folder}/lock  # on {name}")
        return
    was, missed = lock.unlock(cluster)
    what = f"tp.unlock: {was or 'there was no lock'}"
    session.audit.record([cluster.leader], cluster.state_dir, what)
    if not envelope.given({"holder": str(was) if was else None, "unreachable": list(missed)}):
        screen.sentence(f"{name}: {_told(was)}")
    if missed:
        nodes = "; ".join(f"{node}: {why}" for node, why in missed.items())
        raise Unreachable(f"{nodes}: there, whoever had the lock may still act")


def _told(was: lock.Holder | None) -> str:
    if was is None:
        return "there is no lock"
    return f"removed the lock of {was}" + (f": {was.gone}" if was.gone else "")
