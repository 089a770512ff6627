"""What inv rdma.undo does: what setup and persist changed is given back, on all nodes at once."""

from ...cli import screen
from ...cluster.errors import ActionFailed
from ...cluster.facts.links import rdma, thunderbolt
from ...cluster.facts.machine import processes
from ...cluster.facts.snapshot import Snapshot
from ...cluster.rdma import launchd, undo
from ...cluster.rdma.links import LinkPlan
from ...cluster.rdma.setup import Change
from ...session import Session
from .change import USER, ApplyOptions, acting, carry_out, read_nodes, refuse

_FACTS = (
    rdma.INTERFACES,
    thunderbolt.PORTS,
    rdma.MATRIX_FACT,
    processes.FACT,
    launchd.FACT,
    undo.FACT,
    USER,
)


def run(session: Session, wiring: LinkPlan, how: ApplyOptions) -> None:
    """Read all nodes, refuse or give back, and look again whether it lasts."""
    with acting(session, wiring, how):
        _undo(session, wiring, how)


def _undo(session: Session, wiring: LinkPlan, how: ApplyOptions) -> None:
    read = read_nodes(session, wiring, _FACTS)
    refuse(undo.refusals(wiring, read.nodes))
    for host, values in read.nodes.items():
        for what in undo.kept(wiring, host, values):
            screen.say(f"{host}: left: {what}")
    if wiring.cables:
        screen.say(f"left: {wiring.source} tells no addresses of links, so they stay")
    todo = _changes(wiring, read)
    right = {host.ssh: "nothing of ours is there" for host in wiring.hosts}
    carry_out(session, wiring, read, todo, right, how)
    if todo and not session.dry and (left := _changes(wiring, read_nodes(session, wiring, _FACTS))):
        raise ActionFailed(f"{left[0].host}: it was done, but did not last: {left[0].what}")


def _changes(wiring: LinkPlan, read: Snapshot) -> list[Change]:
    return [
        change
        for host, values in read.nodes.items()
        for change in undo.changes(wiring, host, values, values[USER.key][1])
    ]
