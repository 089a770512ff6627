"""How fast a cluster's models answer, as tp.bench has measured it: kept on rank 0's node. Pure."""

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass

from ...ssh import scripts
from .. import Fact, Key

ROW = re.compile(r"^(\d{1,4}) ([a-z-]{1,16}) (\d{1,9}\.\d\d) (\d{1,12}) (.{0,4096})$", re.M)


@dataclass(frozen=True)
class Rate:
    """Tokens/s of one answer at a time by so many ranks, measured at `at` (Unix time)."""

    ranks: int
    backend: str
    speed: float
    at: float
    model: str

    @property
    def line(self) -> str:
        """As it is kept."""
        return f"{self.ranks} {self.backend} {self.speed:.2f} {self.at:.0f} {self.model}"


KEY = Key[tuple[Rate, ...]]("rates")


def fact(state_dir: str, cluster: str, add: Rate | None = None) -> Fact[tuple[Rate, ...]]:
    """All that is known of a cluster, once `add` is written down too."""
    line = add.line if add else ""
    asked = scripts.script("facts/rates.sh", rate=line, state_dir=state_dir, cluster=cluster)
    return Fact(KEY, asked, parse)


def parse(text: str, status: int) -> tuple[Rate, ...]:
    """The last of each model, number of ranks and backend; a line that is none is passed over."""
    found = [Rate(int(n), b, float(v), float(at), m) for n, b, v, at, m in ROW.findall(text)]
    return tuple({(each.model, each.ranks, each.backend): each for each in found}.values())


def fewer(rates: Sequence[Rate], model: str, ranks: int, backend: str) -> str:
    """A sentence where fewer ranks are faster with this model, "" where none are known to be."""
    ours = [each for each in rates if each.model == model]
    now = next((e for e in ours if (e.ranks, e.backend) == (ranks, backend)), None)
    less = [each for each in ours if each.ranks < ranks]
    best = max(less, key=lambda each: each.speed, default=None)
    if not now or not best or best.speed <= now.speed:
        return ""
    who = "1 rank is" if best.ranks == 1 else f"{best.ranks} ranks are"
    day = time.strftime("%Y-%m-%d", time.localtime(best.at))
    return (
        f"{who} faster with this model: {best.speed:.1f} tokens/s for each answer (measured {day}),"
        f" {ranks} over {backend} {now.speed:.1f}: -n {best.ranks}"
    )
