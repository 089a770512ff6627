"""inv tp.*: the life of a tensor-parallel server, from the checks to the shutdown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from invoke.context import Context
from invoke.tasks import call

from . import locking, options
from .options import WHAT, WHERE, cluster_task

if TYPE_CHECKING:
    from .cluster.cluster import Cluster


def _last(c: Context, **given: Any) -> Cluster:
    """Imported late: only a restart reads the nodes before its body."""
    from . import restarting

    return cast("Cluster", restarting.last(c, **given))


@cluster_task(*WHAT)
def model(c: Context, cluster: Cluster, dry_run: bool = False) -> None:
    """Make the tiny model where the cluster asks for it and it is not there yet."""
    from . import steps, tiny

    tiny.ensure(cluster.model, steps.is_dry(c, dry_run))


@cluster_task(*WHAT)
def preflight(
    c: Context,
    cluster: Cluster,
    skip: list[str] | None = None,
    skip_checks: bool = False,
    json: bool = False,
) -> None:
    """Check all nodes at once: memory, processes, ports, RDMA, model, versions, cooldown.

    Nothing is changed. Exit 3 if a check fails, 5 if a node can't be reached.

    inv tp.preflight --hosts mac1,mac2 --skip model -- --port 8001
    """
    from . import steps

    if not skip_checks:
        steps.preflight(cluster, options.items(skip), json)


@cluster_task(*WHERE)
def cooldown(
    c: Context,
    cluster: Cluster,
    skip_checks: bool = False,
    dry_run: bool = False,
) -> None:
    """Wait out the rest of 30 s since the last SIGKILL on any node.

    After a SIGKILL the kernel needs some 30 s to reclaim RDMA resources (tp.cooldown in
    invoke.yaml); another control machine's SIGKILL counts too.
    """
    from . import steps

    if not skip_checks:
        steps.cool(cluster, steps.is_dry(c, dry_run))


@cluster_task(*WHAT, "lock_wait")
def launch(c: Context, cluster: Cluster, dry_run: bool = False) -> None:
    """Start rank 0, then the other ranks, and come back at once (tp.wait waits).

    No check is made: tp.start is this with checks before and a wait after.
    """
    from . import steps

    dry = steps.is_dry(c, dry_run)
    with steps.locked(cluster, "tp.launch", dry):
        steps.launch(cluster, dry)


@cluster_task(*WHAT)
def wait(c: Context, cluster: Cluster, timeout: str | None = None) -> None:
    """Wait until the server is ready; a rank that dies fails this at once (exit 4)."""
    from . import steps

    steps.wait(cluster, timeout)


@cluster_task(*WHAT)
def health(
    c: Context,
    cluster: Cluster,
    timeout: str | None = None,
    foreground: bool = False,
    dry_run: bool = False,
) -> None:
    """Ask the server for its models and for one real token (exit 3 if it gives none).

    A health page may be green over an engine that is dead: only a token proves it.
    """
    from . import steps

    if not foreground and not steps.is_dry(c, dry_run):
        steps.health(cluster, timeout)


@cluster_task(
    *WHAT,
    "lock_wait",
    pre=[call(locking.hold, what="tp.start"), model, preflight, cooldown],
    post=[health, locking.release],
)
def start(
    c: Context,
    cluster: Cluster,
    timeout: str | None = None,
    skip: list[str] | None = None,
    skip_checks: bool = False,
    foreground: bool = False,
    dry_run: bool = False,
) -> None:
    """Start the server and wait until it has answered: checks, ranks, readiness, one token.

    What follows -- goes to the server exactly. Exit 3: a check failed, or another command is at
    work, and nothing was started; 4: a rank died or the timeout passed, and the others were
    stopped; 5: a node can't be reached. Ctrl-C while it waits leaves the server as it is, twice
    stops it.

    inv tp.start
    inv tp.start --hosts mac1,mac2 --backend ring --engine mlx-lm -- --model M --port 8000
    inv tp.start --hostfile hosts/hwstudio.json --env MLX_METAL_FAST_SYNCH=1 -- --model M
    """
    from . import steps

    dry = steps.is_dry(c, dry_run)
    with steps.locked(cluster, "tp.start", dry):
        if foreground:
            steps.foreground(cluster, dry)
            return
        run = steps.launch(cluster, dry)
        if not dry:
            steps.wait(cluster, timeout, run)


@cluster_task(
    *WHERE,
    "log_dir",
    "lock_wait",
    help={
        "force": "SIGKILL at once: may leave wired memory that only a reboot frees",
        "timeout": "seconds until SIGKILL for what is left (default 15)",
        "order": "leader: rank 0 first, it takes the others along; all: SIGTERM to all at once",
    },
)
def stop(
    c: Context,
    cluster: Cluster,
    force: bool = False,
    timeout: str | None = None,
    order: str = "leader",
    dry_run: bool = False,
    json: bool = False,
) -> None:
    """Stop the server: SIGTERM to rank 0, then to what is left, SIGKILL only at the timeout.

    Also stops servers of this engine that were started by hand. Nothing to stop is fine. Exit 3
    if another command is at work (inv tp.unlock tp.stop ends a start that hangs), 4 if something
    could not be stopped, 5 if a node could not be reached.

    inv tp.stop --hosts mac1,mac2 --timeout 30
    """
    from . import steps

    steps.stop(cluster, order, force, timeout, steps.is_dry(c, dry_run), json)


@cluster_task(*WHAT, "with_", "lock_wait", of=_last)
def restart(
    c: Context, cluster: Cluster, timeout: str | None = None, dry_run: bool = False
) -> None:
    """Stop the server and start what was started last: same arguments, engine and backend.

    Options override; what follows -- replaces the server's arguments, --with adds to them. Values
    of --env are kept nowhere: give them again.

    inv tp.restart
    inv tp.restart --with '--port 8001'
    """
    from . import steps

    if steps.is_dry(c, dry_run):
        steps.stop(cluster, "leader", False, None, True, False)
        steps.launch(cluster, True)
    else:
        steps.again(cluster, "tp.restart", timeout)


@cluster_task(*WHERE)
def unlock(c: Context, cluster: Cluster, dry_run: bool = False) -> None:
    """Take the lock away from the command that has it, and say whose it was.

    Of all commands that change a server, on any control machine, one acts at a time. What that
    command has started is left as it is, and there may be no lock at all.

    inv tp.unlock tp.stop
    """
    from . import steps

    steps.unlock(cluster, steps.is_dry(c, dry_run))


@cluster_task(*WHERE)
def status(c: Context, cluster: Cluster, json: bool = False) -> None:
    """Each rank's host, pid, state, uptime and memory; is it ready, which model, which URL.

    Exit 3 for a degraded server (a rank gone, or no answer), 5 if a node can't be reached.
    """
    from . import show

    show.status(cluster, json)


@cluster_task(
    *WHERE,
    "log_dir",
    help={
        "follow": "go on showing what comes, until Ctrl-C",
        "lines": "how many of the last lines (0: all)",
        "rank": "only this rank's lines",
        "grep": "only lines that match this regular expression",
    },
)
def logs(
    c: Context,
    cluster: Cluster,
    follow: bool = False,
    lines: str = "100",
    rank: str | None = None,
    grep: str | None = None,
) -> None:
    """All ranks' logs in one view, also written to tp_server.log in --log-dir here.

    inv tp.logs --follow --rank 0 --grep 'ERROR|warn'
    """
    from . import show

    show.show_logs(cluster, follow, lines, rank, grep)


@cluster_task(*WHERE)
def memory(c: Context, cluster: Cluster, json: bool = False) -> None:
    """Wired memory of every node: what a killed server left only a reboot frees (exit 3)."""
    from . import show

    show.memory(cluster, json)


@cluster_task(
    *WHAT,
    "lock_wait",
    help={
        "restart": "start it again when it has failed: stop, cool down, check, start",
        "max_restarts": "how often at the most (default 3), after growing pauses",
        "interval": "seconds between two looks (default 1)",
        "patience": "seconds without a token until a server whose ranks all live has failed",
    },
)
def watch(
    c: Context,
    cluster: Cluster,
    restart: bool = False,
    max_restarts: str = "3",
    interval: str = "1",
    patience: str = "600",
) -> None:
    """Watch the server: a dead rank is told at once, and an engine that gives no token.

    A busy server is left alone. Ends with exit 3 when the server has failed and is not started
    again. With --restart give the options and arguments that it was started with.

    inv tp.watch --restart -- --model M
    """
    from . import watching
    from .cluster.cluster import count, number

    times = count(max_restarts, "--max-restarts", 0, 1000) if restart else 0
    how = watching.Watch(
        number(interval, "--interval", 0.1), number(patience, "--patience", 1), times
    )
    watching.watch(cluster, how)
