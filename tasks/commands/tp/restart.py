"""inv tp.restart: the server that was started last, as its record on rank 0's node tells it."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from invoke.context import Context

from ... import session as sessions
from ...cli.executor import server_arguments
from ...cluster import cluster as clusters
from ...cluster.cluster import Cluster
from ...cluster.errors import BadInput, CheckFailed, Unreachable
from ...cluster.facts.server.state import Record
from ...cluster.server import readiness, snapshots
from ...session import Session


def last(c: Context, with_: str | None = None, **given: Any) -> Cluster:
    """The cluster that was started last, with what the options and arguments say over it."""
    session = sessions.of(c)
    assert session is not None, "a task of ours has one"
    return _built(session, session.cluster(given), given, with_)


def recorded(session: Session, cluster: Cluster) -> Cluster:
    """What was started last on the nodes of `cluster`, whatever would be started there now."""
    where = {"cluster": cluster.name}
    hosts = ",".join(node.name for node in cluster.nodes)
    where |= {"hosts": hosts} if cluster.source.startswith("--") else {"hostfile": cluster.source}
    return _built(session, cluster, where, None)


def _built(
    session: Session, cluster: Cluster, given: Mapping[str, Any], with_: str | None
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
