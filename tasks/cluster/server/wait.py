"""Waiting until a server is ready, or until it is clear that it will not be."""

import re
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from ..cluster import Cluster
from ..facts import Fact, Key, known
from ..facts.server.marks import NOT_JOINED
from ..facts.server.state import RankState
from ..facts.snapshot import Snapshot
from ..http.api import Api, ApiError
from ..http.failure import Why
from ..ssh import background, nodes, scripts
from ..text import plain as plain
from . import readiness, snapshots
from .launch import HEADER
from .readiness import Health

# Of the join limit (remote/entry.py); MLX's ring gives up by itself after some 31 s (0.32.4).
WAITED = (1, NOT_JOINED)
PAUSE = 0.2  # seconds between two looks at the nodes
KNOCK = 0.05  # seconds between two requests to a page that is not up yet
SOON = 10.0  # seconds for which these hold; from then on they grow with what it has taken, ...
SELDOM = 5.0  # ... up to so many times: who has waited for a minute can wait for a second
RELAYED = 1.0  # seconds between two looks at a page that a program on the node asks for
ENGINE_DIED = "generation thread died"  # mlx_lm.server's answer (0.32.2) then: no token comes
# mlx_lm.server that can't listen lives on without its page: its engine is a thread of its own
# (0.32.2). Errno numbers by system: macOS 48, 49; Linux 98, 99.
_DEAF = re.compile(r"OSError: \[Errno (48|49|98|99)\]")


@dataclass(frozen=True)
class RankView:
    """A rank while it starts: its `state`, its log's `last` line, how far it came (`reached`)."""

    rank: int
    host: str
    state: str
    exit: int | None = None
    last: str = ""
    reached: str = ""

    @property
    def has_waited(self) -> bool:
        """Whether it ended since the others did not come in time."""
        return self.state == "dead" and self.reached == "meeting" and self.exit in WAITED


@dataclass(frozen=True)
class Progress:
    """A server while it starts: seconds so far, and how it does.

    `share` is how much of the weights has been read, from 0 to 1, `left` how many seconds the rest
    will take; None while that is unknown.
    """

    seconds: float
    health: Health
    ranks: Sequence[RankView]
    share: float | None = None
    left: float | None = None


Show = Callable[[Progress], None]


@dataclass(frozen=True)
class Ready:
    """A server that has given a token: seconds until then, `name` is what its model is asked by.

    `token` are those since it was asked and, as far as that was told, since all weights were read.
    """

    seconds: float
    name: str
    token: float


@dataclass(eq=False)
class UnaskedError(Exception):
    """All ranks live, and no token can be asked for: `why`. It is no reason to stop them."""

    why: ApiError
    seconds: float


@dataclass(eq=False)
class NotReadyError(Exception):
    """The server did not become ready; `dead` are the ranks that ended, none at a timeout."""

    dead: Sequence[RankView]
    seconds: float
    health: Health = field(default_factory=lambda: Health(readiness.LOADING))
    refused: str = ""
    ranks: Sequence[RankView] = ()

    @property
    def late(self) -> list[RankView]:
        """Those for whom others have waited in vain: the cause, where one of these has ended."""
        waited = any(view.has_waited for view in self.ranks)
        return [view for view in self.ranks if waited and view.reached in ("", "importing")]


def until_ready(
    cluster: Cluster, api: Api, timeout: float, show: Show, run: str | None = None
) -> Ready:
    """Wait until the server gives a token.

    Raise NotReadyError as soon as a rank (of that `run`) or the server's engine is dead, or after
    `timeout` seconds in which no rank has read any more of its weights; UnaskedError where it can't
    be asked for one.
    """
    waiting, name = _Waiting(cluster, api, run), ""
    while True:
        progress = waiting.look()
        show(progress)
        dead = [view for view in progress.ranks if view.state == "dead"]
        is_over = ENGINE_DIED in waiting.refused or time.monotonic() - waiting.grown > timeout
        if dead or is_over:
            raise NotReadyError(
                dead, progress.seconds, progress.health, waiting.refused, progress.ranks
            )
        # Seen once more after its token: another server may have come to the same port.
        if name:
            return Ready(progress.seconds, name, waiting.token)
        name = waiting.ask(progress)


class _Waiting:
    """Looks at a server that starts, and has it asked for a token once all ranks have met."""

    def __init__(self, cluster: Cluster, api: Api, run: str | None) -> None:
        self.cluster, self.api, self.run = cluster, api, run
        self.begun = self.grown = time.monotonic()
        self.first: tuple[float, int] | None = None  # when a byte was first seen, and how many
        self.bytes, self.share = 0, 0.0
        self.refused = ""
        self.finals: dict[Why, float] = {}  # when each was first met
        self.asked: Future[str] | None = None
        self.sent = self.token = 0.0

    def look(self) -> Progress:
        read = _read(self.cluster)
        views = _views(self.cluster, read, self.run)
        health = readiness.judge(read, readiness.size(read, len(self.cluster.ranks)))
        return Progress(time.monotonic() - self.begun, health, views, *self._grow(read))

    def _grow(self, read: Snapshot) -> tuple[float | None, float | None]:
        """Note what ranks have read by now: Progress's `share` and `left`."""
        now, loaded = time.monotonic(), readiness.loaded(read.ranks)
        done, of = loaded or (0, 0)
        if not of:
            return None, None
        if done > self.bytes:
            self.bytes, self.grown = done, now
            self.first = self.first or (now, done)
        since, before = self.first or (now, done)
        left = (of - done) * (now - since) / (done - before) if done > before else None
        # A node that gives no answer for a while takes nothing back.
        self.share = max(self.share, done / of)
        return self.share, left

    def ask(self, progress: Progress) -> str:
        """The name of the model once a token has come, "" until then; a pause at most."""
        patience = min(max(progress.seconds / SOON, 1.0), SELDOM)
        until = time.monotonic() + PAUSE * patience
        coming = progress.health.state in (readiness.LOADING, readiness.READY)
        may_ask = coming and all(view.state != "unknown" for view in progress.ranks)
        # A page that is not up yet is asked for again and again without a look at the ranks, which
        # would take from a node what the ranks need to come up.
        while (left := until - time.monotonic()) > 0:
            if may_ask and not self.asked:
                self.sent, self.asked = time.monotonic(), background.begin(self._token)
            if not self.asked or not background.settle([self.asked], left):
                time.sleep(0 if self.asked else left)
                return ""
            asked, self.asked = self.asked, None
            self.token = time.monotonic() - max(self.grown, self.sent)
            try:
                return asked.result()
            except ApiError as error:
                self._refuse(error)
                time.sleep(RELAYED if self.api.node.is_relayed else KNOCK * patience)
        return ""

    def _refuse(self, error: ApiError) -> None:
        """Note why there is no token; raise UnaskedError once that is final."""
        self.refused, now = str(error), time.monotonic()
        since = self.finals.setdefault(error.why, now)
        if error.why.is_final and now - since >= error.why.lasts:
            raise UnaskedError(error, now - self.begun)

    def _token(self) -> str:
        # It comes when all is loaded, however long that takes: we look at the ranks meanwhile.
        return self.api.one_token(self.cluster.served, self.cluster.engine.model, 86400)


def _read(cluster: Cluster) -> Snapshot:
    lines = _last_lines(cluster)
    return snapshots.states(cluster, lambda node: [lines])


def _views(cluster: Cluster, read: Snapshot, run: str | None) -> list[RankView]:
    """Every rank of the cluster (of that `run`) as it is now, with the last line of its log."""
    views = []
    for rank in cluster.ranks:
        node = rank.host.ssh
        state = read.state(node)
        lines = known(read.on(node), _LAST) or {}
        if state is None:
            why, _ = read.unreachable.get(node, ("its state can't be read", ""))
            views.append(RankView(rank.rank, node, "unknown", last=why))
        else:
            views.append(_view(rank.rank, node, state.ranks.get(rank.rank), lines, run))
    return views


def mark_ready(cluster: Cluster, run: str | None = None) -> None:
    """Note on rank 0's node that this run has given a token: later it is degraded, not starting."""
    nodes.sh([cluster.leader], ready_script(cluster, run))


def ready_script(cluster: Cluster, run: str | None = None) -> str:
    """What `mark_ready` runs."""
    return scripts.script("ready.sh", **cluster.where, run=run or "")


def _view(
    rank: int, node: str, found: RankState | None, lines: Mapping[int, str], run: str | None
) -> RankView:
    if found and found.record and run not in (None, found.record.run):
        return RankView(rank, node, "dead", last="another start took its place")
    if found is None:
        return RankView(rank, node, "dead", last="it was not started, or was stopped")
    if not found.pid and found.record:
        return RankView(rank, node, "importing", reached="importing")
    last = lines.get(rank, "")
    is_serving = found.alive and not (rank == 0 and _DEAF.match(last))
    reached = _reached(found)
    state = (reached or "running") if is_serving else "dead"
    return RankView(rank, node, state, found.exit, last, reached)


def _reached(rank: RankState) -> str:
    if not rank.record or not rank.record.entry:
        return ""
    if rank.marks.joined:
        return "joined"
    return "meeting" if rank.marks.meeting else "importing"


_LAST = Key[Mapping[int, str]]("last")


def _last_lines(cluster: Cluster) -> Fact[Mapping[int, str]]:
    return Fact(_LAST, scripts.script("logs/last.sh", **cluster.where), _parse_last)


def _parse_last(text: str, status: int) -> dict[int, str]:
    """Rank -> its last line, without colours and other controls."""
    rows = re.findall(r"^line (\d+) (.*)$", text, re.MULTILINE)
    # Our own first line says nothing yet.
    return {int(rank): "" if line.startswith(HEADER) else plain(line) for rank, line in rows}
