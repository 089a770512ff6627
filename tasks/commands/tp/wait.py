"""What inv tp.wait does: until ready, or until it is clear that it will not be."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial

from ...cli import envelope, screen, signals
from ...cluster.cluster import Cluster
from ...cluster.errors import ActionFailed
from ...cluster.facts.snapshot import Snapshot
from ...cluster.http.api import Api, ApiError
from ...cluster.known_errors import hints
from ...cluster.server import lock, log_paths, logs, snapshots
from ...cluster.server import wait as waiting
from ...cluster.server.wait import Progress
from ...session import Session
from .logs import Follower, collect
from .recorded import recorded
from .stop import left_on, stop_quietly

SECOND = 3.0  # seconds in which a second Ctrl-C stops a server that the first left as it is


def run(
    session: Session,
    cluster: Cluster,
    timeout: float | None,
    run: str | None = None,
    follower: Follower | None = None,
) -> None:
    """Wait until ready; a dead rank or the timeout is told with its cause.

    With `run` only ranks of that start count, and if it fails they are stopped; without one it is
    the recorded server, which is left as it is. A `follower` shows the ranks' own lines meanwhile.
    """
    seconds = timeout or cluster.timeout
    api = Api.of(cluster) if run else recorded(cluster)
    _ = api.session  # a key that is not where it should be is told before anything is waited for
    try:
        with session.phase("load"), _shown(follower) as display:
            ready = waiting.until_ready(cluster, api, seconds, display, run)
        screen.say(f"ready after {ready.seconds:.1f} s")
        envelope.given({"url": api.url, "model": ready.name, "first_token": ready.token})
        known = session.known(cluster)
        if run and run == known.started:  # health wants no other one
            known.proof = ready.name, ready.token
            session.phases["load"] -= ready.token
        _note_ready(cluster, run)
    except waiting.UnaskedError as found:
        raise unasked(found.why) from None
    except waiting.NotReadyError as failure:
        if run is None:
            raise ActionFailed(f"{not_ready(failure)}: inv tp.logs, inv tp.stop") from None
        raise failed(session, cluster, failure, run) from None
    except KeyboardInterrupt as error:
        leave(session, cluster, error, run)
        raise


@contextmanager
def _shown(follower: Follower | None) -> Iterator[waiting.Show]:
    if follower is None:
        with screen.progress() as display:
            yield display
        return

    def show(now: Progress) -> None:
        screen.tick()
        follower.look()
        screen.tick(screen.elapsed(now))  # a load may say nothing for minutes

    try:
        yield show
    finally:
        screen.tick()
        with suppress(ActionFailed):  # why the server is not ready counts more
            follower.look()


def unasked(why: ApiError) -> ActionFailed:
    """The error for a server that lives, and that nobody can ask: it is left as it is."""
    after = "the server is left as it is; then inv tp.wait and inv tp.health, or inv tp.stop"
    return ActionFailed(f"running, can't be asked: {why}; {after}")


def _note_ready(cluster: Cluster, run: str | None) -> None:
    """Note on rank 0's node that it was ready, and take the logs so far: one round trip."""
    # What this very start has written down need not be read.
    read = Snapshot({}, {}) if run else snapshots.states(cluster)
    mark = {cluster.leader.name: waiting.ready_script(cluster, run)}
    collect(cluster, read, beside=mark, run=run)


def leave(
    session: Session, cluster: Cluster, error: KeyboardInterrupt, run: str | None = None
) -> None:
    """After a signal the server is left as it is; a second Ctrl-C, of who started it, stops it."""
    screen.say("\nthe server is left as it is: inv tp.status, inv tp.stop")
    if not lock.client(cluster) or signals.number_of(error) != signal.SIGINT:
        return
    ask = partial(screen.say, f"Ctrl-C again within {SECOND:g} s stops it")
    if session.signals.again(SECOND, ask):
        screen.say("stopping it")
        stop_quietly(session, cluster, run)


def failed(
    session: Session, cluster: Cluster, failure: waiting.NotReadyError, run: str | None
) -> ActionFailed:
    """Tell why the server is not ready, stop what is left; the error to raise."""
    read = snapshots.states(cluster)
    found = logs.errors(cluster, log_paths.place(cluster, read))
    told: list[list[str]] = []
    for rank, (first, last) in sorted(found.items()):
        is_dead = any(view.rank == rank for view in failure.dead)
        if first or is_dead or not failure.dead:
            screen.say(f"rank {rank}, first error: {first or 'none in its log'}")
        if last not in told and (is_dead or (not failure.dead and rank == 0)):
            told.append(last)  # of eight ranks that say the same, once
            for line in last:
                screen.say(f"  {line}")
    errors = [first for first, _ in found.values() if first]
    facts = hints.facts(cluster.ranks[0].env)
    lasts = (line for _, last in found.values() for line in last)
    if hint := hints.hint(errors, facts) or hints.hint(lasts, facts):
        screen.say(f"hint: {hint.cause}: {hint.remedy}")
    elif not failure.dead and len(cluster.nodes) > 1:
        screen.say("hint: still loading (--timeout), or the ranks have not met: inv rdma.ping")
    # Told before the stop, which may take seconds: a rank that loads does not end by SIGINT.
    why = not_ready(failure)
    screen.say(f"{why}: stopping the other ranks" if failure.dead else "stopping all ranks")
    run = run or next((r.record.run for _, r in read.ranks if r.record), None)
    # Without a record the server was stopped by another command, which may start the next one.
    left = stop_quietly(session, cluster, run) if run else []
    stopped = "the other ranks were stopped" if failure.dead else "all ranks were stopped"
    return ActionFailed(f"{why}; {left_on(left) or stopped}")


def not_ready(failure: waiting.NotReadyError) -> str:
    if late := [f"rank {view.rank} on {view.host}" for view in failure.late]:
        return f"{', '.join(late)} did not come to meet the others within tp.join_timeout"
    if failure.dead and all(view.has_waited for view in failure.dead):
        return "the ranks have started and did not meet within tp.join_timeout: inv rdma.ping"
    if not failure.dead:
        refused = f", the server says: {failure.refused}" if failure.refused else ""
        if waiting.ENGINE_DIED in failure.refused:
            return f"the server's engine died ({failure.health}{refused})"
        return f"not ready within {failure.seconds:.1f} s ({failure.health}{refused})"
    return ", ".join(
        f"rank {view.rank} on {view.host} died ({view.last or hints.describe_exit(view.exit)})"
        if view.exit is None
        else f"rank {view.rank} on {view.host} died: {hints.describe_exit(view.exit)}"
        for view in failure.dead
    )
