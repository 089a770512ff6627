"""What inv rdma.ping does: a row per direction of every link."""

from ...cluster.facts.links import ping as pings
from ...cluster.facts.links import rdma
from ...cluster.rdma import link_checks
from ...cluster.rdma.links import LinkPlan
from ...cluster.server import snapshots
from ...session import Session
from .addressed import as_addressed
from .status import tell


def run(session: Session, wiring: LinkPlan) -> None:
    """A row per direction of every link, with round trips in ms; raise unless all answer."""
    if wiring.cables:
        wiring = as_addressed(session, wiring)
    peers: dict[str, list[str]] = {}
    for one, two in wiring.links:
        peers.setdefault(one.host, []).append(str(two.address.ip))
        peers.setdefault(two.host, []).append(str(one.address.ip))
    targets = session.nodes(wiring.hosts)
    # The interfaces last: what they say of a link is then not older than its answer.
    read = snapshots.read(
        targets, lambda node: [pings.fact(peers.get(node.name, [])), rdma.INTERFACES]
    )
    tell("ping", read, link_checks.pings(wiring, read.nodes))
