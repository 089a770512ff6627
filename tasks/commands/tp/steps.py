"""Acting and telling: the steps of tp.start and tp.stop, each usable alone."""

from __future__ import annotations

import io
import json
import shlex
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import asdict
from functools import partial
from importlib import import_module
from typing import Any

from ...cli import envelope, screen, signals
from ...cluster import checks
from ...cluster.checks import FAIL, cooldown, rdma
from ...cluster.checks import memory as memory_checks
from ...cluster.checks import ports as ports_checks
from ...cluster.cluster import Cluster
from ...cluster.config import engine
from ...cluster.config.ranks import FAST_SYNCH, Rank, fast_synch_of, how_many
from ...cluster.errors import ActionFailed, BadInput, CheckFailed, Unreachable
from ...cluster.facts import known
from ...cluster.facts.machine import memory, ports, processes
from ...cluster.facts.snapshot import FactQuery, Snapshot
from ...cluster.http.api import Api, ApiError
from ...cluster.http.failure import Why
from ...cluster.known_errors import hints
from ...cluster.server import fence, lock, logs, readiness
from ...cluster.server import launch as launching
from ...cluster.server import snapshots as reading
from ...cluster.server import stop as stopping
from ...cluster.server import wait as waiting
from ...cluster.server.launch import Run
from ...cluster.server.stop import Stopped
from ...cluster.ssh import background, nodes
from ...cluster.ssh.node import Answer
from ...session import Session
from . import show

HEALTH_TIMEOUT = 60  # seconds for one token: the first one may compile kernels
CHANGED = ("memory", "processes", "ports")  # checks of what a stop changes
SECOND = 3.0  # seconds in which a second Ctrl-C stops a server that the first left as it is


def preflight(
    session: Session,
    cluster: Cluster,
    skip: Sequence[str],
    as_json: bool,
    is_result: bool = False,
) -> None:
    """All checks; under our lock what was read is kept for the steps that follow."""
    if not cluster.leader.host.is_local:
        # While the nodes are at it; on this machine nothing waits for it before the ranks do.
        background.begin(import_module, "requests")
    begun = time.monotonic()
    read = show.preflight(cluster, skip, as_json, is_result)
    session.known(cluster).reading = begun, read


def cooling(session: Session, cluster: Cluster) -> float:
    """Seconds that a start still has to wait, over all nodes: none without RDMA."""
    if not cluster.has_rdma:
        return 0.0
    begun = time.monotonic()
    begun, read = session.known(cluster).reading or (begun, reading.states(cluster))
    found = [read.state(node) for node in read.nodes]
    left = max((cooldown.cooling(each, cluster.cooldown) for each in found if each), default=0.0)
    return left - (time.monotonic() - begun) if left else 0.0


def hold(session: Session, cluster: Cluster, what: str) -> None:
    """Take the lock for `what`; a node that gives no answer is left to the checks to tell."""
    with suppress(Unreachable):
        session.lock.hold(cluster, what, session.say)


@contextmanager
def locked(session: Session, cluster: Cluster, what: str) -> Iterator[None]:
    """The lock for `what` while it lasts, noted on the nodes; nothing where nothing will change."""
    if session.dry:
        yield
        return
    server = f"{cluster.engine.name} over {cluster.backend}, {len(cluster.ranks)} ranks"
    line = _recorded(session, cluster, f"{what}: {server}")
    with session.lock.held(cluster, what, session.say), line:
        yield


def _recorded(session: Session, cluster: Cluster, what: str) -> AbstractContextManager[None]:
    """A line of what was done, and how it ended, in the nodes' audit logs."""
    return session.audit.recorded(cluster.nodes, cluster.state_dir, what)


def unlock(session: Session, cluster: Cluster) -> None:
    """Remove the lock and tell whose it was."""
    name = cluster.leader.name
    if session.dry:
        screen.out(f"rm -rf {cluster.folder}/lock  # on {name}")
        return
    was, missed = lock.unlock(cluster)
    what = f"tp.unlock: {was or 'there was no lock'}"
    session.audit.record([cluster.leader], cluster.state_dir, what)
    if was is None:
        screen.out(f"{name}: there is no lock")
    else:
        screen.out(f"{name}: removed the lock of {was}" + (f": {was.gone}" if was.gone else ""))
    if missed:
        why = "can't be reached: there, whoever had the lock may still act"
        raise Unreachable(f"{', '.join(missed)}: {why}")


def again(
    session: Session,
    cluster: Cluster,
    what: str,
    timeout: float | None = None,
    first: Callable[[], object] = lambda: None,
) -> None:
    """Do `first`, stop what runs, cool down, check, start, wait for a token, all under one lock.

    What would keep the new server from running is found before the old one is stopped, as far as
    it can be.
    """
    with locked(session, cluster, what):
        first()
        later = [*CHANGED, "cooldown"]
        before = reading.ahead(cluster, later)
        show.preflight(cluster, later, False, read=before)
        _check_ports(cluster, before)
        begun = time.monotonic()
        after = stop(session, cluster, "leader", False, None, False, before=before, keep=True)
        cool(session, cluster)
        _preflight_again(session, cluster, begun, after)
        run = launch(session, cluster)
        session.known(cluster).last = before
        wait(session, cluster, timeout, run)
        health(session, cluster, None)


def _preflight_again(
    session: Session, cluster: Cluster, begun: float, after: Snapshot | None
) -> None:
    """The checks of what a stop has changed, by what it has read itself where that is good enough.

    Over RDMA a pause lay between; and what is not right may be just about to be.
    """
    rest = [name for name in checks.CHECKS if name not in CHANGED]
    is_whole = after and after.nodes.keys() == {node.name for node in cluster.nodes}
    if after is None or not is_whole or cluster.has_rdma or _fails(cluster, after, rest):
        preflight(session, cluster, ["model", "versions", "cooldown"], False)
        return
    show.preflight(cluster, rest, False, read=after)
    session.known(cluster).reading = begun, after


def _fails(cluster: Cluster, read: Snapshot, skip: Sequence[str]) -> bool:
    return any(each.level == FAIL for each in show.judge(cluster, read, skip))


def _check_ports(cluster: Cluster, read: Snapshot) -> None:
    """Raise if another holds a port that the new server needs."""
    ours = {(target.node, target.pid) for target in stopping.targets(cluster, read)}
    for node, values in read.nodes.items():
        taken = known(values, ports.KEY) or {}
        for port in cluster.expected.ports_on(node):
            # Pid 0 is one that the node does not tell: it may be ours.
            others = [h for h in taken.get(port, ()) if h.pid and (node, h.pid) not in ours]
            if others:
                what = f"port {port} is held by {others[0]}, which is not ours"
                raise CheckFailed(f"{node}: {what}; nothing was changed")


def cool(session: Session, cluster: Cluster) -> None:
    """Wait out what is left of the cooldown, with a countdown."""
    left = cooling(session, cluster)
    if left <= 0:
        return
    if session.dry:
        screen.out(f"# would wait {left:.0f} s: a rank has ended without clean-up lately")
        return
    screen.say(f"cooldown: a rank has ended without clean-up lately, waiting {left:.0f} s")
    end = time.monotonic() + left
    while time.monotonic() < end:
        time.sleep(min(5.0, max(end - time.monotonic(), 0)))
        if time.monotonic() < end:
            screen.say(f"cooldown: {end - time.monotonic():.0f} s left")


def launch(session: Session, cluster: Cluster) -> str:
    """Start all ranks, give the run's id; if one can't be started, the others are stopped."""
    run = Run.new()
    if session.dry:
        _print_scripts(cluster, run)
        return run.id
    _check_way(cluster)
    count, synch = how_many(len(cluster.ranks)), _fast_synch(cluster)
    screen.say(f"starting {count} of {cluster.engine.name} over {cluster.backend}{synch}")
    session.note(run=run.id)
    _point_out(cluster)
    known = session.known(cluster)
    _tell_stale_cache(cluster, known.reading)
    known.last = known.reading and known.reading[1]
    known.forget()
    try:
        launching.launch(cluster, run)
        known.started = run.id
    except (ActionFailed, CheckFailed, Unreachable) as error:
        left = _stop_quietly(session, cluster, run.id)
        raise type(error)(
            f"{error.message}; {_left(left) or 'nothing of this start is left'}"
        ) from None
    except KeyboardInterrupt:
        _undo(session, cluster, run.id)
        raise
    return run.id


def _tell_stale_cache(cluster: Cluster, reading: tuple[float, Snapshot] | None) -> None:
    state = reading and reading[1].state(cluster.leader.name)
    before = state.last.get(0) if state else None
    if before and before.engine == cluster.engine.name:
        size = len(cluster.ranks)
        told = engine.stale_cache(cluster.engine, cluster.args, before.size, size)
        if told:
            screen.say(told)


def _fast_synch(cluster: Cluster) -> str:
    """What MLX_METAL_FAST_SYNCH is, where RDMA makes it matter or somebody has set it."""
    value = fast_synch_of(cluster.ranks[0].env)
    matters = value != "unset" or cluster.backend.startswith("jaccl")
    return f", {FAST_SYNCH} {value}" if matters else ""


def _check_way(cluster: Cluster) -> None:
    """Raise CheckFailed where no request could ever reach the server, before a rank is started."""
    if cluster.leader.host.is_local:
        return
    found = Api.of(cluster).page(cluster.engine.ready)
    if found and found.why is Why.NO_WAY:
        raise CheckFailed(f"{cluster.leader.name}: {found}; nothing was started")


def _point_out(cluster: Cluster) -> None:
    """Say who else can use the server, if anybody can."""
    said = engine.exposure(cluster.args, cluster.bind, cluster.http_port, cluster.leader.name)
    if said:
        screen.say(said)


def wait(session: Session, cluster: Cluster, timeout: float | None, run: str | None = None) -> None:
    """Wait until ready; a dead rank or the timeout is told with its cause.

    With `run` only ranks of that start count, and if it fails they are stopped; without one it is
    the recorded server, which is left as it is.
    """
    seconds = timeout or cluster.timeout
    api = Api.of(cluster) if run else recorded(cluster)
    _ = api.session  # a key that is not where it should be is told before anything is waited for
    try:
        with screen.progress() as display:
            ready = waiting.until_ready(cluster, api, seconds, display, run)
        screen.say(f"ready after {ready.seconds:.1f} s")
        known = session.known(cluster)
        if run and run == known.started:  # health wants one more, which need not wait for the logs
            known.proof = background.begin(_token, cluster, api, timeout or HEALTH_TIMEOUT)
        _note_ready(cluster, run)
    except waiting.UnaskedError as found:
        raise _unasked(found.why) from None
    except waiting.NotReadyError as failure:
        if run is None:
            raise ActionFailed(f"{_not_ready(failure)}: inv tp.logs, inv tp.stop") from None
        raise _failed(session, cluster, failure, run) from None
    except KeyboardInterrupt as error:
        _leave(session, cluster, error, run)
        raise


def _unasked(why: ApiError) -> ActionFailed:
    """The error for a server that lives, and that nobody can ask: it is left as it is."""
    after = "the server is left as it is; then inv tp.wait and inv tp.health, or inv tp.stop"
    return ActionFailed(f"running, can't be asked: {why}; {after}")


def _note_ready(cluster: Cluster, run: str | None) -> None:
    """Note on rank 0's node that it was ready, and take the logs so far: one round trip."""
    # What this very start has written down need not be read.
    read = Snapshot({}, {}) if run else reading.states(cluster)
    mark = {cluster.leader.name: waiting.ready_script(cluster, run)}
    _collect(cluster, read, beside=mark, run=run)


def health(session: Session, cluster: Cluster, timeout: float | None) -> None:
    """One real token, then the URL and a curl that works; raise CheckFailed if there is none."""
    seconds = timeout or HEALTH_TIMEOUT
    # What this command has started itself need not be read.
    run = session.known(cluster).started
    api = Api.of(cluster) if run else _loaded(session, cluster, timeout)
    start = time.monotonic()
    try:
        asked = session.known(cluster).proof or background.begin(_token, cluster, api, seconds)
        model, took = asked.result()
    except ApiError as error:
        if error.why.is_final:
            raise _unasked(error) from None
        if run:
            failure = waiting.NotReadyError([], time.monotonic() - start, refused=str(error))
            raise _failed(session, cluster, failure, run) from None
        raise CheckFailed(
            f"health: {error}: see inv tp.logs; inv tp.stop stops the server"
        ) from None
    except KeyboardInterrupt as interrupt:
        _leave(session, cluster, interrupt)
        raise
    screen.say(f"healthy: a token in {took:.2f} s")
    screen.out(api.url)
    screen.say(f"clients ask for the model {model}")
    screen.out(curl(api, model))
    before = session.known(cluster).last
    if before:
        show.tell_fewer(cluster, before, cluster.model)


def _token(cluster: Cluster, api: Api, timeout: float) -> tuple[str, float]:
    """The name that the model is asked by, and the seconds that a token took."""
    begun = time.monotonic()
    name = api.one_token(cluster.served, cluster.engine.model, timeout)
    return name, time.monotonic() - begun


def _loaded(session: Session, cluster: Cluster, timeout: float | None) -> Api:
    """The HTTP side of the recorded server, once it has given a first token."""
    read = reading.states(cluster)
    node, _, record = show.leader(read)
    if readiness.judge(read, record.size).state in readiness.COMING:
        wait(session, cluster, timeout)
    return show.api_of(cluster, node, record)


def recorded(cluster: Cluster) -> Api:
    """The HTTP side of the server that runs, wherever it was told to listen."""
    node, _, record = show.leader(reading.states(cluster))
    return show.api_of(cluster, node, record)


def curl(api: Api, model: str) -> str:
    """A command to paste that asks the server something; it names where the key is, if any."""
    message = {"role": "user", "content": "Hello"}
    body = json.dumps({"model": model, "max_tokens": 64, "messages": [message]})
    url = f"{api.url}/v1/chat/completions"
    key = f' -H "Authorization: Bearer {api.shell_key}"' if api.key else ""
    return f"curl {url} -H 'Content-Type: application/json'{key} -d {shlex.quote(body)}"


def foreground(session: Session, cluster: Cluster, timeout: float | None = None) -> None:
    """Run all ranks attached: their lines here, with a tag; Ctrl-C or a dead rank stops all.

    So does a server that is not ready within the timeout, or gives no token then.
    """
    seconds = timeout or cluster.timeout
    run = Run.new()
    if session.dry:
        for rank in cluster.ranks:
            script = launching.foreground(cluster, rank, run, mask=True)
            screen.out(f"# rank {rank.rank} on {rank.host.ssh}\n{script}")
        return
    _point_out(cluster)
    _check_way(cluster)
    ended: dict[int, Answer] = {}

    def attend() -> None:
        asking = background.begin(_announce, session, cluster, run.id, ended, seconds)
        # One that ends in order lets the others finish, as mlx.launch does.
        while len(ended) < len(cluster.ranks) and all(each.ok for each in [*ended.values()]):
            if asking.done():
                asking.result()
            time.sleep(0.1)
        if len(ended) < len(cluster.ranks):
            screen.say("a rank has ended: stopping the others")

    try:
        attached(session, cluster, run, ended, attend, lambda rank: _Tagged(rank))
    except KeyboardInterrupt:
        screen.say("\nall ranks were stopped")
        raise
    failed = [rank for rank, answer in ended.items() if answer.status != 0]
    if failed:
        raise ActionFailed(f"rank {failed[0]}: {how_it_ended(ended[failed[0]])}")


def attached(
    session: Session,
    cluster: Cluster,
    run: Run,
    ended: dict[int, Answer],
    attend: Callable[[], object],
    stream: Callable[[int], Any] = lambda rank: None,
) -> None:
    """Run all ranks attached to us while `attend()` lasts; then, or after Ctrl-C, stop them.

    `ended` gets each rank's answer in the order in which they end, all of them by the end.
    """
    by_name = {node.name: node for node in cluster.nodes}

    def serve(rank: Rank) -> None:
        script = launching.foreground(cluster, rank, run)
        node = by_name[rank.host.ssh]
        ended[rank.rank] = node.sh(script, timeout=0, out_stream=stream(rank.rank))

    serving = [background.begin(serve, cluster.ranks[0])]
    try:
        _await_coordinator(cluster, ended)
        serving += [background.begin(serve, rank) for rank in cluster.ranks[1:]]
        attend()
    finally:
        _stop_attached(session, cluster, run.id, serving)


def _stop_attached(
    session: Session, cluster: Cluster, run: str, serving: Sequence[Future[None]]
) -> None:
    """Stop attached ranks, again while some still run: one may have been about to start."""
    for _ in range(5):
        _stop_quietly(session, cluster, run)
        if background.settle(serving, 3):
            return


def how_it_ended(answer: Answer) -> str:
    return answer.failure or hints.exit_words(answer.status)


def stop(
    session: Session,
    cluster: Cluster,
    order: str,
    force: bool,
    timeout: float | None,
    as_json: bool,
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
        with _recorded(session, cluster, what):
            cluster, before = reading.whole(cluster, before or reading.alive(cluster))
            return _stop(session, cluster, before, order, force, timeout, as_json, everything, keep)
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
    read = reading.alive(cluster)
    show.unreachable(read)
    found = stopping.targets(cluster, read, everything=True)
    for target in found:
        command = (known(read.on(target.node), processes.KEY) or {}).get(target.pid)
        words = stopping.shown(command) if command else ""
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
    as_json: bool,
    everything: bool,
    keep: bool,
) -> Snapshot:
    reports = _end(
        session, cluster, order=order, force=force, timeout=timeout, read=before,
        everything=everything, tell=screen.say,
    )  # fmt: skip
    after = _finish(session, cluster, before, reports, keep=keep)
    wired = memory_checks.memory(cluster.expected, after)
    is_done = not any(report.left or report.failure for report in reports)
    strangers = stopping.strangers(cluster, before, after) if is_done else []
    # A port that is taken is a stranger's, and told as such; one of which nothing is known is not.
    unread = {node for node, values in after.nodes.items() if known(values, ports.KEY) is None}
    found = [*ports_checks.ports(cluster.expected, after), *rdma.domains(cluster.expected, after)]
    findings = [*wired, *(each for each in found if each.check != "ports" or each.node in unread)]
    if as_json:
        envelope.give(_stop_document(reports, strangers, after), findings)
    else:
        _print_reports(reports, wired)
    _notices(cluster, reports, findings)
    for each in strangers:
        screen.say(f"not ours, left alone: {each}")
    _judge_stop(reports, strangers)
    return after


def _end(session: Session, cluster: Cluster, **how: Any) -> list[Stopped]:
    """Stop ranks; what had to be killed, and why, is noted on its node."""
    reports = stopping.stop(cluster, **how)
    by_name = {node.name: node for node in cluster.nodes}
    for report in reports:
        if report.killed:
            what = f"SIGKILL to {', '.join(report.killed)}: {report.why}"
            session.audit.record([by_name[report.node]], cluster.state_dir, what)
    return reports


def _finish(
    session: Session,
    cluster: Cluster,
    before: Snapshot,
    reports: Sequence[Stopped],
    run: str | None = None,
    keep: bool = False,
) -> Snapshot:
    """Collect the logs, forget the records (of `run`), read what runs now: one round trip."""
    session.known(cluster).forget()
    # Where only a run's ranks were stopped, nobody asks what runs besides.
    wanted = (lambda node: []) if run else reading.running_facts(cluster)
    query = FactQuery.of(cluster.nodes, wanted)
    forget = stopping.forget_scripts(cluster, reports, run, keep)
    beside = {
        name: f"(\n{forget.get(name, ':')}\n)\n{script}" for name, script in query.scripts.items()
    }
    answers = _collect(cluster, before, final=True, beside=beside)
    fence.check(answers)
    return query.snapshot(answers)


def _undo(session: Session, cluster: Cluster, run: str) -> None:
    """Stop what an interrupted launch has started."""
    screen.say("\nstopping what was started")
    # Rank 0 gone, the scripts that are under way come to their end; one may have started a rank.
    _end(session, cluster, run=run)
    if not nodes.idle(cluster.nodes):
        screen.say("warn: a node has not answered yet: look with inv tp.status")
    _stop_quietly(session, cluster, run)


def _leave(
    session: Session, cluster: Cluster, error: KeyboardInterrupt, run: str | None = None
) -> None:
    """After a signal the server is left as it is; a second Ctrl-C, of who started it, stops it."""
    screen.say("\nthe server is left as it is: inv tp.status, inv tp.stop")
    if not lock.client(cluster) or signals.number_of(error) != signal.SIGINT:
        return
    ask = partial(screen.say, f"Ctrl-C again within {SECOND:g} s stops it")
    if session.signals.again(SECOND, ask):
        screen.say("stopping it")
        _stop_quietly(session, cluster, run)


def _failed(
    session: Session, cluster: Cluster, failure: waiting.NotReadyError, run: str | None
) -> ActionFailed:
    """Tell why the server is not ready, stop what is left; the error to raise."""
    read = reading.states(cluster)
    found = logs.errors(cluster, logs.place(cluster, read))
    for rank, (first, last) in sorted(found.items()):
        is_dead = any(view.rank == rank for view in failure.dead)
        if first or is_dead or not failure.dead:
            screen.say(f"rank {rank}, first error: {first or 'none in its log'}")
        if is_dead or (not failure.dead and rank == 0):
            for line in last:
                screen.say(f"  {line}")
    errors = [first for first, _ in found.values() if first]
    facts = hints.facts(cluster.ranks[0].env)
    lasts = (line for _, last in found.values() for line in last)
    hint = hints.hint(errors, facts) or hints.hint(lasts, facts)
    if hint:
        screen.say(f"hint: {hint.cause}: {hint.remedy}")
    elif not failure.dead and len(cluster.nodes) > 1:
        screen.say("hint: still loading (--timeout), or the ranks have not met: inv rdma.ping")
    screen.say("stopping the other ranks" if failure.dead else "stopping all ranks")
    run = run or next((r.record.run for _, r in read.ranks if r.record), None)
    # Without a record the server was stopped by another command, which may start the next one.
    left = _stop_quietly(session, cluster, run) if run else []
    stopped = "the other ranks were stopped" if failure.dead else "all ranks were stopped"
    return ActionFailed(f"{_not_ready(failure)}; {_left(left) or stopped}")


def _left(nodes: Sequence[str]) -> str:
    """What is known of nodes on which ranks could not be stopped; "" for none."""
    return f"{', '.join(nodes)}: maybe ranks are left: inv tp.stop" if nodes else ""


def _not_ready(failure: waiting.NotReadyError) -> str:
    late = [f"rank {view.rank} on {view.host}" for view in failure.late]
    if late:
        return f"{', '.join(late)} did not come to meet the others within tp.join_timeout"
    if failure.dead and all(view.has_waited for view in failure.dead):
        return "the ranks have started and did not meet within tp.join_timeout: inv rdma.ping"
    if not failure.dead:
        refused = f", the server says: {failure.refused}" if failure.refused else ""
        if waiting.ENGINE_DIED in failure.refused:
            return f"the server's engine died ({failure.health}{refused})"
        return f"not ready within {failure.seconds:.1f} s ({failure.health}{refused})"
    return ", ".join(
        f"rank {view.rank} on {view.host} died ({view.last or hints.exit_words(view.exit)})"
        if view.exit is None
        else f"rank {view.rank} on {view.host} died: {hints.exit_words(view.exit)}"
        for view in failure.dead
    )


def _collect(
    cluster: Cluster,
    read: Snapshot,
    final: bool = False,
    beside: Mapping[str, str] | None = None,
    run: str | None = None,
) -> Mapping[str, Answer]:
    """Take what is new into the combined log; a log that can't be taken stops nobody.

    What each node said to its script in `beside`, which runs in any case.
    """
    try:
        taken = logs.collect(cluster, logs.place(cluster, read, run), final, beside)
    except ActionFailed as error:
        screen.say(f"warn: {error.message}")
        return nodes.sh(cluster.nodes, beside or {})
    for node, why in taken.failed.items():
        screen.say(f"warn: {node}: its logs could not be collected: {why}")
    show.tell_left(taken)
    if taken.unwritten:
        screen.say(f"warn: {taken.unwritten}")
    return taken.answers


def _stop_quietly(session: Session, cluster: Cluster, run: str | None) -> list[str]:
    """Stop what this start has started, say only what went wrong; the nodes where it did."""
    cluster, before = reading.whole(cluster, reading.alive(cluster))
    reports = _end(session, cluster, run=run, read=before)
    _finish(session, cluster, before, reports, run)
    failed = [report for report in reports if report.left or report.failure]
    for report in failed:
        screen.say(f"{report.node}: {report.word} {', '.join(report.left)} {report.failure}")
    return [report.node for report in failed]


def _print_scripts(cluster: Cluster, run: Run) -> None:
    screen.out(f"# on {cluster.leader.name}, rank 0\n{launching.first_script(cluster, run, True)}")
    for name, script in launching.other_scripts(cluster, run, True).items():
        ranks = [str(rank.rank) for rank in cluster.ranks if rank.host.ssh == name and rank.rank]
        screen.out(f"# on {name}, rank {', '.join(ranks)}\n{script}")


def _print_stop(cluster: Cluster, order: str, force: bool, everything: bool) -> None:
    cluster, read = reading.whole(cluster, reading.alive(cluster))
    found = stopping.targets(cluster, read, everything=everything)
    for target in found:
        first = target.is_leader and order == "leader" and not force
        name = "KILL" if force else target.signal if first else "TERM"
        when = "first" if first else "then, if it is left"
        when = when if order == "leader" and not force else "at once"
        screen.out(f"kill -{name} {target.pid}  # {target.node}: {target.label}, {when}")
    if not found:
        screen.out("# nothing runs")
    show.unreachable(read)


def _print_reports(reports: Sequence[Stopped], findings: Sequence[checks.Finding]) -> None:
    memory = {finding.node: finding.what for finding in findings}
    rows = []
    for report in reports:
        labels = report.left or [*report.ended, *report.killed]
        what = report.failure or ", ".join(labels)
        rows.append((report.word, report.node, what, memory.get(report.node, "")))
    screen.table(rows)


def _notices(
    cluster: Cluster, reports: Sequence[Stopped], findings: Sequence[checks.Finding]
) -> None:
    for finding in findings:
        if finding.level != checks.OK:
            screen.say(f"{finding.level}: {finding.node}: {finding.what}: {finding.fix}")
    killed = [report.node for report in reports if report.killed]
    if killed and cluster.has_rdma:
        screen.say(f"cooldown: the next start waits {cluster.cooldown:g} s ({', '.join(killed)})")


def _judge_stop(reports: Sequence[Stopped], strangers: Sequence[stopping.Stranger]) -> None:
    lost = [report.node for report in reports if report.failure]
    left = [f"{report.node}: {', '.join(report.left)}" for report in reports if report.left]
    if lost:
        raise Unreachable(f"{', '.join(lost)}: can't tell whether all is stopped there")
    if left:
        raise ActionFailed(f"still running: {'; '.join(left)}: is it another user's?")
    if not any(report.ended or report.killed for report in reports):
        screen.say("nothing was running")
    held = [each for each in strangers if each.port]
    if held:
        fix = "end it there, or take another port; inv tp.stop --all ends servers of this engine"
        raise CheckFailed(f"{held[0].node}: port {held[0].port} is held by what is not ours: {fix}")


def _stop_document(
    reports: Sequence[Stopped], strangers: Sequence[stopping.Stranger], after: Snapshot
) -> Mapping[str, Any]:
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


def _await_coordinator(cluster: Cluster, ended: Mapping[int, Any]) -> None:
    """With jaccl the others start once rank 0 listens, seen on its node."""
    if not cluster.backend.startswith("jaccl"):
        return
    port = cluster.ranks[0].ports[0]
    end = time.monotonic() + launching.COORDINATOR_TIMEOUT
    while not ended and time.monotonic() < end:
        taken = known(reading.running(cluster).on(cluster.leader.name), ports.KEY)
        if taken and port in taken:
            return
        time.sleep(0.2)


def _announce(
    session: Session, cluster: Cluster, run: str, ended: Mapping[int, Answer], seconds: float
) -> None:
    """Wait for a token, and say how to use the server, beside the ranks' own lines.

    Raise ActionFailed if none comes; a rank that ends is told elsewhere.
    """
    while not ended and len(reading.states(cluster).ranks) < len(cluster.ranks):
        time.sleep(waiting.PAUSE)
    api = Api.of(cluster)
    try:
        ready = waiting.until_ready(cluster, api, seconds, lambda now: None, run)
    except waiting.UnaskedError as error:
        screen.say(f"running, can't be asked: {error.why} (Ctrl-C stops it)")
        session.lock.let_go(cluster)
        return
    except waiting.NotReadyError as failure:
        if not failure.dead:
            raise ActionFailed(f"{_not_ready(failure)}; all ranks were stopped") from None
        return
    waiting.mark_ready(cluster, run)
    # It may serve for days: from here on it is there to be stopped.
    session.lock.let_go(cluster)
    screen.say(f"ready: {api.url} (Ctrl-C stops it)")
    screen.say(f"clients ask for the model {ready.name}")
    screen.say(curl(api, ready.name))


class _Tagged(io.TextIOBase):
    """A stream that writes whole lines to stdout, each with its rank's tag."""

    _lock = threading.Lock()

    def __init__(self, rank: int) -> None:
        super().__init__()
        self.rank = rank
        self.rest = ""

    def write(self, text: str) -> int:
        *lines, self.rest = (self.rest + text).split("\n")
        with self._lock:
            for line in lines:
                screen.log_line(f"rank {self.rank} | {waiting.plain(line)}")
        return len(text)
