"""inv rdma.*: the Thunderbolt links between the nodes, from the cables to a proven collective."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .cli import options
from .cli.options import LINKS, WHAT, cluster_task
from .cluster.config.values import File, Seconds

if TYPE_CHECKING:
    from .cli.options import Machines
    from .cluster.cluster import Cluster
    from .cluster.rdma.links import Wiring
    from .commands.rdma.linking import How
    from .session import Session


def how(session: Session, what: str, verbose: bool, ask_sudo: bool = False) -> How:
    from .commands.rdma import linking

    return linking.How(what, session.state_dir, verbose, ask_sudo)


@cluster_task(*LINKS, of=options.wiring)
def unbridge(
    session: Session,
    wiring: Wiring,
    dry_run: bool = False,
    verbose: bool = False,
    ask_sudo: bool = False,
) -> None:
    """Take the links' interfaces out of every bridge.

    A bridged port carries no RDMA.
    """
    from .commands.rdma import linking

    linking.apply(session, wiring, ("unbridge",), how(session, "rdma.unbridge", verbose, ask_sudo))


@cluster_task(*LINKS, of=options.wiring)
def address(
    session: Session,
    wiring: Wiring,
    dry_run: bool = False,
    verbose: bool = False,
    ask_sudo: bool = False,
) -> None:
    """Give the links' interfaces their IPv4 addresses.

    An interface is never taken down or up: that corrupts the kernel's GID table.
    """
    from .commands.rdma import linking

    linking.apply(session, wiring, ("address",), how(session, "rdma.address", verbose, ask_sudo))


@cluster_task(*LINKS, of=options.wiring)
def devices(session: Session, wiring: Wiring, dry_run: bool = False, verbose: bool = False) -> None:
    """Write MLX's matrix of devices to every node.

    It is /tmp/mlx_ibv_devices.json there.
    """
    from .commands.rdma import linking

    linking.apply(session, wiring, ("devices",), how(session, "rdma.devices", verbose))


@cluster_task(*LINKS, of=options.wiring)
def status(session: Session, wiring: Wiring, dry_run: bool = False, json: bool = False) -> None:
    """Every link's device, port, address and GID.

    Exit 3 if one is not as wanted.
    """
    from .commands.rdma import linking

    if not session.dry:
        linking.status(session, wiring, json)


@cluster_task(*LINKS, of=options.wiring)
def ping(session: Session, wiring: Wiring, dry_run: bool = False, json: bool = False) -> None:
    """Ping over every link, both ways, all at once.

    Of each round trip the least, mean and most.
    """
    from .commands.rdma import linking

    if not session.dry:
        linking.ping(session, wiring, json)


@cluster_task(*LINKS, of=options.wiring, post=[status, ping])
def setup(
    session: Session,
    wiring: Wiring,
    dry_run: bool = False,
    verbose: bool = False,
    ask_sudo: bool = False,
) -> None:
    """Make the links ready for RDMA, then look and ping.

    Out of bridges, addresses, MLX's matrix.

    It changes only what is not right, on all nodes at once; a second run changes nothing. All that
    speaks against it is found before the first change (exit 3: nothing was touched).

    inv rdma.setup --node mac1:en5:10.254.0.5 --node mac2:en5:10.254.0.6
    inv rdma.setup --hostfile hosts/hwstudio.json --dry-run
    """
    from .cluster.rdma.setup import KINDS
    from .commands.rdma import linking

    linking.apply(session, wiring, KINDS, how(session, "rdma.setup", verbose, ask_sudo))


@cluster_task(*LINKS, of=options.wiring)
def persist(
    session: Session,
    wiring: Wiring,
    dry_run: bool = False,
    verbose: bool = False,
    ask_sudo: bool = False,
) -> None:
    """A LaunchDaemon does at boot what rdma.setup does.

    So the links' settings survive a reboot. It looks every few seconds for two minutes, then every
    five minutes; it replaces no address, and touches nothing while a rank lives.

    --dry-run shows the plist. inv rdma.unpersist takes it away again.
    """
    from .commands.rdma import linking

    linking.persist(session, wiring, how(session, "rdma.persist", verbose, ask_sudo))


@cluster_task(*LINKS, of=options.wiring)
def unpersist(
    session: Session,
    wiring: Wiring,
    dry_run: bool = False,
    verbose: bool = False,
    ask_sudo: bool = False,
) -> None:
    """Take the LaunchDaemon of rdma.persist away.

    Addresses stay until the next reboot.
    """
    from .commands.rdma import linking

    linking.persist(session, wiring, how(session, "rdma.unpersist", verbose, ask_sudo), remove=True)


@cluster_task(*LINKS, of=options.wiring)
def undo(
    session: Session,
    wiring: Wiring,
    dry_run: bool = False,
    verbose: bool = False,
    ask_sudo: bool = False,
) -> None:
    """Give back what rdma.setup and rdma.persist changed.

    Ports into bridge0, addresses, LaunchDaemon, matrix.

    Only what these links name is taken away; the rest is left, and told. Nothing is touched while a
    rank lives on one of the nodes (exit 3). A second run changes nothing.

    inv rdma.undo --hostfile hosts/hwstudio.json --dry-run
    """
    from .commands.rdma import undo as command

    command.run(session, wiring, how(session, "rdma.undo", verbose, ask_sudo))


@cluster_task(*WHAT, help={"timeout": "seconds for the ranks to meet, and for all sizes"})
def verify(
    session: Session, cluster: Cluster, timeout: Seconds | None = None, json: bool = False
) -> None:
    """Run a real collective (all_sum) over the backend.

    Its ranks are started as tp.start would start them.

    Right sums and a world of all ranks, or exit 3 or 4; then latency and bandwidth per size, and
    ping beside them. Nothing else may be running.

    inv rdma.verify --hostfile hosts/hwstudio.json
    """
    from .commands.rdma import verify as proving

    proving.verify(session, cluster, timeout or proving.TIMEOUT, json)


@cluster_task(
    "hosts",
    "cluster",
    "hostfile",
    of=options.machines,
    help={
        "write": "write the hostfile there; what you wrote into it yourself is kept",
        "diff": "only tell what has moved since the hostfile was written (exit 3 if anything has)",
    },
)
def discover(
    session: Session,
    machines: Machines,
    write: File | None = None,
    diff: bool = False,
    dry_run: bool = False,
    json: bool = False,
) -> None:
    """Find the cables; pick addresses and backend; --write it.

    The rdma.setup for them is printed.

    inv rdma.discover --hosts mac1,mac2,mac3 --write hosts/mine.json
    inv rdma.discover --hostfile hosts/mine.json --diff
    """
    from .cluster.errors import BadInput
    from .commands.rdma import discover as discovery

    if not diff:
        discovery.discover_links(session, machines.hosts, write, json)
    elif write or machines.hostfile is None:
        raise BadInput("--diff compares with --hostfile: give it without --write and --hosts")
    else:
        discovery.diff(session, machines.hosts, machines.hostfile, json)


@cluster_task(
    "hosts",
    "cluster",
    "hostfile",
    of=options.machines,
    help={"svg": "also draw it into this file, such as topology.svg"},
)
def topology(session: Session, machines: Machines, svg: File | None = None) -> None:
    """Draw the cabling: interfaces, addresses, speed, state.

    inv rdma.topology --hosts mac1,mac2,mac3 --svg topology.svg
    """
    from .commands.rdma import discover as discovery

    discovery.draw(session, machines.hosts, svg, machines.hostfile)
