"""Whether a difference between two measurements is more than their noise. Pure.

By ranks alone (Mann-Whitney, Hodges-Lehmann): times of requests are no normal distribution, and a
few repeats are all that there is. An interval holds the true value 95 times of 100.
"""

import math
import statistics
from collections.abc import Sequence
from functools import cache
from typing import TypedDict

DOUBT = 0.05  # how often an interval may miss the true value
NORMAL = statistics.NormalDist().inv_cdf(1 - DOUBT / 2)  # standard deviations of an interval
LEAST = 0.02  # two runs of the same differ by as much: a machine is not the same an hour later
MANY = 40  # values from which on a normal distribution is near enough (and the exact one slow)


class Effect(TypedDict):
    """How many times as large the second measurement is, in what interval, and if that is noise."""

    ratio: float
    low: float
    high: float
    is_noise: bool


def between(ratio: float, low: float, high: float) -> Effect:
    is_noise = low <= 1 + LEAST and high >= 1 - LEAST
    return {"ratio": ratio, "low": low, "high": high, "is_noise": is_noise}


def effect(before: Sequence[float], after: Sequence[float]) -> Effect | None:
    """The median ratio of `after` to `before`, all above 0; None where they are too few to tell."""
    cut = _cut(len(before), len(after))
    if cut is None or min(*before, *after) <= 0:
        return None
    ratios = sorted(new / old for old in before for new in after)
    return between(statistics.median(ratios), ratios[cut], ratios[-1 - cut])


def interval(values: Sequence[float]) -> tuple[float, float] | None:
    """What the mean of so many more values would be in (Student's t); None for less than two."""
    if len(values) < 2:
        return None
    mean, error = statistics.fmean(values), statistics.stdev(values) / math.sqrt(len(values))
    half = _student(len(values) - 1) * error
    return mean - half, mean + half


# Of 1 to 10 degrees of freedom, for 95 %; https://www.itl.nist.gov/div898/handbook/eda/section3/eda3672.htm
_STUDENT = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)


def _student(freedom: int) -> float:
    """Its 97.5 % point; beyond the table by its expansion around the normal one."""
    if freedom <= len(_STUDENT):
        return _STUDENT[freedom - 1]
    return NORMAL + (NORMAL**3 + NORMAL) / (4 * freedom)


def _cut(one: int, two: int) -> int | None:
    """How many of the ratios, in order, lie outside of the interval at each end."""
    if not one or not two:
        return None
    if max(one, two) > MANY:
        spread = math.sqrt(one * two * (one + two + 1) / 12)
        cut = math.floor(one * two / 2 - NORMAL * spread)
    else:
        cut = _exact(one, two)
    return cut - 1 if cut > 0 else None


@cache
def _exact(one: int, two: int) -> int:
    """The least U of Mann and Whitney that is not too rare to be noise."""
    below, rare = 0, DOUBT / 2 * math.comb(one + two, one)
    for value, count in enumerate(_counts(one, two)):
        below += count
        if below > rare:
            return value
    return 0


def _counts(one: int, two: int) -> list[int]:
    """In how many orders of two groups of such sizes U is 0, 1, 2, and so on."""
    ways = [1] + [0] * (one * two)
    for size in range(1, one + 1):
        # The Gaussian binomial coefficient, a factor at a time.
        for value in range(len(ways) - 1, two + size - 1, -1):
            ways[value] -= ways[value - two - size]
        for value in range(size, len(ways)):
            ways[value] += ways[value - size]
    return ways
