"""What inv rdma.persist and rdma.unpersist do: the LaunchDaemon that sets links up at boot."""

from ...cluster.rdma import launchd, setup
from ...cluster.rdma.links import LinkPlan
from ...cluster.rdma.setup import Change
from ...session import Session
from .addressed import as_addressed
from .change import USER, ApplyOptions, acting, carry_out, read_nodes, refuse


def run(session: Session, wiring: LinkPlan, how: ApplyOptions, remove: bool = False) -> None:
    """Install (or remove) the LaunchDaemon that does at boot what setup does."""
    with acting(session, wiring, how):
        _persist(session, wiring, how, remove)


def _persist(session: Session, wiring: LinkPlan, how: ApplyOptions, remove: bool) -> None:
    if wiring.cables and not remove:
        wiring = as_addressed(session, wiring, fixed=True)
    read = read_nodes(session, wiring, [launchd.FACT, USER])
    refuse([each for host, values in read.nodes.items() for each in setup.unreadable(host, values)])
    todo: list[Change] = []
    for host, values in read.nodes.items():
        user, home = values[USER.key]
        wanted = None if remove else launchd.plist(wiring, host, user)
        todo += launchd.changes(host, home, values[launchd.KEY], wanted)
    state = "not installed" if remove else "installed, and as it would be"
    right = {host.ssh: f"{launchd.PATH}: {state}" for host in wiring.hosts}
    carry_out(session, wiring, read, todo, right, how)
