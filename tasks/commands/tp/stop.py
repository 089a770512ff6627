"""What inv tp.stop does: what is ours is stopped in order, and memory looked at."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from ...cli import envelope, screen
from ...cluster import checks
from ...cluster.checks import memory as memory_checks
from ...cluster.checks import ports as ports_checks
from ...cluster.checks import rdma
from ...cluster.cluster import Cluster
from ...cluster.errors import ActionFailed, BadInput, CheckFailed, Unreachable
from ...cluster.facts import known
from ...cluster.facts.machine import memory, ports, processes
from ...cluster.facts.snapshot import FactQuery, Snapshot
from ...cluster.server import fence, lock, snapshots, targets
from ...cluster.server import stop as stopping
from ...cluster.server import strangers as not_ours
from ...cluster.server.stop import StopReport
from ...session import Session
from ..findings import unreachable
from .lock import noted
from .logs import collect


def run(
    session: Session,
    cluster: Cluster,
    order: str,
    force: bool,
    timeout: float | None,
    everything: bool = False,
    yes: bool = False,
    before: Snapshot | None = None,
    keep: bool = False,
) -> Snapshot | None:
    """Stop what is ours and tell, per node, what was done and what memory says now.

    With `everything` all servers of the engine, after a question unless `yes`; `before` is what
    runs, where it has just been read; `keep` is for a start that follows. What runs then, where it
    was read.
    """
    if session.dry:
        _print_stop(cluster, order, force, everything)
        return None
    if everything and not yes:
        _ask(cluster)
    what = f"tp.stop{' --force' * force}{' --all' * everything}"
    _hold_to_stop(session, cluster)
    try:
        with noted(session, cluster, what):
            cluster, before = snapshots.whole(cluster, before or snapshots.alive(cluster))
            return _stop(session, cluster, before, order, force, timeout, everything, keep)
    except KeyboardInterrupt:
        screen.say("\nmaybe not all is stopped: inv tp.status tells, inv tp.stop goes on")
        raise
    finally:
        session.lock.release(cluster)


def _hold_to_stop(session: Session, cluster: Cluster) -> None:
    """Only another command at work keeps us from stopping a server; a lock that fails does not."""
    try:
        session.lock.hold(cluster, "tp.stop", session.say)
    except lock.LockHeld:
        raise
    except (ActionFailed, CheckFailed, Unreachable) as error:
        screen.say(f"warn: stopping without the lock: {error.message}")
        lock.take_over(cluster, "tp.stop")


def _ask(cluster: Cluster) -> None:
    """Show all that --all would end, and ask; raise unless it is wanted."""
    if not sys.stdin.isatty():
        raise BadInput("there is no terminal to ask on: see it with --dry-run, then add --yes")
    read = snapshots.alive(cluster)
    unreachable(read)
    found = targets.targets(cluster, read, everything=True)
    for target in found:
        command = (known(read.on(target.node), processes.KEY) or {}).get(target.pid)
        words = not_ours.shown(command) if command else ""
        screen.say(f"{target.node}: {target.label} (pid {target.pid}) {words}".rstrip())
    if not found:
        return
    if not screen.is_agreed(f"end {'it' if len(found) == 1 else f'all {len(found)}'}"):
        raise CheckFailed("nothing was stopped")


def _stop(
    session: Session,
    cluster: Cluster,
    before: Snapshot,
    order: str,
    force: bool,
    timeout: float | None,
    everything: bool,
    keep: bool,
) -> Snapshot:
    reports = end(
        session, cluster, order=order, force=force, timeout=timeout, read=before,
        everything=everything, tell=screen.say,
    )  # fmt: skip
    after = finish(session, cluster, before, reports, keep=keep)
    wired = memory_checks.memory(cluster.expected, after)
    is_done = not any(report.left or report.failure for report in reports)
    strangers = not_ours.strangers(cluster, before, after) if is_done else []
    # A port that is taken is a stranger's, and told as such; one of which nothing is known is not.
    unread = {node for node, values in after.nodes.items() if known(values, ports.KEY) is None}
    found = [*ports_checks.ports(cluster.expected, after), *rdma.domains(cluster.expected, after)]
    findings = [*wired, *(each for each in found if each.check != "ports" or each.node in unread)]
    if not envelope.given(_stop_document(reports, strangers, after), findings):
        _print_reports(reports, wired)
    _notices(cluster, reports, findings)
    for each in strangers:
        screen.say(f"not ours, left alone: {each}")
    _judge_stop(reports, strangers)
    return after


def end(session: Session, cluster: Cluster, **how: Any) -> list[StopReport]:
    """Stop ranks; what had to be killed, and why, is noted on its node."""
    reports = stopping.stop(cluster, **how)
    by_name = {node.name: node for node in cluster.nodes}
    for report in reports:
        if report.killed:
            what = f"SIGKILL to {', '.join(report.killed)}: {report.why}"
            session.audit.record([by_name[report.node]], cluster.state_dir, what)
    return reports


def finish(
    session: Session,
    cluster: Cluster,
    before: Snapshot,
    reports: Sequence[StopReport],
    run: str | None = None,
    keep: bool = False,
) -> Snapshot:
    """Collect the logs, forget the records (of `run`), read what runs now: one round trip.

    A node that did not answer before is not waited for again: it would hold up all once more.
    """
    session.known(cluster).forget()
    # Where only a run's ranks were stopped, nobody asks what runs besides.
    wanted = (lambda node: []) if run else snapshots.running_facts(cluster)
    lost = {report.node for report in reports if report.failure}
    query = FactQuery.of([node for node in cluster.nodes if node.name not in lost], wanted)
    forget = stopping.forget_scripts(cluster, reports, run, keep)
    beside = {
        name: f"(\n{forget.get(name, ':')}\n)\n{script}" for name, script in query.scripts.items()
    }
    answers = collect(cluster, before, final=True, beside=beside)
    fence.check(answers)
    return query.snapshot(answers)


def left_on(nodes: Sequence[str]) -> str:
    """What is known of nodes on which ranks could not be stopped; "" for none."""
    return f"{', '.join(nodes)}: maybe ranks are left: inv tp.stop" if nodes else ""


def stop_quietly(session: Session, cluster: Cluster, run: str | None) -> list[str]:
    """Stop what this start has started, say only what went wrong; the nodes where it did."""
    cluster, before = snapshots.whole(cluster, snapshots.alive(cluster))
    reports = end(session, cluster, run=run, read=before)
    finish(session, cluster, before, reports, run)
    failed = [report for report in reports if report.left or report.failure]
    for report in failed:
        screen.say(f"{report.node}: {report.word} {', '.join(report.left)} {report.failure}")
    return [report.node for report in failed]


def _print_stop(cluster: Cluster, order: str, force: bool, everything: bool) -> None:
    cluster, read = snapshots.whole(cluster, snapshots.alive(cluster))
    found = targets.targets(cluster, read, everything=everything)
    for target in found:
        first = target.is_leader and order == "leader" and not force
        name = "KILL" if force else target.signal if first else "TERM"
        when = "first" if first else "then, if it is left"
        when = when if order == "leader" and not force else "at once"
        screen.out(f"kill -{name} {target.pid}  # {target.node}: {target.label}, {when}")
    if not found:
        screen.out("# nothing runs")
    unreachable(read)


def _print_reports(reports: Sequence[StopReport], findings: Sequence[checks.Finding]) -> None:
    memory = {finding.node: finding.what for finding in findings}
    rows = []
    for report in reports:
        what = report.failure or report.labels
        rows.append((report.word, report.node, what, memory.get(report.node, "")))
    screen.table(rows)


def _notices(
    cluster: Cluster, reports: Sequence[StopReport], findings: Sequence[checks.Finding]
) -> None:
    for finding in findings:
        if finding.level != checks.OK:
            screen.say(f"{finding.level}: {finding.node}: {finding.what}: {finding.fix}")
    killed = [report.node for report in reports if report.killed]
    if killed and cluster.has_rdma:
        screen.say(f"cooldown: the next start waits {cluster.cooldown:g} s ({', '.join(killed)})")


def _judge_stop(reports: Sequence[StopReport], strangers: Sequence[not_ours.Stranger]) -> None:
    lost = [report.node for report in reports if report.failure]
    left = [f"{report.node}: {', '.join(report.left)}" for report in reports if report.left]
    if lost:
        raise Unreachable(f"{', '.join(lost)}: can't tell whether all is stopped there")
    if left:
        raise ActionFailed(f"still running: {'; '.join(left)}: is it another user's?")
    if not any(report.labels for report in reports):
        screen.say("nothing was running")
    if held := [each for each in strangers if each.port]:
        fix = "end it there, or take another port; inv tp.stop --all ends servers of this engine"
        raise CheckFailed(f"{held[0].node}: port {held[0].port} is held by what is not ours: {fix}")


def _stop_document(
    reports: Sequence[StopReport], strangers: Sequence[not_ours.Stranger], after: Snapshot
) -> Mapping[str, object]:
    def wired(node: str) -> int | None:
        value = known(after.on(node), memory.KEY)
        return value.wired if value else None

    return {
        "nodes": [
            {**asdict(report), "state": report.word, "wired": wired(report.node)}
            for report in reports
        ],
        "strangers": [asdict(each) for each in strangers],
    }
