"""inv rdma.*: the Thunderbolt links between the nodes, from the cables to a proven collective."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import commands
from .cli import options
from .cli.options import LINK_OPTIONS, MACHINE_OPTIONS, SERVER_OPTIONS, cluster_task
from .cluster.config.values import File, Seconds
from .cluster.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Callable

    from invoke.tasks import Task

    from .cli.options import ClusterTask, Machines
    from .cluster.cluster import Cluster
    from .cluster.rdma.links import LinkPlan
    from .commands.rdma.change import ApplyOptions
    from .session import Body, Session

    Change = Callable[[Session, LinkPlan, ApplyOptions], None]


def changes(*after: Task[Body]) -> Callable[[Change], ClusterTask]:
    """A task that changes nodes, with the options that all of these have; `after` runs after it."""

    def decorate(body: Change) -> ClusterTask:
        def run(
            session: Session,
            wiring: LinkPlan,
            dry_run: bool = False,
            verbose: bool = False,
            ask_sudo: bool = False,
        ) -> None:
            body(session, wiring, how(session, f"rdma.{body.__name__}", verbose, ask_sudo))

        run.__name__, run.__doc__ = body.__name__, body.__doc__
        return cluster_task(*LINK_OPTIONS, of=options.wiring, post=after)(run)

    return decorate


def how(session: Session, what: str, verbose: bool, ask_sudo: bool = False) -> ApplyOptions:
    return commands.rdma.change.ApplyOptions(what, session.state_dir, verbose, ask_sudo)


@changes()
def unbridge(session: Session, wiring: LinkPlan, how: ApplyOptions) -> None:
    """Take the links' interfaces out of every bridge.

    A bridged port carries no RDMA.
    """
    commands.rdma.setup.run(session, wiring, how, ("unbridge",))


@changes()
def address(session: Session, wiring: LinkPlan, how: ApplyOptions) -> None:
    """Give the links' interfaces their IPv4 addresses.

    An interface is never taken down or up: that corrupts the kernel's GID table.
    """
    commands.rdma.setup.run(session, wiring, how, ("address",))


@cluster_task(*LINK_OPTIONS, of=options.wiring)
def devices(
    session: Session,
    wiring: LinkPlan,
    dry_run: bool = False,
    verbose: bool = False,
) -> None:
    """Write MLX's matrix of devices to every node.

    It is /tmp/mlx_ibv_devices.json there.
    """
    commands.rdma.setup.run(session, wiring, how(session, "rdma.devices", verbose), ("devices",))


@cluster_task(*LINK_OPTIONS, of=options.wiring)
def status(session: Session, wiring: LinkPlan, dry_run: bool = False) -> None:
    """Every link's device, port, address and GID.

    Exit 3 if one is not as wanted.
    """
    if not session.dry:
        commands.rdma.status.run(session, wiring)


@cluster_task(*LINK_OPTIONS, of=options.wiring)
def ping(session: Session, wiring: LinkPlan, dry_run: bool = False) -> None:
    """Ping over every link, both ways, all at once.

    Of each round trip the least, mean and most.
    """
    if not session.dry:
        commands.rdma.ping.run(session, wiring)


@changes(status, ping)
def setup(session: Session, wiring: LinkPlan, how: ApplyOptions) -> None:
    """Make the links ready for RDMA, then look and ping.

    Out of bridges, addresses, MLX's matrix.

    It changes only what is not right, on all nodes at once; a second run changes nothing. All that
    speaks against it is found before the first change (exit 3: nothing was touched).

    inv rdma.setup --node mac1:en5:10.254.0.5 --node mac2:en5:10.254.0.6
    inv rdma.setup --hostfile hosts/hwstudio.json --dry-run
    """
    commands.rdma.setup.run(session, wiring, how)


@changes()
def persist(session: Session, wiring: LinkPlan, how: ApplyOptions) -> None:
    """A LaunchDaemon does at boot what rdma.setup does.

    So the links' settings survive a reboot. It looks every few seconds for two minutes, then every
    five minutes; it replaces no address, and touches nothing while a rank lives.

    --dry-run shows the plist. inv rdma.unpersist takes it away again.
    """
    commands.rdma.persist.run(session, wiring, how)


@changes()
def unpersist(session: Session, wiring: LinkPlan, how: ApplyOptions) -> None:
    """Take the LaunchDaemon of rdma.persist away.

    Addresses stay until the next reboot.
    """
    commands.rdma.persist.run(session, wiring, how, remove=True)


@changes()
def undo(session: Session, wiring: LinkPlan, how: ApplyOptions) -> None:
    """Give back what rdma.setup and rdma.persist changed.

    Ports into bridge0, addresses, LaunchDaemon, matrix.

    Only what these links name is taken away; the rest is left, and told. Nothing is touched while a
    rank lives on one of the nodes (exit 3). A second run changes nothing.

    inv rdma.undo --hostfile hosts/hwstudio.json --dry-run
    """
    commands.rdma.undo.run(session, wiring, how)


@cluster_task(*SERVER_OPTIONS, help={"timeout": "seconds for the ranks to meet, and for all sizes"})
def verify(session: Session, cluster: Cluster, timeout: Seconds | None = None) -> None:
    """Run a real collective (all_sum) over the backend.

    Its ranks are started as tp.start would start them.

    Right sums and a world of all ranks, or exit 3 or 4; then latency and bandwidth per size, and
    ping beside them. Nothing else may be running.

    inv rdma.verify --hostfile hosts/hwstudio.json
    """
    commands.rdma.verify.run(session, cluster, timeout or commands.rdma.verify.TIMEOUT)


@cluster_task(
    *MACHINE_OPTIONS,
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
) -> None:
    """Find the cables; pick addresses and backend; --write it.

    The rdma.setup for them is printed.

    inv rdma.discover --hosts mac1,mac2,mac3 --write hosts/mine.json
    inv rdma.discover --hostfile hosts/mine.json --diff
    """
    if not diff:
        commands.rdma.discover.run(session, machines.hosts, write)
    elif write or machines.hostfile is None:
        raise BadInput("--diff compares with --hostfile: give it without --write and --hosts")
    else:
        commands.rdma.discover.diff(session, machines.hosts, machines.hostfile)


@cluster_task(
    *MACHINE_OPTIONS,
    of=options.machines,
    help={"svg": "also draw it into this file, such as topology.svg"},
)
def topology(session: Session, machines: Machines, svg: File | None = None) -> None:
    """Draw the cabling: interfaces, addresses, speed, state.

    inv rdma.topology --hosts mac1,mac2,mac3 --svg topology.svg
    """
    commands.rdma.topology.run(session, machines.hosts, svg, machines.hostfile)
