"""Waiting until a server is ready, or until it is clear that it will not be."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from . import nodes, reading
from .api import Api, ApiError
from .cluster import Cluster
from .facts import Fact, Key, known
from .launch import HEADER, log_path
from .ssh import scripts
from .state import RankState
from .text import plain as plain

PAUSE = 0.2  # seconds between two looks at the nodes
RELAYED = 1.0  # seconds between two looks at a page that a program on the node asks for
# mlx_lm.server that can't listen lives on without its page: its engine is a thread of its own
# (0.32.2). Errno numbers by system: macOS 48, 49; Linux 98, 99.
_DEAF = re.compile(r"OSError: \[Errno (48|49|98|99)\]")


@dataclass(frozen=True)
class RankView:
    """A rank while it starts: `state` is "running", "starting", "dead" or "unknown"."""

    rank: int
    host: str
    state: str
    exit: int | None = None
    last: str = ""


Show = Callable[[float, Sequence[RankView]], None]


@dataclass(eq=False)
class NotReadyError(Exception):
    """The server did not become ready; `dead` are the ranks that ended, none at a timeout.

    `page` is why its page could not be had when it was last asked for.
    """

    dead: Sequence[RankView]
    seconds: float
    page: str = ""


@dataclass(eq=False)
class UnaskedError(Exception):
    """All ranks live, and no token can be asked for: `why`. It is no reason to stop them."""

    why: ApiError
    seconds: float


def until_ready(
    cluster: Cluster, api: Api, timeout: float, show: Show, run: str | None = None
) -> float:
    """Wait until the server's ready page answers; the seconds it took.

    Raise NotReadyError as soon as a rank (of that `run`) is dead, or after `timeout` seconds, and
    UnaskedError where the server lives but can't be asked.
    """
    start = time.monotonic()
    page = Page(api, cluster.engine.ready)
    up = nodes.begin(page.wait)
    try:
        while True:
            is_up = up.done()
            views = look(cluster, run)
            spent = time.monotonic() - start
            show(spent, views)
            dead = [view for view in views if view.state == "dead"]
            if dead or spent > timeout:
                raise NotReadyError(dead, spent, str(page.failure or ""))
            # A page that answers while a rank is unknown proves nothing about that rank.
            if is_up and all(view.state == "running" for view in views):
                if why := up.result():
                    raise UnaskedError(why, spent)
                return spent
            if is_up:
                up = nodes.begin(page.wait)
                time.sleep(PAUSE)
            nodes.settle([up], PAUSE)
    finally:
        page.over.set()


class Page:
    """Asks for a page until it is there; `failure` is why it was not when it was last asked for."""

    def __init__(self, api: Api, path: str) -> None:
        self.api, self.path = api, path
        self.over = threading.Event()
        self.failure: ApiError | None = None
        self._since = 0.0

    def look(self) -> bool:
        """Ask once: whether it is there, or it is clear that it can't be had (`failure`)."""
        found = self.api.page(self.path)
        if found and (self.failure is None or found.why is not self.failure.why):
            self._since = time.monotonic()
        self.failure = found
        return found is None or time.monotonic() - self._since >= found.why.lasts

    def wait(self) -> ApiError | None:
        """Look until it is there, or why it can't be had."""
        while not self.over.is_set() and not self.look():
            # Each request through a relay is a process on the node.
            self.over.wait(RELAYED if self.api.node.is_relayed else PAUSE / 4)
        return self.failure


def look(cluster: Cluster, run: str | None = None) -> list[RankView]:
    """Every rank of the cluster (of that `run`) as it is now, with the last line of its log."""
    read = reading.states(cluster, lambda node: [_last_lines(cluster, node)])
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


def mark_ready(cluster: Cluster) -> None:
    """Note on rank 0's node that this run was ready once: later it is degraded, not starting."""
    nodes.sh([cluster.leader], ready_script(cluster))


def ready_script(cluster: Cluster) -> str:
    """What `mark_ready` runs."""
    return scripts.script("ready.sh", state_dir=cluster.state_dir)


def _view(
    rank: int, node: str, found: RankState | None, lines: Mapping[int, str], run: str | None
) -> RankView:
    if found and found.record and run not in (None, found.record.run):
        return RankView(rank, node, "dead", last="another start took its place")
    if found is None:
        return RankView(rank, node, "dead", last="it was not started, or was stopped")
    last = lines.get(rank, "")
    is_serving = found.alive and not (rank == 0 and _DEAF.match(last))
    return RankView(rank, node, "running" if is_serving else "dead", found.exit, last)


_LAST = Key[Mapping[int, str]]("last")


def _last_lines(cluster: Cluster, node: nodes.Node) -> Fact[Mapping[int, str]]:
    rows = [(str(rank.rank), log_path(cluster, rank)) for rank in cluster.on(node)]
    words = [word for row in rows for word in row]
    return Fact(_LAST, scripts.script("logs/last.sh", words), _parse_last)


def _parse_last(text: str, status: int) -> dict[int, str]:
    """Rank -> its last line, without colours and other controls."""
    rows = re.findall(r"^line (\d+) (.*)$", text, re.MULTILINE)
    # Our own first line says nothing yet.
    return {int(rank): "" if line.startswith(HEADER) else plain(line) for rank, line in rows}
