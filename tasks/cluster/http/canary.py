"""A server's log probabilities against a reference's, on the same tokens: rounding, or wrong? Pure.

What is normal was measured (docs/guide.md): ranks that sum in another order are as far from one
rank as that one is from itself when it takes its prompts in other pieces, and no right run turned a
token that the other preferred by more than half a nat. So the noise is taken from the reference, in
the same run, and what is beyond it is wrong.
"""

from __future__ import annotations

import json
import math
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace

LEAST = 64  # positions of which a mean says something
# The mean of N positions may be so many times the noise's: both are means of positions that
# scatter, and those of one answer lie closer together than chance has it.
RATIO, SPREAD = 1.15, 6.0
TURNED = 0.5  # nats
FLOOR = 1e-5  # nats: less is nothing, whatever the noise
RIGHT, WRONG, SAME, TIE, UNKNOWN = "right", "wrong", "same", "tie", "can't tell"

_KIND = "mlx-tp canary 1"  # what a recorded file says it is


Told = tuple[float, Sequence[int], Sequence[float]]  # as remote/score.py tells of a token


@dataclass(frozen=True)
class Position:
    """What a model says of one token: nats of the one that was given, and of the likeliest."""

    nats: float
    likeliest: Mapping[int, float]

    @classmethod
    def of(cls, told: Told) -> Position:
        nats, tokens, theirs = told
        return cls(float(nats), {int(t): float(v) for t, v in zip(tokens, theirs, strict=True)})

    @property
    def best(self) -> int:
        return min(self.likeliest, key=lambda token: (-self.likeliest[token], token))

    def preferred(self, token: int) -> float:
        """Nats by which the likeliest one is ahead of `token`, at least."""
        values = self.likeliest
        return values[self.best] - values.get(token, min(values.values()))


@dataclass(frozen=True)
class Reference:
    """What a reference answered, how likely it finds that, and how far it strays from itself.

    `tokens` are prompts of `first` tokens, each with its answer; `positions` are those of all
    answers, one after the other; `noise` has for each way of asking again by how many nats the
    same tokens differ, in the same order. `texts` are its answers where it tells no more.
    """

    model: str
    ranks: int
    what: str
    first: int = 0
    tokens: Sequence[Sequence[int]] = ()
    positions: Sequence[Position] = ()
    noise: Mapping[str, Sequence[float]] = field(default_factory=dict)
    texts: Sequence[str] = ()

    @property
    def answers(self) -> list[list[int]]:
        return [list(each[self.first :]) for each in self.tokens]

    def dump(self) -> str:
        rows = [[each.nats, *zip(*each.likeliest.items(), strict=True)] for each in self.positions]
        return json.dumps({"kind": _KIND, **asdict(self), "positions": rows}) + "\n"

    @classmethod
    def load(cls, text: str) -> Reference:
        """One that was recorded; raise ValueError for what is none."""
        try:
            data = json.loads(text)
            if data.pop("kind") != _KIND:
                raise ValueError
            found = cls(**{**data, "positions": [Position.of(each) for each in data["positions"]]})
            if len(found.positions) != sum(map(len, found.answers)):
                raise ValueError
        except (ValueError, KeyError, TypeError, AttributeError):
            raise ValueError("is no file of inv tp.bench --canary --record") from None
        return found


@dataclass(frozen=True)
class Verdict:
    """What came of it: differences in nats, as docs/reference.md has them."""

    verdict: str
    why: str
    positions: int = 0
    mean: float = 0
    largest: float = 0
    limit: float = 0
    noise: float = 0
    noise_largest: float = 0
    ways: Mapping[str, float] = field(default_factory=dict)
    turned: int = 0
    turned_most: float = 0
    turned_limit: float = TURNED
    served: Mapping[str, int] = field(default_factory=dict)

    @property
    def sees(self) -> float:
        """Nats per token that a fault must add (as noise does, at random) to be called wrong."""
        return math.sqrt(max(self.limit**2 - self.noise**2, 0))

    def document(self) -> dict[str, object]:
        """The figures as JSON has them."""
        return {
            "verdict": self.verdict,
            "why": self.why,
            "positions": self.positions,
            "nats": {"mean": self.mean, "largest": self.largest, "limit": self.limit},
            "noise": {"mean": self.noise, "largest": self.noise_largest, "ways": dict(self.ways)},
            "turned": {"count": self.turned, "most": self.turned_most, "limit": self.turned_limit},
            "sees": self.sees,
            "served": {**dict.fromkeys((SAME, TIE, WRONG), 0), **self.served},
        }


def differences(one: Sequence[Position], other: Sequence[Position]) -> list[float]:
    """Nats between two on the given tokens; of more than the first, only as many as both have."""
    return [abs(a.nats - b.nats) for a, b in zip(one, other, strict=False)]


def judge(
    reference: Reference, found: Sequence[Position], served: Sequence[Sequence[int]] = ()
) -> Verdict:
    """Hold what a server says of the reference's tokens, and its own answers, against it."""
    apart = differences(reference.positions, found)
    ways = {name: statistics.fmean(each) for name, each in reference.noise.items()}
    noise, largest = max(ways.values()), max(max(each) for each in reference.noise.values())
    turned = _turned(reference, found)
    most = max(TURNED, 2 * largest)
    verdict = Verdict(
        RIGHT,
        "",
        positions=len(apart),
        mean=statistics.fmean(apart),
        largest=max(apart),
        limit=noise * (RATIO + SPREAD / math.sqrt(len(apart))) + FLOOR,
        noise=noise,
        noise_largest=largest,
        ways=ways,
        turned=len(turned),
        turned_most=max(turned, default=0),
        turned_limit=most,
        served=Counter(_ended(reference, n, each, most) for n, each in enumerate(served)),
    )
    why = _wrong(verdict)
    return replace(verdict, verdict=WRONG, why=why) if why else verdict


def _turned(reference: Reference, found: Sequence[Position]) -> list[float]:
    """Of each token that another one has won over: the nats by which it was ahead."""
    pairs = zip(reference.positions, found, strict=True)
    return [one.preferred(other.best) for one, other in pairs if one.best != other.best]


def _wrong(found: Verdict) -> str:
    """Why it is wrong, or nothing."""
    if not found.mean <= found.limit:  # also where it is no number
        return (
            f"the answers' tokens are {found.mean:.2g} nats off on average, where rounding makes"
            f" {found.noise:.2g} and {found.limit:.2g} at most"
        )
    if found.turned_most > found.turned_limit:
        return (
            f"another token has won over one that the reference preferred by"
            f" {found.turned_most:.2g} nats, where rounding turns {found.turned_limit:.2g} at most"
        )
    if found.served.get(WRONG):
        return (
            f"{found.served[WRONG]} of {sum(found.served.values())} answers as clients get them"
            " differ from the reference's by more than rounding: a stale prefix cache?"
        )
    return ""


def _ended(reference: Reference, number: int, served: Sequence[int], most: float) -> str:
    """How an answer as clients get it compares with the reference's, where they first differ."""
    answer = reference.answers[number % len(reference.tokens)]
    pairs = enumerate(zip(answer, served, strict=False))
    at = next((at for at, (a, b) in pairs if a != b), None)
    if at is None:
        return SAME if served else WRONG
    before = sum(map(len, reference.answers[: number % len(reference.tokens)]))
    position = reference.positions[before + at]
    return TIE if position.preferred(served[at]) <= most else WRONG


def judge_texts(reference: Reference, texts: Sequence[str]) -> Verdict:
    """Hold answers in words against the reference's: that they differ says nothing by itself."""
    pairs = zip(reference.texts, texts, strict=True)
    counts = Counter(SAME if one == other else UNKNOWN for one, other in pairs)
    if not counts[UNKNOWN]:
        return Verdict(SAME, "", served=counts)
    why = "answers differ, and without log probabilities rounding can't be told from wrong"
    return Verdict(UNKNOWN, f"{counts[UNKNOWN]} of {len(texts)} {why}", served=counts)
