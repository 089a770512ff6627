"""inv tp.watch: looks at a server, says what changes, and starts it again where it is told to."""

import time
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from ...cli import envelope, screen
from ...cluster.cluster import Cluster
from ...cluster.errors import CheckFailed
from ...cluster.facts.server.state import RankState, Record
from ...cluster.facts.snapshot import Snapshot
from ...cluster.http.api import Api, ApiError
from ...cluster.server import readiness, snapshots
from ...cluster.server import wait as waiting
from ...cluster.server.readiness import Health, ProbeResult
from ...cluster.ssh import background
from ...session import Session
from . import recorded, restart
from .restart import again

PROBE = 20.0  # seconds between two completions of one token
TIMEOUT = 30.0  # seconds for one of those; a server that generates answers later
RESTARTING = "restarting"
PAUSE = 10.0  # seconds before the second restart, twice that before the third, and so on


@dataclass(frozen=True)
class WatchOptions:
    """How to watch: seconds between looks, how long busy is fine, how often to start again."""

    interval: float = 1.0
    patience: float = 600.0
    restarts: int = 0


def run(session: Session, cluster: Cluster, how: WatchOptions) -> None:
    """Say what changes, until Ctrl-C or until the server has failed and is not started again."""
    left = how.restarts
    if how.restarts:
        # What could not be started again is refused before that is needed.
        restart.recorded(session, cluster)
    while True:
        found = _until_failed(cluster, how)
        if found.state == readiness.STOPPED:
            raise CheckFailed(f"{found}: inv tp.start")
        failed = _still_wanted(cluster)
        if not left:
            more = f" after {how.restarts} restarts" if how.restarts else ""
            raise CheckFailed(f"the server has failed{more}: {found.why}")
        pause = PAUSE * 2 ** (how.restarts - left - 1) if left < how.restarts else 0
        left -= 1
        when = f" in {pause:g} s" if pause else ""
        _say(Health(RESTARTING, f"starting it again{when} ({left} restarts left after that)"))
        time.sleep(pause)
        ran = restart.recorded(session, cluster)
        with suppress(_StartedMeanwhileError):
            first = partial(_still_wanted, cluster, failed)
            again(session, ran, "tp.watch --restart", first=first)


class _StartedMeanwhileError(Exception):
    """Another command has started a server while we waited: that is watched, and not replaced."""


def _still_wanted(cluster: Cluster, failed: str = "") -> str:
    """The run that is wanted (`failed`, if given); raise CheckFailed where it was stopped."""
    state = snapshots.states(cluster).state(cluster.leader.name)
    wanted = state.wanted if state else None
    if wanted and wanted.state == readiness.STOPPED:
        raise CheckFailed(f"stopped by {wanted.by}: inv tp.start")
    run = wanted.run if wanted else ""
    if failed and run not in ("", failed):
        raise _StartedMeanwhileError
    return run


def _until_failed(cluster: Cluster, how: WatchOptions) -> Health:
    """Look until the server has failed or is stopped, and say each change."""
    said: Health | None = None
    probe = _Probe(cluster)
    while True:
        read = snapshots.states(cluster)
        probe = probe if probe.is_of(read) else _Probe(cluster)
        seen = probe.look(read)
        size = readiness.size(read, len(cluster.ranks))
        found = readiness.judge(read, size, seen, how.patience)
        if said is None or found.state != said.state or _turned(said, found):
            _say(found)
        said = found
        if found.state in (*readiness.FAILED, readiness.STOPPED):
            return found
        time.sleep(how.interval)


def _turned(before: Health, now: Health) -> bool:
    """Whether a server that is ready has become busy, or is no longer."""
    return now.state == readiness.READY and bool(now.why) != bool(before.why)


def _say(found: Health) -> None:
    if envelope.current() is not None:
        envelope.line({"time": envelope.now(), "state": found.state, "why": found.why})
    else:
        screen.sentence(f"{time.strftime('%H:%M:%S')}  {found}")


class _Probe:
    """Asks a run of the server for a token every now and then, in the background."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.run: str | None = None
        self.asked = float("-inf")
        self.token = time.monotonic()
        self.refused = self.unasked = ""
        self.probe: Future[ApiError | None] | None = None

    def is_of(self, read: Snapshot) -> bool:
        """Whether it is still the same run."""
        return self.run in (None, *(rank.record.run for _, rank in read.ranks[:1] if rank.record))

    def look(self, read: Snapshot) -> ProbeResult:
        """What is known by now; a probe is begun when it is due and all ranks have met."""
        if self.probe and self.probe.done():
            self._take(self.probe.result())
        is_due = not self.probe and time.monotonic() - self.asked > PROBE
        health = readiness.judge(read, readiness.size(read, 1))
        if is_due and health.state in (readiness.LOADING, readiness.READY):
            self._ask(*read.ranks[0])
        if health.state != readiness.READY:
            self.token = time.monotonic()
        return ProbeResult(time.monotonic() - self.token, self.refused, self.unasked)

    def _ask(self, node: str, first: RankState) -> None:
        if first.record:
            self.run, self.asked = first.record.run, time.monotonic()
            api = recorded.api_of(self.cluster, node, first.record)
            self.probe = background.begin(self._token, api, first.record)

    def _token(self, api: Api, record: Record) -> ApiError | None:
        """Why there is no token, None where one came."""
        try:
            api.one_token(record.asked_by, self.cluster.engine.model, TIMEOUT)
        except ApiError as error:
            return error
        waiting.mark_ready(self.cluster, record.run)
        return None

    def _take(self, failed: ApiError | None) -> None:
        self.probe = None
        if failed and failed.is_timeout:
            return
        is_final = failed is not None and failed.why.is_final
        self.unasked = str(failed) if is_final else ""
        self.refused = str(failed) if failed and not is_final else ""
        # A server that can't be asked is not one that gives no token.
        self.token = self.token if self.refused else time.monotonic()
