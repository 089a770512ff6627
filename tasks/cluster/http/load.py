"""A bounded load on a server: so many requests, so many at a time, and what each of them took."""

from __future__ import annotations

import random
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TypedDict

from ..ssh import background
from . import noise
from .api import Api, ApiError
from .completion import ChatResult, ask

# Most tokenizers have a token for each of these with its space, so N of them are about N tokens.
_TEXT = """
time year work life hand part case week fact home word side kind head book door line city team name
idea body back face game road form room food tree land wind
"""
WORDS = _TEXT.split()
TRIES = 6  # requests to find out how many words make so many tokens
NEAR = 0.005  # of what is wanted: near enough, since a long prompt takes its time
NARROW = 0.05  # of the total: as narrow as its interval need be
LEAST = 4  # repeats, without which no change is told from noise (noise.effect)
SPARE = 5.0  # seconds that a request cut off by the deadline has to notice


@dataclass(frozen=True)
class Sample:
    """One request: seconds to the first and to the last token, the server's counts, or an error.

    `speed` (tokens/s after the first piece) and `piece_speed` are None where all came at once.
    """

    first: float | None = None
    seconds: float = 0
    prompt_tokens: int | None = None
    tokens: int | None = None
    cached: int | None = None
    speed: float | None = None
    error: str | None = None
    pieces: int = 0
    piece_speed: float | None = None
    came_at_once: bool = False


class Spread(TypedDict):
    """The median, and what 95 % did not exceed (of speeds: what they reached)."""

    p50: float | None
    p95: float | None


class Figures(TypedDict):
    """What repeats are compared by; `total` is tokens/s, or pieces/s where none are counted."""

    seconds: float
    first_token: float | None
    total: float | None


class LoadDocument(TypedDict):
    """A row as JSON has it."""

    concurrency: int
    prompt_tokens_wanted: int
    prompt_tokens: float | None
    prompt_words: int
    cached_tokens: int
    requests: int
    errors: dict[str, int]
    seconds: float
    first_token: Spread
    came_at_once: int
    tokens_per_second: Spread
    tokens_per_second_total: float | None
    pieces_per_second: Spread
    pieces_per_second_total: float | None
    doubt: float | None
    is_narrow: bool
    repeats: list[Figures]
    samples: list[dict[str, object]]


@dataclass(frozen=True)
class LoadRow:
    """What `requests` of `words` words, `concurrency` at a time, came to in all `seconds`."""

    concurrency: int
    wanted: int
    words: int
    requests: int
    seconds: float
    samples: Sequence[Sample]
    repeats: Sequence[LoadRow] = ()  # what it was made of, if of several

    @property
    def doubt(self) -> float | None:
        """How far the total may be from the true one, as a share of it; None for one repeat."""
        found = noise.interval([each.rate for each in self.repeats if each.rate])
        return (found[1] - found[0]) / (found[1] + found[0]) if found and sum(found) > 0 else None

    @property
    def is_narrow(self) -> bool:
        """Whether it is known well enough, by as many repeats as a comparison wants."""
        doubt = self.doubt
        return len(self.repeats) >= LEAST and doubt is not None and doubt <= NARROW

    @property
    def good(self) -> list[Sample]:
        return [sample for sample in self.samples if sample.error is None]

    @property
    def errors(self) -> Counter[str]:
        return Counter(sample.error for sample in self.samples if sample.error is not None)

    @property
    def total(self) -> float | None:
        """Tokens/s of all requests together, None where the server does not count them."""
        counts = [sample.tokens for sample in self.good]
        known = [count for count in counts if count is not None]
        return sum(known) / self.seconds if known and len(known) == len(counts) else None

    @property
    def pieces_total(self) -> float | None:
        """Pieces/s of all requests together."""
        pieces = sum(sample.pieces for sample in self.good)
        return pieces / self.seconds if pieces else None

    @property
    def rate(self) -> float | None:
        """Tokens/s of all requests, or pieces/s where none are counted."""
        return self.total or self.pieces_total

    @property
    def first(self) -> tuple[float | None, float | None]:
        """Seconds to the first token: the median, and what 95 % did not exceed."""
        return spread([sample.first for sample in self.good if sample.first is not None])

    def document(self) -> LoadDocument:
        """The row as JSON; p95 of the speed is what 95 % of the requests reached."""
        prompts = [each.prompt_tokens for each in self.good if each.prompt_tokens is not None]
        return {
            "concurrency": self.concurrency,
            "prompt_tokens_wanted": self.wanted,
            "prompt_tokens": statistics.median(prompts) if prompts else None,
            "prompt_words": self.words,
            "cached_tokens": sum(sample.cached or 0 for sample in self.good),
            "requests": self.requests,
            "errors": dict(self.errors),
            "seconds": self.seconds,
            "first_token": _spread(*self.first),
            "came_at_once": sum(sample.came_at_once for sample in self.good),
            "tokens_per_second": _reached([sample.speed for sample in self.good]),
            "tokens_per_second_total": self.total,
            "pieces_per_second": _reached([sample.piece_speed for sample in self.good]),
            "pieces_per_second_total": self.pieces_total,
            "doubt": self.doubt,
            "is_narrow": self.is_narrow,
            "repeats": [each.figures() for each in self.repeats],
            "samples": [asdict(sample) for sample in self.samples],
        }

    def figures(self) -> Figures:
        """What repeats are compared by."""
        return {"seconds": self.seconds, "first_token": self.first[0], "total": self.rate}


def merged(batches: Sequence[LoadRow]) -> LoadRow:
    """A row of all that was asked in repeats of the same load."""
    first = batches[0]
    return replace(
        first,
        requests=sum(each.requests for each in batches),
        seconds=sum(each.seconds for each in batches),
        samples=[sample for each in batches for sample in each.samples],
        repeats=batches,
    )


def _spread(half: float | None, most: float | None) -> Spread:
    return {"p50": half, "p95": most}


def _reached(speeds: Sequence[float | None]) -> Spread:
    """The median of speeds, and what 95 % of them reached."""
    found = spread([-speed for speed in speeds if speed is not None])
    return _spread(*(None if value is None else -value for value in found))


def spread(values: Sequence[float]) -> tuple[float | None, float | None]:
    """The median and the 95th percentile, between values where it falls between them."""
    if len(values) < 2:
        return (values[0], values[0]) if values else (None, None)
    cuts = statistics.quantiles(values, n=20, method="inclusive")
    return cuts[9], cuts[18]


def prompt(words: int, seed: str) -> str:
    """Words that differ from the first on with the seed: no cached prompt begins as this one."""
    chosen = random.Random(seed).choices(WORDS, k=words)
    return " ".join(chosen)


def calibrate(count: Callable[[int], int | None], wanted: int) -> int:
    """How many words make `wanted` tokens; `count(words)` is the server's count, or None."""
    tried: dict[int, int] = {}
    words = min(wanted, 64)  # where a token is a letter, `wanted` words would be far too many
    while words not in tried and len(tried) < TRIES:
        tokens = count(words)
        if tokens is None:
            return wanted
        tried[words] = tokens
        if abs(tokens - wanted) <= wanted * NEAR:
            return words
        words = _next(tried, wanted)
    return min(tried, key=lambda each: abs(tried[each] - wanted))


def _next(tried: dict[int, int], wanted: int) -> int:
    """Where the line through the two nearest counts meets what is wanted."""
    near = sorted(tried, key=lambda each: abs(tried[each] - wanted))[:2]
    if len(near) == 1:
        return max(1, round(near[0] * wanted / tried[near[0]]))
    one, two = near
    slope = (tried[two] - tried[one]) / (two - one)
    return max(1, round(one + (wanted - tried[one]) / slope)) if slope > 0 else one


@dataclass(frozen=True)
class LoadTest:
    """How to ask: `max_tokens` per answer, `timeout` seconds for all requests of a row."""

    api: Api
    model: str
    max_tokens: int
    timeout: float
    seed: str

    def count(self, words: int) -> int | None:
        """The tokens of a prompt of so many words, as the server counts them; raise ApiError."""
        text = prompt(words, f"{self.seed} count {words}")
        usage = self.api.chat(self.model, text, 1, self.timeout).get("usage")
        found = usage.get("prompt_tokens") if isinstance(usage, dict) else None
        return found if type(found) is int and found > 0 else None

    def run(self, wanted: int, words: int, concurrency: int, requests: int) -> LoadRow:
        """Ask, `concurrency` at a time; what has no answer after `timeout` seconds is an error."""
        start = time.monotonic()
        left = iter(range(requests))
        samples: list[Sample] = []

        def work() -> None:
            api = replace(self.api)  # with connections of its own
            for number in _each(left):
                seed = f"{self.seed} {wanted} {concurrency} {number}"
                samples.append(self._ask(api, prompt(words, seed), start + self.timeout))

        workers = [background.begin(work) for _ in range(concurrency)]
        background.settle(workers, self.timeout + SPARE)
        for worker in workers:
            if worker.done():
                worker.result()
        seconds = time.monotonic() - start
        missing = Sample(seconds=seconds, error="no answer in time")
        found = [*samples]
        found += [missing] * (requests - len(found))
        return LoadRow(concurrency, wanted, words, requests, seconds, found)

    def _ask(self, api: Api, text: str, until: float) -> Sample:
        start = time.monotonic()
        if start >= until:
            return Sample(error="not asked: the time was over")
        said, left = [{"role": "user", "content": text}], until - start
        most = self.max_tokens
        try:
            answer = ask(api, self.model, said, most, left, until=until, temperature=0)
        except ApiError as error:
            return Sample(seconds=time.monotonic() - start, error=str(error))
        return _sample(answer)


def _sample(answer: ChatResult) -> Sample:
    return Sample(
        answer.first,
        answer.seconds,
        answer.prompt_tokens,
        answer.tokens,
        answer.cached,
        answer.speed,
        "the answer holds no token" if answer.first is None else None,
        answer.pieces,
        answer.piece_speed,
        answer.came_at_once,
    )


def _each(shared: Iterator[int]) -> Iterator[int]:
    """The rest of an iterator that several threads share: `next` of a range's is atomic."""
    while (number := next(shared, None)) is not None:
        yield number
