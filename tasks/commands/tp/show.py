"""Reading and telling: preflight, status, memory and logs. Nothing here changes a node."""

from __future__ import annotations

import os
import re
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ...cli import envelope, screen
from ...cluster import checks
from ...cluster.checks import FAIL, Finding
from ...cluster.checks import memory as memory_checks
from ...cluster.checks.servers import servers, unrecorded
from ...cluster.cluster import Cluster
from ...cluster.config import engine
from ...cluster.config.ranks import FAST_SYNCH
from ...cluster.errors import ActionFailed, BadInput, CheckFailed, Unreachable
from ...cluster.facts import Unknown, known
from ...cluster.facts.machine import memory as memories
from ...cluster.facts.machine import processes
from ...cluster.facts.machine.memory import GIB
from ...cluster.facts.models import rates
from ...cluster.facts.server import state
from ...cluster.facts.server.state import RankState, Record
from ...cluster.facts.snapshot import Snapshot
from ...cluster.http.api import Api, ApiError
from ...cluster.known_errors.hints import exit_words
from ...cluster.server import audit_log as audit
from ...cluster.server import combined_log, logs, readiness, snapshots
from ...cluster.server import wait as waiting
from ...cluster.server.readiness import Health
from ...cluster.text import one_line

TOKEN_AGE = 60.0  # seconds that a token proves a server ready; then it is asked for another
TOKEN_LIMIT = 2.0  # seconds for that one: a server that is busy gives none
# Why, of these, is said in the error's line, or in the nodes' rows.
SAID_LATER = (*readiness.FAILED, readiness.UNASKED, readiness.UNKNOWN)


def preflight(
    cluster: Cluster,
    skip: Sequence[str],
    as_json: bool,
    is_result: bool = False,
    read: Snapshot | None = None,
) -> Snapshot:
    """Judge every node; raise CheckFailed or Unreachable when the server must not be started.

    The table is narration of a start, or the result where nothing else was asked for. `read` is
    what was asked for by these checks, where it has just been read.
    """
    read = read or snapshots.preflight(cluster, skip)
    findings = judge(cluster, read, skip)
    if as_json:
        envelope.give({}, findings)
    else:
        screen.table(rows(findings), sys.stdout if is_result else sys.stderr)
    failed = [finding for finding in findings if finding.level == FAIL]
    unreachable(read)
    if failed:
        count = f"{len(failed)} check{'s' * (len(failed) > 1)} failed"
        raise CheckFailed(f"preflight: {count}, nothing was changed")
    return read


def judge(cluster: Cluster, read: Snapshot, skip: Sequence[str]) -> list[Finding]:
    """The findings of all checks that are not skipped, unreachable nodes first."""
    findings = lost(read)
    for name, check in checks.CHECKS.items():
        if name not in skip:
            findings += check.findings(cluster.expected, read)
    return findings


def lost(read: Snapshot) -> list[Finding]:
    """A finding per node that could not be reached."""
    return [
        Finding("reachable", FAIL, node, why, fix) for node, (why, fix) in read.unreachable.items()
    ]


def leader(read: Snapshot) -> tuple[str, RankState, Record]:
    """Rank 0 of the recorded server, with its node; raise with what to do if none is recorded."""
    for node, rank in read.ranks:
        if rank.rank == 0 and rank.record:
            return node, rank, rank.record
    unreachable(read)
    raise CheckFailed("no server is recorded: inv tp.start")


def tell_fewer(cluster: Cluster, read: Snapshot, model: str | None) -> None:
    """Say where fewer ranks were faster with this model, by what tp.bench has measured."""
    kept = known(read.on(cluster.leader.name), rates.KEY) or ()
    said = rates.fewer(kept, model or "", len(cluster.ranks), cluster.backend)
    if said:
        screen.say(said)


def unreachable(read: Snapshot) -> None:
    """Raise Unreachable if a node did not answer."""
    if read.unreachable:
        names = ", ".join(read.unreachable)
        raise Unreachable(f"{names}: can't be reached, see above")


def memory(cluster: Cluster, as_json: bool) -> None:
    """Wired memory per node against the limit."""
    read = snapshots.running(cluster)
    findings = memory_checks.memory(cluster.expected, read)
    findings += [Finding("memory", FAIL, node, *why) for node, why in read.unreachable.items()]
    if as_json:
        envelope.give({"nodes": _sizes(read)}, findings)
    else:
        rows = [(each.level, each.node, with_fix(each)) for each in findings]
        screen.table(rows)
    unreachable(read)
    if any(finding.level == FAIL for finding in findings):
        raise CheckFailed("memory: too much is wired")


def _sizes(read: Snapshot) -> dict[str, dict[str, int | None]]:
    """Node -> its memory in bytes, as far as it is known; `baseline` is this boot's before ours."""
    found = {}
    for node, values in read.nodes.items():
        memory, state = known(values, memories.KEY), read.state(node)
        found[node] = {
            "wired": memory.wired if memory else None,
            "total": memory.total if memory else None,
            "baseline": state.baseline if state else None,
        }
    return found


def status(cluster: Cluster, as_json: bool) -> None:
    """What runs, in one word and one row per rank; raise unless it is as it should be."""
    cluster, read = snapshots.whole(cluster, snapshots.alive(cluster))
    found = summary(cluster, read)
    if as_json:
        envelope.give(found)
    else:
        _print_status(found)
    unreachable(read)
    if found["state"] in (*readiness.FAILED, readiness.UNASKED):
        raise CheckFailed(f"{found['state']}: {found['why']}")


def summary(cluster: Cluster, read: Snapshot) -> dict[str, Any]:
    """The server as one document: state, why, url, model, ranks, and nodes that gave no answer.

    `state` is a word of `readiness`, "unknown" where a node that may run a rank gave no answer;
    times are in seconds, memory in bytes.
    """
    ranks = [_rank_row(read, node, rank) for node, rank in read.ranks]
    strangers = _strangers(cluster, read)
    found: dict[str, Any] = {
        "state": "stopped",
        "why": "",
        "url": None,
        "model": None,
        "engine": cluster.engine.name,
        "fast_synch": None,
        "ranks": ranks + strangers,
        "unreachable": {node: ": ".join(filter(None, w)) for node, w in read.unreachable.items()},
        "later": {node: list(each.later) for node in read.nodes if (each := read.state(node))},
    }
    health = readiness.judge(read, readiness.size(read, len(ranks)))
    found.update(state=health.state, why=health.why)
    if health.state == readiness.UNKNOWN:
        found["why"] = f"no answer: {', '.join(read.unreachable)}"
    elif health.state in (readiness.LOADING, readiness.READY):
        found.update(_serving(cluster, read, health))
    elif health.state in readiness.FAILED:
        found["why"] += "; clean up with inv tp.stop"
    elif any(unrecorded(cluster.expected, values) for values in read.nodes.values()):
        found.update(state="degraded", why="ranks without a record; inv tp.stop ends them")
    for node, values in read.nodes.items():
        for unknown in (values.get(state.KEY), values.get(processes.KEY)):
            if isinstance(unknown, Unknown):
                found.update(state="degraded", why=f"{node}: {unknown.why}")
    return found


def api_of(cluster: Cluster, node: str, record: Record) -> Api:
    """The HTTP side of a recorded server, wherever it was told to listen."""
    home = next(each for each in cluster.nodes if each.name == node)
    return Api(home, record.bind, record.port, engine.key(record.command) or cluster.api_key)


def _serving(cluster: Cluster, read: Snapshot, health: Health) -> dict[str, object]:
    """State, why, url and model of a server whose ranks have all met."""
    node, first = read.ranks[0]
    record = first.record
    if first.rank != 0 or record is None:
        return {"state": "degraded", "why": "rank 0 has no record"}
    api = api_of(cluster, node, record)
    found: dict[str, object] = {
        "url": api.url,
        "model": record.model or _served_model(api),
        "fast_synch": record.fast_synch,
    }
    state = read.state(node)
    if state and state.token is not None and state.now - state.token < TOKEN_AGE:
        return found
    try:
        api.one_token(record.asked_by, cluster.engine.model, TOKEN_LIMIT)
    except ApiError as error:
        if error.why.is_final:
            why = f"running, can't be asked: {error}"
            return {**found, "state": readiness.UNASKED, "why": why}
        if health.state == readiness.LOADING:
            return found
        if error.is_timeout:
            return {**found, "why": f"no token within {TOKEN_LIMIT:g} s"}
        why = f"all ranks live, but there is no token: {error}"
        return {**found, "state": readiness.DEGRADED, "why": why}
    waiting.mark_ready(cluster, record.run)
    return {**found, "state": readiness.READY, "why": ""}


def _served_model(api: Api) -> str | None:
    """What the server calls its model, where nobody has named one."""
    try:
        return next(iter(api.models(TOKEN_LIMIT)), None)
    except ApiError:
        return None


def _rank_row(read: Snapshot, node: str, rank: RankState) -> dict[str, Any]:
    listed = known(read.on(node), processes.KEY) or {}
    process = listed.get(rank.pid) if rank.alive and rank.pid else None
    started = rank.record.started if rank.record else None
    return {
        "rank": rank.rank,
        "host": node,
        "pid": rank.pid,
        "state": "running" if rank.alive else "dead" if rank.pid else "starting",
        "exit": None if rank.alive or not rank.pid else exit_words(rank.exit),
        "uptime": max(time.time() - started, 0) if rank.alive and started else None,
        "memory": process.rss if process else None,
    }


def _strangers(cluster: Cluster, read: Snapshot) -> list[dict[str, Any]]:
    """Ranks and servers that no record tells of: started by hand, or by other scripts."""
    ours = {(node, rank.pid) for node, rank in read.ranks if rank.alive}
    found = []
    for node, values in read.nodes.items():
        listed = known(values, processes.KEY) or {}
        pids = servers(cluster.engine, values) | unrecorded(cluster.expected, values)
        for pid in sorted(pids):
            if (node, pid) not in ours:
                row = {"rank": None, "host": node, "pid": pid, "state": "unrecorded"}
                memory = listed[pid].rss
                found.append({**row, "exit": None, "uptime": None, "memory": memory})
    return found


def _print_status(found: Mapping[str, Any]) -> None:
    words = [screen.paint(found["state"], sys.stdout)]
    words += [one_line(found["why"])] if found["why"] and found["state"] not in SAID_LATER else []
    words += [one_line(found["model"])] if found["model"] else []
    words += [one_line(found["url"])] if found["url"] and found["state"] != "stopped" else []
    words += [f"{FAST_SYNCH} {found['fast_synch']}"] if _is_set(found["fast_synch"]) else []
    screen.coloured("  ".join(words))
    rows = [
        (
            row["state"],
            "-" if row["rank"] is None else f"rank {row['rank']}",
            row["host"],
            f"pid {row['pid']}" if row["pid"] else "no pid",
            duration(row["uptime"]) if row["uptime"] is not None else (row["exit"] or ""),
            f"{row['memory'] / GIB:.2f} GiB" if row["memory"] else "",
        )
        for row in found["ranks"]
    ]
    rows += [("not reached", "-", node, "", why, "") for node, why in found["unreachable"].items()]
    screen.table(rows)
    for node, lines in found["later"].items():
        for line in lines:
            screen.say(f"{node}: {line}")


def _is_set(fast_synch: str | None) -> bool:
    return fast_synch not in (None, "unset")


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


def show_logs(
    cluster: Cluster,
    follow: bool,
    lines: int,
    rank: int | None,
    grep: str | None,
    previous: int | None,
) -> None:
    """The last run in the combined log, with `follow` until Ctrl-C; or an earlier run."""
    try:
        re.compile(grep or "")
    except re.error as error:
        raise BadInput(f"--grep {grep!r}: no regular expression ({error})") from None
    if previous and follow:
        raise BadInput("--follow shows what comes, --previous what was: give one of them")
    read = snapshots.states(cluster)
    where = logs.place(cluster, read)
    if previous:
        failed = _previous(cluster, read, previous, lines, rank, grep)
    else:
        taken = logs.collect(cluster, where)
        failed = taken.failed
        for line in combined_log.tail(where.combined, lines, rank, grep):
            screen.log_line(line)
        tell_left(taken)
        if taken.unwritten:
            raise ActionFailed(taken.unwritten)
    if follow:
        _follow(cluster, where, rank, grep)
    if failed:
        raise Unreachable("; ".join(f"{node}: {why}" for node, why in failed.items()))


def tell_left(taken: logs.Collected) -> None:
    """What of the logs was not collected."""
    for (node, rank), size in taken.left.items():
        what = f"{memories.in_words(size)} of rank {rank}'s log were passed over"
        screen.say(f"{what}: {node} has what is kept of them")


def _previous(
    cluster: Cluster, read: Snapshot, number: int, lines: int, rank: int | None, grep: str | None
) -> Mapping[str, str]:
    """An earlier run as its nodes have kept it, rank after rank; node -> why, where it failed."""
    with tempfile.TemporaryDirectory() as folder:
        old, failed = logs.earlier(cluster, read, number, Path(folder))
        taken = logs.collect(cluster, old, final=True)
        failed.update(taken.failed)
        if taken.unwritten:
            raise ActionFailed(taken.unwritten)
        for each in sorted(each for _, each in old.paths):
            if rank in (None, each):
                for line in combined_log.tail(old.combined, lines, each, grep):
                    screen.log_line(line)
        tell_left(taken)
    return failed


def audit_log(cluster: Cluster, lines: int, as_json: bool) -> None:
    """The last actions of all nodes by time, a row each with the nodes that it was on."""
    read = snapshots.read(cluster.nodes, lambda node: [audit.fact(cluster.state_dir, lines)])
    found = audit.merged(read.nodes, lines)
    told = {node: each.get(audit.KEY) for node, each in read.nodes.items()}
    unread = {node: each.why for node, each in told.items() if isinstance(each, Unknown)}
    lost_nodes = {node: ": ".join(filter(None, why)) for node, why in read.unreachable.items()}
    if as_json:
        actions = [{**asdict(entry), "nodes": names} for entry, names in found]
        envelope.give({"actions": actions, "unreachable": {**lost_nodes, **unread}})
    else:
        rows = [(e.outcome, e.time, ",".join(names), e.who, e.what) for e, names in found]
        rows += [("not reached", "", node, why, "") for node, why in lost_nodes.items()]
        screen.table([*rows, *(("unknown", "", node, why, "") for node, why in unread.items())])
    unreachable(read)
    if unread:
        raise CheckFailed(f"{', '.join(unread)}: the audit log can't be read")


def _follow(cluster: Cluster, where: logs.Place, rank: int | None, grep: str | None) -> None:
    with where.combined.open("rb") as file:
        file.seek(0, 2)
        while True:
            # What has come is shown before more is asked for, however much that is.
            taken = logs.collect(cluster, where, stream=True)
            if taken.unwritten:
                raise ActionFailed(taken.unwritten)
            if file.tell() > os.fstat(file.fileno()).st_size:  # it was shortened
                file.seek(0)
            for line in combined_log.select(file, rank, grep):
                screen.log_line(line)
            if taken.is_all:
                time.sleep(0.3)


def rows(findings: Sequence[Finding]) -> list[tuple[str, ...]]:
    """A row per check where all nodes agree that it is fine, else a row per node."""
    made: list[tuple[str, ...]] = []
    for check in dict.fromkeys(each.check for each in findings):
        of_check = [each for each in findings if each.check == check]
        same = {(each.level, each.what) for each in of_check}
        if len(same) == 1 and of_check[0].level != FAIL:
            nodes = of_check[0].node if len(of_check) == 1 else f"{len(of_check)} nodes"
            made.append((of_check[0].level, check, nodes, with_fix(of_check[0])))
        else:
            made += [(each.level, check, each.node, with_fix(each)) for each in of_check]
    return made


def with_fix(finding: Finding) -> str:
    return f"{finding.what}: {finding.fix}" if finding.fix else finding.what
