"""A node's clock."""

import re

from .. import Fact, Key


def parse(text: str, status: int) -> float:
    """Seconds since the epoch; `date` has no fractions on macOS."""
    if status != 0 or not re.fullmatch(r"\s*\d{9,11}\s*", text):
        raise ValueError("the clock can't be read")
    return float(text)


def skew(now: float, begun: float, ended: float) -> float:
    """Seconds that a clock is ahead (or behind, negative) of ours, at the least.

    It said `now` at some time between `begun` and `ended` by our clock, in whole seconds.
    """
    if now > ended:
        return now - ended
    return min(now + 1 - begun, 0.0)


KEY = Key[float]("clock")
FACT = Fact(KEY, "date +%s", parse)
