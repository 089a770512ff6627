"""Reading all nodes of a cluster at once: one script, one round trip per node."""

from collections.abc import Callable, Container, Iterable, Sequence

from .. import checks
from ..cluster import Cluster, Site
from ..facts import Fact
from ..facts.links import rdma
from ..facts.machine import memory, ports, processes
from ..facts.models import rates
from ..facts.server import state
from ..facts.snapshot import FactQuery, Snapshot
from ..ssh import nodes
from ..ssh.node import SCRIPT_TIMEOUT, Node
from . import fence

Wants = Callable[[Node], Iterable[Fact[object]]]


def preflight(cluster: Cluster, skip: Iterable[str] = ()) -> Snapshot:
    """All facts that the checks need, but for those of skipped checks."""
    return _held(cluster, cluster.nodes, lambda: preflight_facts(cluster, skip))


def preflight_facts(cluster: Cluster, skip: Iterable[str] = ()) -> Wants:
    """The facts of `preflight`, and what a start goes by: the record, speeds."""
    asked = [check for name, check in checks.CHECKS.items() if name not in set(skip)]

    def wanted(node: Node) -> list[Fact[object]]:
        ours = [_state(cluster), rates.fact(cluster.state_dir, cluster.name)]
        return [*ours, *(fact for check in asked for fact in check.facts(cluster, node))]

    return wanted


def ahead(cluster: Cluster, skip: Iterable[str] = ()) -> Snapshot:
    """What `preflight` and `alive` read, for who is about to stop a server and to start one."""
    checked = preflight_facts(cluster, skip)
    return _held(cluster, cluster.nodes, lambda: lambda node: [*checked(node), *_alive(cluster)])


def running(cluster: Cluster) -> Snapshot:
    """What runs: the record, the processes, the memory, the ports and, with RDMA, what it holds."""
    return _held(cluster, cluster.nodes, lambda: running_facts(cluster))


def alive(cluster: Cluster, names: Container[str] | None = None) -> Snapshot:
    """What there is to tell of and to stop, on all nodes or those named: `running` without memory.

    A node whose memory can't be read (vm_stat hangs) is no reason to wait for that.
    """
    asked = [node for node in cluster.nodes if names is None or node.name in names]
    return _held(cluster, asked, lambda: lambda node: _alive(cluster))


def whole(cluster: Cluster, read: Snapshot) -> tuple[Cluster, Snapshot]:
    """The cluster and `read` with all nodes of what is recorded: no rank is orphaned."""
    names = [name for _, rank in read.ranks if rank.record for name in rank.record.hosts]
    wide = cluster.with_nodes(names)
    if wide is cluster:
        return cluster, read
    more = alive(wide, {node.name for node in wide.nodes} - {node.name for node in cluster.nodes})
    nodes_of = {**read.nodes, **more.nodes}
    return wide, Snapshot(nodes_of, {**read.unreachable, **more.unreachable})


def running_facts(cluster: Cluster) -> Wants:
    """The facts of `running`."""
    wanted = [*_alive(cluster), memory.FACT]
    wanted += [rdma.DEVINFO, rdma.IN_USE] if cluster.backend.startswith("jaccl") else []
    return lambda node: wanted


def _alive(cluster: Cluster) -> list[Fact[object]]:
    return [_state(cluster), processes.FACT, ports.FACT]


def states(cluster: Site, more: Wants = lambda node: ()) -> Snapshot:
    """Only the state directories; `more(node)` may name further facts."""
    return _held(cluster, cluster.nodes, lambda: lambda node: [_state(cluster), *more(node)])


def of_site(cluster: Site, wanted: Wants) -> Snapshot:
    """The facts `wanted(node)` of all nodes; under our lock these let others act no more."""
    return states(cluster, wanted) if fence.of(cluster) else read(cluster.nodes, wanted)


def align(cluster: Site) -> None:
    """Have the number of our hold above all that its nodes have seen, where none was read yet."""
    if not fence.is_aligned(cluster):
        states(cluster)


def _state(cluster: Site) -> Fact[state.State]:
    return state.fact(cluster.state_dir, cluster.name, fence.values(cluster))


def _held(cluster: Site, targets: Sequence[Node], wanted: Callable[[], Wants]) -> Snapshot:
    """`read`; under our lock all of its nodes then know its number, by which they let us act.

    A node may have seen a higher one (rank 0's was another, or its state was wiped): then ours
    becomes higher, and they are asked once more. Raise TakenOver where another has the cluster.
    """
    found = read(targets, wanted())
    while fence.raised(cluster, _seen(found)):
        found = read(targets, wanted())
    return found


def _seen(found: Snapshot) -> dict[str, state.Seen | None]:
    states = {name: found.state(name) for name in found.nodes}
    return {name: each.fence for name, each in states.items() if each}


def read(targets: Sequence[Node], wanted: Wants, timeout: float = SCRIPT_TIMEOUT) -> Snapshot:
    """The facts `wanted(node)` of each node."""
    query = FactQuery.of(targets, wanted)
    return query.snapshot(nodes.sh(targets, query.scripts, timeout, query.snapshot))
