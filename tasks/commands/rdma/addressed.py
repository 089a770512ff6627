"""The links of a hostfile that tells no addresses, with those that interfaces have."""

from ...cluster.facts import known
from ...cluster.facts.links import rdma
from ...cluster.facts.snapshot import Snapshot
from ...cluster.rdma import link_checks, setup
from ...cluster.rdma.links import LinkPlan
from ...session import Session
from .change import print_findings, read_nodes, refuse


def as_addressed(session: Session, wiring: LinkPlan, fixed: bool = False) -> LinkPlan:
    """The links of a hostfile that tells no addresses, with those that the interfaces have.

    Raise where one has none, or, if they are to be `fixed`, one that it took by itself.
    """
    read = read_nodes(session, wiring, [rdma.INTERFACES])
    refuse([each for host, values in read.nodes.items() for each in setup.unreadable(host, values)])
    found = with_interfaces(wiring, read)
    refuse(link_checks.nameless(found, read.nodes))
    passing = link_checks.self_assigned(found)
    if fixed:
        refuse(passing)
    print_findings(passing)
    return found


def with_interfaces(wiring: LinkPlan, read: Snapshot) -> LinkPlan:
    if not wiring.cables:
        return wiring
    names = [host.ssh for host in wiring.hosts]
    return wiring.with_({name: known(read.on(name), rdma.INTERFACES_KEY) or {} for name in names})
