"""inv tp.restart: the server that was started last, as its record on rank 0's node tells it."""

import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from invoke.context import Context

from ... import session as sessions
from ...cli import envelope
from ...cli.executor import server_arguments
from ...cluster import checks
from ...cluster import cluster as clusters
from ...cluster.cluster import Cluster
from ...cluster.errors import BadInput, CheckFailed, Unreachable
from ...cluster.facts import known
from ...cluster.facts.machine import ports
from ...cluster.facts.server.state import Record
from ...cluster.facts.snapshot import Snapshot
from ...cluster.server import log_paths, readiness, snapshots, targets
from ...cluster.sync.rsync import Copy
from ...session import Session
from .. import dev
from . import cooldown, health, launch, logs, preflight, stop, wait
from .lock import locked

CHANGED = ("memory", "processes", "ports")  # checks of what a stop changes


def run(
    session: Session, cluster: Cluster, timeout: float | None, with_sync: bool, follow: bool = False
) -> None:
    """Copy what is wanted, stop and start; with `follow` lines are shown until the first error."""
    if follow and envelope.current():
        raise BadInput("--json is for a restart that comes to an end: leave out --follow")
    config = session.context.config.get("dev", {})
    copy = None
    if with_sync:
        copy = dev.sync.wanted(config, state_dir=session.state_dir, has_options=False)
    bring = bringing(session, cluster, copy)
    if session.dry:
        bring()
        stop.run(session, cluster, "leader", False, None)
        launch.run(session, cluster)
    else:
        if follower := again(session, cluster, "tp.restart", timeout, bring, follow):
            logs.until_error(follower)


def bringing(session: Session, cluster: Cluster, copy: Copy | None) -> Callable[[], None]:
    """What copies to all nodes of the cluster, as a phase of the command."""

    def bring() -> None:
        if copy:
            with session.phase("copy"):
                dev.sync.run(session, [node.host for node in cluster.nodes], copy)

    return bring


def last(c: Context, with_: str | None = None, **given: object) -> Cluster:
    """The cluster that was started last, with what the options and arguments say over it."""
    session = sessions.of(c)
    assert session is not None, "a task of ours has one"
    return _built(session, session.cluster(given), given, with_)


def recorded(session: Session, cluster: Cluster) -> Cluster:
    """What was started last on the nodes of `cluster`, whatever would be started there now."""
    where = {"cluster": cluster.name}
    hosts = ",".join(node.name for node in cluster.nodes)
    where |= {"hosts": hosts} if cluster.source.startswith("--") else {"hostfile": cluster.source}
    # It waits for the lock as long as who watches was told to.
    return replace(_built(session, cluster, where, None), lock_wait=cluster.lock_wait)


def _built(
    session: Session, cluster: Cluster, given: Mapping[str, object], with_: str | None
) -> Cluster:
    record = _record(cluster)
    merged = {key: given.get(key) or each for key, each in _said(cluster, record).items()}
    engine = clusters.engine(session.settings, str(merged["engine"]))
    words = _arguments(record, engine.command, with_)
    made = session.build(words, **{**given, **merged})
    missing = sorted({*record.env} - {*made.env_names})
    if missing and record.keeps_env:
        names = sorted({*made.env_names, *missing})
        return replace(made, env_names=names, recalled=(record.run, missing))
    if missing:
        raise BadInput(
            f"it was started with a value for {', '.join(missing)}, which is kept nowhere"
            f" (tp.keep_env): give --env {missing[0]}=VALUE again"
        )
    return made


def _said(cluster: Cluster, record: Record) -> dict[str, object]:
    """Options by which a start would be that of the record; None where it is so without."""
    first = cluster.ranks[0]
    python = record.command[0]
    return {
        "backend": record.backend,
        "engine": record.engine,
        "num_ranks": str(record.size),
        # What a hostfile says of each host is left to it.
        "python": python if python != first.command[0] else None,
        "cwd": record.cwd if record.cwd != first.cwd else None,
        "log_dir": record.log_dir,
        "fast_synch": record.fast_synch,
    }


def _record(cluster: Cluster) -> Record:
    read = snapshots.states(cluster)
    name = cluster.leader.name
    if name in read.unreachable:
        why, fix = read.unreachable[name]
        raise Unreachable(f"{name}: {why}: {fix}")
    state = read.state(name)
    if state is None or 0 not in state.last:
        raise CheckFailed(f"{name}: no server was ever started there: inv tp.start")
    # With a stop the values are gone that a node has kept.
    is_stopped = state.wanted is not None and state.wanted.state == readiness.STOPPED
    return replace(state.last[0], keeps_env=state.last[0].keeps_env and not is_stopped)


def _arguments(record: Record, command: Sequence[str], with_: str | None) -> list[str]:
    """What follows `--` if anything does, else the arguments of the last start."""
    typed = server_arguments() if "--" in sys.argv else record.command[1 + len(command) :]
    try:
        return [*typed, *shlex.split(with_ or "")]
    except ValueError as error:
        raise BadInput(f"--with {with_!r}: {error}: quote it as for a shell") from None


def again(
    session: Session,
    cluster: Cluster,
    what: str,
    timeout: float | None = None,
    first: Callable[[], object] = lambda: None,
    follow: bool = False,
) -> logs.Follower | None:
    """Do `first`, stop what runs, cool down, check, start, wait for a token, all under one lock.

    What would keep the new server from running is found before the old one is stopped, as far as
    it can be. With `follow` the new run's lines are shown meanwhile: who shows what comes then.
    """
    with locked(session, cluster, what):
        first()
        later = [*CHANGED, "cooldown"]
        with session.phase("checks"):
            before = snapshots.ahead(cluster, later)
            preflight.check(session, cluster, later, read=before)
        _check_ports(cluster, before)
        begun = time.monotonic()
        with session.phase("stop"):
            after = stop.run(session, cluster, "leader", False, None, before=before, keep=True)
        cooldown.run(session, cluster)
        _check_again(session, cluster, begun, after)
        run = launch.run(session, cluster)
        session.known(cluster).last = before
        follower = None
        if follow:
            follower = logs.Follower(cluster, log_paths.place(cluster, before, run))
        wait.run(session, cluster, timeout, run, follower)
        health.run(session, cluster, None)
    return follower


def _check_again(session: Session, cluster: Cluster, begun: float, after: Snapshot | None) -> None:
    """The checks of what a stop has changed, by what it has read itself where that is good enough.

    Over RDMA a pause lay between; and what is not right may be just about to be.
    """
    rest = [name for name in checks.CHECKS if name not in CHANGED]
    is_whole = after and after.nodes.keys() == {node.name for node in cluster.nodes}
    if after is None or not is_whole or cluster.has_rdma or _fails(cluster, after, rest):
        preflight.run(session, cluster, ["model", "versions", "cooldown"])
        return
    preflight.check(session, cluster, rest, read=after)
    session.known(cluster).reading = begun, after


def _fails(cluster: Cluster, read: Snapshot, skip: Sequence[str]) -> bool:
    return any(each.level == checks.FAIL for each in preflight.judge(cluster, read, skip))


def _check_ports(cluster: Cluster, read: Snapshot) -> None:
    """Raise if another holds a port that the new server needs."""
    ours = {(target.node, target.pid) for target in targets.targets(cluster, read)}
    for node, values in read.nodes.items():
        taken = known(values, ports.KEY) or {}
        for port in cluster.expected.ports_on(node):
            # Pid 0 is one that the node does not tell: it may be ours.
            if others := [h for h in taken.get(port, ()) if h.pid and (node, h.pid) not in ours]:
                what = f"port {port} is held by {others[0]}, which is not ours"
                raise CheckFailed(f"{node}: {what}; nothing was changed")
