"""inv tp.watch: looks at a server, says what changes, and starts it again where it is told to."""

from __future__ import annotations

import time
from concurrent.futures import Future
from dataclasses import dataclass

from . import screen, show, steps
from .cluster import nodes, reading, verdict
from .cluster.api import Api, ApiError
from .cluster.cluster import Cluster
from .cluster.errors import CheckFailed
from .cluster.snapshot import Snapshot
from .cluster.state import Record
from .cluster.verdict import Signs, Verdict
from .session import Session

PROBE = 20.0  # seconds between two completions of one token
TIMEOUT = 30.0  # seconds for one of those; a server that generates answers later
PAUSE = 10.0  # seconds before the first restart, twice that before the second, and so on


@dataclass(frozen=True)
class Watch:
    """How to watch: seconds between looks, how long busy is fine, how often to start again."""

    interval: float = 1.0
    patience: float = 600.0
    restarts: int = 0


def watch(session: Session, cluster: Cluster, how: Watch) -> None:
    """Say what changes, until Ctrl-C or until the server has failed and is not started again."""
    left = how.restarts
    while True:
        found = _until_failed(cluster, how)
        if found.state == verdict.STOPPED:
            raise CheckFailed(f"{found}: inv tp.start")
        if not left:
            more = f" after {how.restarts} restarts" if how.restarts else ""
            raise CheckFailed(f"the server has failed{more}: {found.why}")
        pause = PAUSE * 2 ** (how.restarts - left)
        left -= 1
        _say(f"starting it again in {pause:g} s ({left} restarts left after that)")
        time.sleep(pause)
        steps.again(session, cluster, "tp.watch --restart")


def _until_failed(cluster: Cluster, how: Watch) -> Verdict:
    """Look until the server has failed or is stopped, and say each change."""
    said: Verdict | None = None
    signs = _Signs(cluster)
    while True:
        read = reading.states(cluster)
        signs = signs if signs.is_of(read) else _Signs(cluster)
        seen = signs.look(read)
        found = verdict.judge(read, show.size(read, len(cluster.ranks)), seen, how.patience)
        if said is None or found.state != said.state:
            _say(str(found))
        said = found
        if found.state in (verdict.FAILED, verdict.STOPPED):
            return found
        time.sleep(how.interval)


def _say(text: str) -> None:
    screen.out(f"{time.strftime('%H:%M:%S')}  {text}")


class _Signs:
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

    def look(self, read: Snapshot) -> Signs:
        """What is known by now; a probe of a server that was once ready is begun when it is due."""
        if self.probe and self.probe.done():
            self._take(self.probe.result())
        for node, rank in read.ranks[:1]:
            state, record = read.state(node), rank.record
            is_due = not self.probe and time.monotonic() - self.asked > PROBE
            if record and state and state.ready == record.run and is_due:
                self.run, self.asked = record.run, time.monotonic()
                self.probe = nodes.begin(self._ask, show.api_of(self.cluster, node, record), record)
        return Signs(time.monotonic() - self.token, self.refused, self.unasked)

    def _ask(self, api: Api, record: Record) -> ApiError | None:
        """Why there is no token, None where one came."""
        try:
            api.one_token(record.model, self.cluster.engine.model, TIMEOUT)
        except ApiError as error:
            return error
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
