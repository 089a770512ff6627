"""The ranks as remote/big/look.sh sees them, from outside; and what a series of looks tells."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from tasks.cluster.cluster import Cluster
from tasks.cluster.facts.server import marks
from tasks.cluster.facts.server.marks import Marks
from tasks.cluster.ssh import nodes, scripts

SOME = (
    12  # looks at a load: of a shorter one nothing can be said, for looks and marks are 0.2 s apart
)


@dataclass(frozen=True)
class SeenRank:
    """A rank: where it is, and how many bytes it has read (None where its system does not tell)."""

    node: str
    pid: int
    lives: bool
    read: int | None
    marks: Marks
    loading: Sequence[tuple[float, int, int]]  # all of its marks: time, bytes, of how many


@dataclass(frozen=True)
class Look:
    """All ranks of the newest run at one moment."""

    at: float
    run: str = ""
    ranks: Mapping[int, SeenRank] = field(default_factory=dict)

    @property
    def told(self) -> float | None:
        """The share of the weights that the ranks say they have read."""
        of = sum(each.loading[-1][2] for each in self.ranks.values() if each.loading)
        done = sum(each.loading[-1][1] for each in self.ranks.values() if each.loading)
        return done / of if of and all(each.loading for each in self.ranks.values()) else None

    @property
    def has_met(self) -> bool:
        return bool(self.ranks) and all(each.marks.joined for each in self.ranks.values())


def look(cluster: Cluster) -> Look:
    """Ask all nodes."""
    at = time.time()
    answers = nodes.sh(cluster.nodes, scripts.script("big/look.sh", **cluster.where))
    found = [parse(each.out, name) for name, each in answers.items()]
    newest = max((run for run, _ in found), default="")
    ranks = {n: seen for run, each in found if run == newest for n, seen in each.items()}
    return Look(at, newest, dict(sorted(ranks.items())))


def parse(text: str, node: str) -> tuple[str, dict[int, SeenRank]]:
    """The run and its ranks, of what a node said."""
    head, *blocks = text.split("\nrank ")
    run = head.strip().removeprefix("run").strip()
    return run, dict(_rank(block, node) for block in blocks)


def _rank(block: str, node: str) -> tuple[int, SeenRank]:
    first, *lines = block.splitlines()
    number, pid, lives, read = first.split()
    text = "".join(f"{line.removeprefix('mark ')}\n" for line in lines)
    loading = [
        (found.at, found.bytes, found.of)
        for line in text.splitlines(True)
        if line.startswith("loading ") and (found := marks.parse(line).loading)
    ]
    how = SeenRank(
        node, int(pid), lives == "1", int(read) if read != "-" else None, marks.parse(text), loading
    )
    return int(number), how


@dataclass(frozen=True)
class Parts:
    """A start in seconds: up to the ranks' python, MLX imported, met, the server imported, loaded,
    a first token, and what the command did after it. None where a mark is missing."""

    checks: float
    mlx: float
    join: float
    imports: float | None
    load: float | None
    token: float | None
    after: float
    total: float

    @property
    def own(self) -> float:
        """All but imports, load and first token."""
        rest = (self.mlx, self.imports or 0, self.load or 0, self.token or 0)
        return self.total - sum(rest)


def parts(seen: Look, begun: float, ready: float, ended: float) -> Parts | None:
    """A start's parts by its ranks' marks; None where not all have met."""
    if not seen.has_met:
        return None
    each = [rank.marks for rank in seen.ranks.values()]
    importing = min(m.importing.at for m in each if m.importing)
    meeting = max(m.meeting.at for m in each if m.meeting)
    joined = max(m.joined.at for m in each if m.joined)
    first = min((rank.loading[0][0] for rank in seen.ranks.values() if rank.loading), default=None)
    last = max((rank.loading[-1][0] for rank in seen.ranks.values() if rank.loading), default=None)
    known = first is not None and last is not None
    return Parts(
        checks=importing - begun,
        mlx=meeting - importing,
        join=joined - meeting,
        imports=first - joined if first is not None else None,
        load=last - first if first is not None and last is not None else None,
        token=max(0.0, ready - (last if last is not None and known else joined)),
        after=ended - ready,
        total=ended - begun,
    )


@dataclass(frozen=True)
class LoadProgress:
    """What was told of a load against the truth, in points of a hundred.

    `at` maps 25, 50 and 75 to (told, read as seen from outside, share of the load's time); a truth
    that nobody knows is None. `read` and `line` are the most that it was ever off each of them.
    """

    at: Mapping[int, tuple[float, float | None, float]]
    read: float | None
    line: float
    went_back: bool
    looks: int


def progress(series: Sequence[Look]) -> LoadProgress | None:
    """Judge a load by looks at it; None where too few saw it."""
    told = [(each, 100 * each.told) for each in series if each.told is not None]
    during = [(each, share) for each, share in told if share < 100]
    if len(during) < SOME or len(told) == len(during):
        return None
    first = min(rank.loading[0][0] for rank in during[0][0].ranks.values())
    done = told[len(during)][0]
    last = max(rank.loading[-1][0] for rank in done.ranks.values())
    rows = [(share, _read(each, done), _line(each.at, first, last)) for each, share in during]
    off = [abs(share - read) for share, read, _ in rows if read is not None]
    shares = [share for _, share in told]
    return LoadProgress(
        {q: min(rows, key=lambda row: abs(row[2] - q)) for q in (25, 50, 75)},
        max(off) if off else None,
        max(abs(share - line) for share, _, line in rows),
        any(a > b for a, b in pairwise(shares)),
        len(rows),
    )


def _read(now: Look, done: Look) -> float | None:
    """What all have read of their weights by now: what is still to come is read until `done`."""
    of = sum(rank.loading[-1][2] for rank in done.ranks.values())
    left = 0
    for number, rank in now.ranks.items():
        end = done.ranks[number].read
        if rank.read is None or end is None:
            return None
        left += end - rank.read
    return max(0.0, 100 * (1 - left / of))


def _line(at: float, first: float, last: float) -> float:
    return 100 * min(1.0, max(0.0, (at - first) / max(last - first, 0.001)))
