"""What the facts of nodes are judged against. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from ..config.engine import Engine, is_pipeline
from ..config.ranks import Rank
from ..facts.models import split


@dataclass(frozen=True)
class Expected:
    """What the facts are judged against; sizes in bytes, times in seconds.

    `model_at_home` is the model as ~/..., where it is a path in the home of who asks.
    """

    ranks: Sequence[Rank]
    backend: str
    engine: Engine
    http_port: int
    model: str | None
    wired_limit: int
    cooldown: float
    model_at_home: str = ""

    @property
    def is_rdma(self) -> bool:
        return self.backend.startswith("jaccl")

    @property
    def meeting_ports(self) -> frozenset[int]:
        """The ports of the coordinator or of the ring, on whatever node."""
        return frozenset(port for rank in self.ranks for port in rank.ports)

    @property
    def mode(self) -> str:
        """How the server is told to divide its model."""
        words = self.ranks[0].command if self.ranks else ()
        return split.PIPELINE if is_pipeline(words) else split.TENSOR

    def on(self, node: str) -> list[Rank]:
        return [rank for rank in self.ranks if rank.host.ssh == node]

    def ports_on(self, node: str) -> dict[int, str]:
        """Each port that must be free on a node, and what it is for ("rank" or "HTTP")."""
        ranks = self.on(node)
        needed = {port: "rank" for rank in ranks for port in rank.ports}
        if any(rank.rank == 0 for rank in ranks):
            needed[self.http_port] = "HTTP"
        return needed
