"""What inv rdma.setup does, and its parts unbridge, address and devices."""

from collections.abc import Sequence

from ...cli import screen
from ...cluster.errors import ActionFailed
from ...cluster.facts.links import rdma, routes, thunderbolt
from ...cluster.rdma import setup
from ...cluster.rdma.links import LinkPlan
from ...session import Session
from .addressed import as_addressed
from .change import USER, ApplyOptions, acting, carry_out, read_nodes, refuse


def run(
    session: Session, wiring: LinkPlan, how: ApplyOptions, kinds: Sequence[str] = setup.KINDS
) -> None:
    """Bring about the `kinds` of change on all nodes, or refuse before the first one."""
    with acting(session, wiring, how):
        _apply(session, wiring, kinds, how)


def _apply(session: Session, wiring: LinkPlan, kinds: Sequence[str], how: ApplyOptions) -> None:
    if wiring.cables and kinds != ("devices",):
        wiring = as_addressed(session, wiring)
        kinds = [kind for kind in kinds if kind != "address"]
    read = read_nodes(
        session, wiring, [rdma.INTERFACES, thunderbolt.PORTS, routes.FACT, rdma.MATRIX_FACT, USER]
    )
    refuse(setup.refusals(wiring, read.nodes, kinds))
    for one, two in wiring.unlinked:
        screen.say(f"no link between {one} and {two}")
    todo = setup.changes(wiring, read.nodes, kinds)
    right = {
        host.ssh: ", ".join(f"{end.interface} {end.address}" for end in wiring.on(host.ssh))
        or rdma.MATRIX
        for host in wiring.hosts
    }
    carry_out(session, wiring, read, todo, right, how)
    if todo and not session.dry:
        _check_it_lasts(session, wiring, kinds)
    if not session.dry:
        screen.say(f"as wanted on {len(wiring.hosts)} nodes: inv rdma.status looks, rdma.ping asks")


def _check_it_lasts(session: Session, wiring: LinkPlan, kinds: Sequence[str]) -> None:
    read = read_nodes(session, wiring, [rdma.INTERFACES, rdma.MATRIX_FACT])
    if left := setup.changes(wiring, read.nodes, kinds):
        raise ActionFailed(f"{left[0].host}: it was done, but did not last: {left[0].what}")
