"""What inv tp.start --foreground does: ranks attached to us, their lines here."""

import io
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future

from ...cli import screen
from ...cluster.cluster import Cluster
from ...cluster.config.ranks import Rank
from ...cluster.errors import ActionFailed
from ...cluster.facts import known
from ...cluster.facts.machine import ports
from ...cluster.http.api import Api
from ...cluster.known_errors import hints
from ...cluster.server import launch as launching
from ...cluster.server import snapshots
from ...cluster.server import wait as waiting
from ...cluster.server.launch import Run
from ...cluster.ssh import background
from ...cluster.ssh.node import CommandResult, Output
from ...session import Session
from .health import curl
from .launch import check_way, point_out
from .stop import stop_quietly
from .wait import not_ready


def run(session: Session, cluster: Cluster, timeout: float | None = None) -> None:
    """Run all ranks attached, with tags; Ctrl-C, a dead rank, or no token in time stops all."""
    seconds = timeout or cluster.timeout
    run = Run.new()
    if session.dry:
        for rank in cluster.ranks:
            script = launching.foreground(cluster, rank, run, mask=True)
            screen.out(f"# rank {rank.rank} on {rank.host.ssh}\n{script}")
        return
    point_out(cluster)
    check_way(cluster)
    ended: dict[int, CommandResult] = {}

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
    if failed := [rank for rank, answer in ended.items() if answer.status != 0]:
        raise ActionFailed(f"rank {failed[0]}: {how_it_ended(ended[failed[0]])}")


def attached(
    session: Session,
    cluster: Cluster,
    run: Run,
    ended: dict[int, CommandResult],
    attend: Callable[[], object],
    stream: Callable[[int], Output | None] = lambda rank: None,
) -> None:
    """Run ranks attached while `attend()` lasts, then stop them; `ended` gets each one's answer."""
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
        stop_quietly(session, cluster, run)
        if background.settle(serving, 3):
            return


def how_it_ended(answer: CommandResult) -> str:
    return answer.failure or hints.describe_exit(answer.status)


def _await_coordinator(cluster: Cluster, ended: Mapping[int, object]) -> None:
    """With jaccl the others start once rank 0 listens, seen on its node."""
    if not cluster.backend.startswith("jaccl"):
        return
    port = cluster.ranks[0].ports[0]
    end = time.monotonic() + launching.COORDINATOR_TIMEOUT
    while not ended and time.monotonic() < end:
        taken = known(snapshots.running(cluster).on(cluster.leader.name), ports.KEY)
        if taken and port in taken:
            return
        time.sleep(0.2)


def _announce(
    session: Session, cluster: Cluster, run: str, ended: Mapping[int, CommandResult], seconds: float
) -> None:
    """Wait for a token, beside the ranks' lines, and say how to use it; raise ActionFailed."""
    while not ended and len(snapshots.states(cluster).ranks) < len(cluster.ranks):
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
            raise ActionFailed(f"{not_ready(failure)}; all ranks were stopped") from None
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
