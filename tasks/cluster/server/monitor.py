"""The vital signs of all nodes as they come: one connection and one loop per node.

A thread per node waits for its blocks, so that a node that is dead holds up no other; one that
falls silent gets a new connection, again and again, until it is back.
"""

import io
import secrets
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from ..checks import rdma
from ..cluster import Cluster
from ..facts.machine import vitals
from ..facts.machine.vitals import Rates, Vitals
from ..facts.server import state
from ..facts.server.state import RankState, State
from ..ssh import background
from ..ssh.node import Node
from . import snapshots

SILENT = 3.0  # intervals without a block, at least as many seconds, until a node counts as silent
GIVE_UP = 10.0  # seconds more until its connection is given up


@dataclass
class NodeMonitor:
    """What is known of a node now, or `why` not; `posts` are the requests of its earlier loops."""

    node: str
    state: State | None = None
    ranks: Sequence[RankState] = ()
    vitals: Vitals | None = None
    rates: Rates | None = None
    posts: int = 0
    why: str = "connecting"
    heard: float = field(default_factory=time.monotonic)

    def stale(self, interval: float) -> float | None:
        """Seconds since the last block where that is too long, else None."""
        silence = time.monotonic() - self.heard
        return silence if silence > SILENT * max(interval, 1) else None


class Monitor:
    """Watches all nodes of a cluster until the program ends."""

    def __init__(self, cluster: Cluster, interval: int) -> None:
        self.cluster = cluster
        self.interval = interval
        self.pulses = {node.name: NodeMonitor(node.name) for node in cluster.nodes}
        for node in cluster.nodes:
            background.begin(self._attend, node)
        background.begin(self._care)

    @property
    def is_warm(self) -> bool:
        """Whether every node has told enough to know its rates, or why it can't."""
        return all(each.rates or each.why not in ("", "connecting") for each in self._now())

    def _now(self) -> list[NodeMonitor]:
        return list(self.pulses.values())

    def _attend(self, node: Node) -> None:
        pulse = self.pulses[node.name]
        while True:
            pulse.why = self._listen(node, pulse) or pulse.why
            if pulse.why:
                pulse.vitals = pulse.rates = None
                time.sleep(self.interval)

    def _listen(self, node: Node, pulse: NodeMonitor) -> str:
        """Take blocks until the loop ends; why it ended, if it should not have."""
        read = snapshots.read(
            [node], lambda _: [state.fact(self.cluster.state_dir, self.cluster.name)]
        )
        if node.name in read.unreachable:
            why, fix = read.unreachable[node.name]
            return f"{why}: {fix}" if fix else why
        pulse.state = read.state(node.name)
        pulse.ranks = [rank for _, rank in read.ranks]
        nonce = secrets.token_hex(8)
        script = vitals.loop(self._wanted(node, pulse.ranks), self.interval, nonce)
        blocks = _Blocks(pulse, nonce)
        answer = node.sh(script, timeout=0, out_stream=blocks)
        pulse.posts += (blocks.last and blocks.last[1].posts) or 0
        if answer.failure:
            return answer.failure
        return "" if answer.status == 0 else f"its loop ended with status {answer.status}"

    def _wanted(self, node: Node, ranks: Sequence[RankState]) -> vitals.MonitorOptions:
        pids = [rank.pid for rank in ranks if rank.alive and rank.pid]
        first = next((r.record for r in ranks if r.rank == 0 and r.alive and r.record), None)
        return vitals.MonitorOptions(
            self.cluster.state_dir,
            self.cluster.name,
            links(self.cluster, node),
            pids,
            first.port if first else None,
            first.log if first else None,
        )

    def _care(self) -> None:
        """Give up connections over which nothing comes any more."""
        given_up: dict[str, float] = {}
        limit = SILENT * max(self.interval, 1) + GIVE_UP
        while True:
            time.sleep(self.interval)
            for node in self.cluster.nodes:
                pulse = self.pulses[node.name]
                lost = not pulse.why and time.monotonic() - pulse.heard > limit
                if lost and given_up.get(node.name) != pulse.heard:
                    given_up[node.name] = pulse.heard
                    background.begin(node.drop)


def links(cluster: Cluster, node: Node) -> list[str]:
    """The interfaces that the hostfile names for a node: those of its links, or of its devices."""
    hosts = [rank.host for rank in cluster.on(node)]
    named = [name for host in hosts for name, _ in host.links]
    named += [each.removeprefix("rdma_") for host in hosts for each in rdma.devices(host)]
    return list(dict.fromkeys(named))


class _Blocks(io.TextIOBase):
    """A stream that takes what a loop prints, block by block."""

    def __init__(self, pulse: NodeMonitor, nonce: str) -> None:
        super().__init__()
        self.pulse = pulse
        self.nonce = nonce
        self.rest = ""
        self.last: tuple[float, Vitals] | None = None
        self.lock = threading.Lock()

    def write(self, text: str) -> int:
        with self.lock:
            found, self.rest = vitals.blocks(self.rest + text, self.nonce)
            for block in found:
                self._take(vitals.parse(block))
        return len(text)

    def _take(self, new: Vitals) -> None:
        now = time.monotonic()
        pulse = self.pulse
        if self.last:
            before, old = self.last
            pulse.rates = vitals.rates(old, new, max(now - before, 1e-3))
        self.last = now, new
        pulse.vitals, pulse.heard, pulse.why = new, now, ""
