"""What inv tp.status does: what runs, in one word and a row per rank."""

import sys
import time
from collections.abc import Mapping, Sequence
from typing import TypedDict

from invoke.context import Context

from ... import session as sessions
from ...cli import envelope, screen
from ...cluster.checks.servers import is_of_another, servers, unrecorded
from ...cluster.cluster import Cluster
from ...cluster.config.ranks import FAST_SYNCH
from ...cluster.config.settings import DEFAULT
from ...cluster.errors import CheckFailed, Unreachable
from ...cluster.facts import Unknown, known
from ...cluster.facts.machine import processes
from ...cluster.facts.machine.memory import GIB
from ...cluster.facts.server import state
from ...cluster.facts.server.state import RankState
from ...cluster.facts.snapshot import Snapshot
from ...cluster.http.api import Api, ApiError
from ...cluster.server import readiness, snapshots
from ...cluster.server import wait as waiting
from ...cluster.server.readiness import Health
from ...cluster.ssh import background
from ...cluster.text import counted, one_line
from ...cluster.version import VERSION
from ...session import Session
from ..findings import unreachable
from .recorded import api_of

EVERY = "all"  # as a cluster's name
TOKEN_AGE = 60.0  # seconds that a token proves a server ready; then it is asked for another
TOKEN_LIMIT = 2.0  # seconds for that one: a server that is busy gives none
# Why, of these, is said in the error's line, or in the nodes' rows.
SAID_LATER = (*readiness.FAILED, readiness.UNASKED, readiness.UNKNOWN)


class RankRow(TypedDict):
    """A rank, or a process that no record knows (its rank is None)."""

    rank: int | None
    host: str
    pid: int | None
    state: str
    exit: str | None
    uptime: float | None
    memory: int | None


class Status(TypedDict):
    """The document of --json; `version` is that of these tasks."""

    state: str
    why: str
    url: str | None
    model: str | None
    engine: str
    fast_synch: str | None
    ranks: list[RankRow]
    unreachable: dict[str, str]
    later: dict[str, list[str]]
    version: str


def named(c: Context, cluster: str | None = None, **given: object) -> list[Cluster]:
    """The cluster that the options name; with `all` every one that is configured by name."""
    session = sessions.of(c)
    assert session is not None, "a task of ours has one"
    if cluster != EVERY:
        return [session.cluster({"cluster": cluster, **given})]
    configured = session.settings.get("clusters") or {}
    return [session.cluster({"cluster": name, **given}) for name in (DEFAULT, *configured)]


def run_all(session: Session, clusters: Sequence[Cluster]) -> None:
    """A row per cluster, asked all at once: how it does, what it serves; raise for the worst."""
    asked = {cluster.name: background.begin(_look, cluster) for cluster in clusters}
    with session.waiting.rows(_cluster_rows):
        session.waiting(asked, lambda done: {name: found for name, (found, _) in done.items()})
    told = {name: each.result() for name, each in asked.items()}
    found = {name: each for name, (each, _) in told.items()}
    lost = list(dict.fromkeys(node for _, nodes in told.values() for node in nodes))
    if not envelope.given({"clusters": found}):
        screen.table(_cluster_rows(found))
    if lost:
        raise Unreachable(f"{', '.join(lost)}: can't be reached")
    if bad := [n for n, f in found.items() if f["state"] in (*readiness.FAILED, readiness.UNASKED)]:
        raise CheckFailed(f"{', '.join(bad)}: inv tp.status --cluster {bad[0]} shows its ranks")


def _look(cluster: Cluster) -> tuple[Status, list[str]]:
    """What `summary` says of a cluster, and the nodes that gave no answer."""
    whole, read = snapshots.whole(cluster, snapshots.alive(cluster))
    return summary(whole, read), list(read.unreachable)


def _cluster_rows(found: Mapping[str, Status]) -> list[tuple[str, ...]]:
    return [_cluster_row(name, each) for name, each in found.items()]


def _cluster_row(name: str, found: Status) -> tuple[str, ...]:
    serves = found["url"] and found["state"] != readiness.STOPPED
    ranks = counted(len(found["ranks"]), "rank") if found["ranks"] else ""
    model = _model_name(found["model"]) if found["model"] else ""
    where = (serves and found["url"]) or found["why"]
    return found["state"], name, ranks, model, where


def run(session: Session, cluster: Cluster) -> None:
    """What runs, in one word and one row per rank; raise unless it is as it should be."""
    with session.waiting.rows(lambda read: _rank_rows(_recorded(read))):
        cluster, read = snapshots.whole(cluster, snapshots.alive(cluster))
    found = summary(cluster, read)
    if not envelope.given(found):
        _print_status(found)
    unreachable(read)
    if found["state"] in (*readiness.FAILED, readiness.UNASKED):
        raise CheckFailed(f"{found['state']}: {found['why']}")


def summary(cluster: Cluster, read: Snapshot) -> Status:
    """The server as one document: state, why, url, model, ranks, and nodes that gave no answer.

    `state` is a word of `readiness`, "unknown" where a node that may run a rank gave no answer;
    times are in seconds, memory in bytes.
    """
    ranks = _recorded(read)
    health = readiness.judge(read, readiness.size(read, len(ranks)))
    found: Status = {
        "state": health.state,
        "why": health.why,
        "url": None,
        "model": None,
        "engine": cluster.engine.name,
        "fast_synch": None,
        "ranks": ranks + _strangers(cluster, read),
        "unreachable": {node: ": ".join(filter(None, w)) for node, w in read.unreachable.items()},
        "later": {node: list(each.later) for node in read.nodes if (each := read.state(node))},
        "version": VERSION,
    }
    _complete(found, cluster, read, health)
    for node, values in read.nodes.items():
        for unknown in (values.get(state.KEY), values.get(processes.KEY)):
            if isinstance(unknown, Unknown):
                found.update({"state": "degraded", "why": f"{node}: {unknown.why}"})
    return found


def _complete(found: Status, cluster: Cluster, read: Snapshot, health: Health) -> None:
    """What is to be said beside the server's health, or changes it."""
    if health.state == readiness.UNKNOWN:
        found["why"] = f"no answer: {', '.join(read.unreachable)}"
    elif health.state not in readiness.FAILED and (why := readiness.suspended(read)):
        found.update({"state": readiness.DEGRADED, "why": why})
    elif health.state in (readiness.LOADING, readiness.READY):
        _serve(found, cluster, read, health)
    elif health.state in readiness.FAILED:
        found["why"] += "; clean up with inv tp.stop"
    elif any(unrecorded(cluster.expected, values) for values in read.nodes.values()):
        found.update({"state": "degraded", "why": "ranks without a record; inv tp.stop ends them"})


def _serve(found: Status, cluster: Cluster, read: Snapshot, health: Health) -> None:
    """Tell url and model of a server whose ranks have all met, and whether it gives a token."""
    node, first = read.ranks[0]
    record = first.record
    if first.rank != 0 or record is None:
        found.update({"state": readiness.DEGRADED, "why": "rank 0 has no record"})
        return
    api = api_of(cluster, node, record)
    model = record.model or _served_model(api)
    found.update({"url": api.url, "model": model, "fast_synch": record.fast_synch})
    state = read.state(node)
    if state and state.token is not None and state.now - state.token < TOKEN_AGE:
        return
    try:
        api.one_token(record.asked_by, cluster.engine.model, TOKEN_LIMIT)
    except ApiError as error:
        told = _without_token(health, error)
        found.update({"state": told.state, "why": told.why})
        return
    waiting.mark_ready(cluster, record.run)
    found.update({"state": readiness.READY, "why": ""})


def _without_token(health: Health, error: ApiError) -> Health:
    """How a server does that gave no token when it was asked for one."""
    if error.why.is_final:
        return Health(readiness.UNASKED, f"running, can't be asked: {error}")
    if health.state == readiness.LOADING:
        return health
    if error.is_timeout:
        return Health(health.state, f"no token within {TOKEN_LIMIT:g} s")
    return Health(readiness.DEGRADED, f"all ranks live, but there is no token: {error}")


def _served_model(api: Api) -> str | None:
    """What the server calls its model, where nobody has named one."""
    try:
        return next(iter(api.models(TOKEN_LIMIT)), None)
    except ApiError:
        return None


def _rank_row(read: Snapshot, node: str, rank: RankState) -> RankRow:
    listed = known(read.on(node), processes.KEY) or {}
    process = listed.get(rank.pid) if rank.alive and rank.pid else None
    started = rank.record.started if rank.record else None
    return {
        "rank": rank.rank,
        "host": node,
        "pid": rank.pid,
        "state": _rank_word(rank),
        "exit": None if rank.alive or not rank.pid else readiness.how_ended(read, node, rank),
        "uptime": max(time.time() - started, 0) if rank.alive and started else None,
        "memory": process.rss if process else None,
    }


def _rank_word(rank: RankState) -> str:
    if rank.alive:
        return "suspended" if rank.suspended else "running"
    return "dead" if rank.pid else "starting"


def _strangers(cluster: Cluster, read: Snapshot) -> list[RankRow]:
    """Ranks and servers that no record tells of: started by hand, or by other scripts."""
    ours = {(node, rank.pid) for node, rank in read.ranks if rank.alive}
    found: list[RankRow] = []
    for node, values in read.nodes.items():
        listed = known(values, processes.KEY) or {}
        pids = servers(cluster.engine, values) | unrecorded(cluster.expected, values)
        for pid in sorted(pids):
            if (node, pid) not in ours and not is_of_another(listed[pid], values):
                found.append(
                    {
                        "rank": None,
                        "host": node,
                        "pid": pid,
                        "state": "unrecorded",
                        "exit": None,
                        "uptime": None,
                        "memory": listed[pid].rss,
                    }
                )
    return found


def _print_status(found: Status) -> None:
    words = [screen.paint(found["state"], sys.stdout)]
    words += [one_line(found["why"])] if found["why"] and found["state"] not in SAID_LATER else []
    words += [_model_name(found["model"])] if found["model"] else []
    words += [one_line(found["url"])] if found["url"] and found["state"] != "stopped" else []
    synch = found["fast_synch"]
    words += [f"{FAST_SYNCH} {synch}"] if synch not in (None, "unset") else []
    screen.coloured("  ".join(words))
    rows = _rank_rows(found["ranks"])
    rows += [("not reached", "-", node, "", why, "") for node, why in found["unreachable"].items()]
    screen.table(rows)
    for node, lines in found["later"].items():
        for line in lines:
            screen.say(f"{node}: {line}")


def _recorded(read: Snapshot) -> list[RankRow]:
    return [_rank_row(read, node, rank) for node, rank in read.ranks]


def _rank_rows(ranks: Sequence[RankRow]) -> list[tuple[str, ...]]:
    return [
        (
            row["state"],
            "-" if row["rank"] is None else f"rank {row['rank']}",
            row["host"],
            f"pid {row['pid']}" if row["pid"] else "no pid",
            duration(row["uptime"]) if row["uptime"] is not None else (row["exit"] or ""),
            f"{row['memory'] / GIB:.2f} GiB" if row["memory"] else "",
        )
        for row in ranks
    ]


def _model_name(model: str) -> str:
    """A model as people call it: of a path its last part, of a Hugging Face name all."""
    is_path = model.startswith(("/", "~", "."))
    return one_line(model.rstrip("/").rpartition("/")[2] if is_path else model)


def duration(seconds: float) -> str:
    """Seconds as people say them: 42s, 3m10s, 5h02m, 2d03h."""
    days, rest = divmod(int(seconds), 86400)
    hours, rest = divmod(rest, 3600)
    minutes, rest = divmod(rest, 60)
    if days:
        return f"{days}d{hours:02d}h"
    if hours:
        return f"{hours}h{minutes:02d}m"
    return f"{minutes}m{rest:02d}s" if minutes else f"{rest}s"
