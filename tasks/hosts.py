"""inv hosts.*: the machines of the cluster: which they are, what they are like, their host keys."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from . import commands
from .cli import options
from .cli.options import MACHINE_OPTIONS, TARGET_OPTIONS, NewFolder, cluster_task

if TYPE_CHECKING:
    from .cli.options import Machines
    from .cluster.cluster import Cluster
    from .session import Session


@cluster_task(
    *TARGET_OPTIONS,
    "num_ranks",
    "python",
    name="list",
    help={"verbose": "also what ssh makes of each host: the way to it, keys, known_hosts"},
)
def list_(session: Session, cluster: Cluster, verbose: bool = False) -> None:
    """The configured cluster: ranks, hosts, addresses, python.

    Interfaces, user and gateway, too; no host is asked: user and port are what ssh's configuration
    makes of the host (ssh -G).

    inv hosts.list --hostfile hosts/hwstudio.json
    inv hosts.list --hosts mac1,mac2 --verbose
    """
    commands.hosts.list.run(cluster, verbose)


@cluster_task(*TARGET_OPTIONS, "python", "cwd")
def check(session: Session, cluster: Cluster) -> None:
    """Hosts side by side: versions, sudo, clock, sleep, firewall.

    Local Network privacy, too, and what will keep a Mac from being there tomorrow: FileVault,
    updates that install themselves, no start after a power failure. What differs is flagged.

    Nothing is changed. Exit 3 if something would keep a server from running, 5 if a host can't be
    reached; what is only worth knowing is a warning.

    inv hosts.check --hosts mac1,mac2
    """
    commands.hosts.check.run(session, cluster)


@cluster_task(
    *TARGET_OPTIONS,
    "python",
    "cwd",
    help={"save": "write what the hosts said, without private values, into a new folder DIR"},
)
def selftest(
    session: Session,
    cluster: Cluster,
    save: Annotated[str | None, NewFolder("DIR")] = None,
) -> None:
    """What we take for granted of hosts, asked of each.

    The first thing to run on a new cluster, and what a report of an error should carry. Every
    command that we read by is run and its answer parsed, then what else we rely on is asked: words
    of ifconfig, rsync, nc, stat, labels of vm_stat, backends of mlx, sshd, sudo. Nothing is
    changed, nothing is run by sudo. Exit 3 if something differs, 5 if a host can't be reached.

    inv hosts.selftest --hosts localhost
    inv hosts.selftest --hosts mac1,mac2 --save sample
    """
    commands.hosts.selftest.run(cluster, save)


@cluster_task(
    *MACHINE_OPTIONS,
    of=options.machines,
    help={"yes": "accept the keys that are shown without asking"},
)
def trust(
    session: Session,
    machines: Machines,
    yes: bool = False,
    dry_run: bool = False,
) -> None:
    """Show host keys that are new, and accept them on a yes.

    They are written to known_hosts.

    Compare the fingerprints with those on the hosts: ssh-keygen -lf, of a key in /etc/ssh. A key
    that has changed or is revoked is never accepted (exit 3).

    inv hosts.trust --hosts mac1,mac2
    """
    commands.hosts.trust.run(session, machines.hosts, yes)


@cluster_task(*MACHINE_OPTIONS, of=options.machines)
def clean(
    session: Session, machines: Machines, dry_run: bool = False, ask_sudo: bool = False
) -> None:
    """Take away all that these tasks ever put on the hosts.

    The state of all clusters (runs, logs, locks, audit log), known names of logs in /tmp, the
    LaunchDaemon with its log, /etc/sudoers.d/mlx-tp. The hosts know nothing of ours then.

    Refused while a rank lives or a command is at work (exit 3). What lies among it and is none of
    ours is left, and so are code and models (dev.sync). Addresses of links and MLX's matrix are
    given back by rdma.undo, which is to come first. The files of this control machine are those of
    the host 127.0.0.1.

    inv hosts.clean --hosts mac1,mac2 --dry-run
    inv hosts.clean --hosts 127.0.0.1
    """
    commands.hosts.clean.run(session, machines, ask_sudo)
