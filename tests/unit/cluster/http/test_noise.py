"""What is noise, and what is a change: against tables, and against what was made up on purpose."""

from __future__ import annotations

import itertools
import random
import statistics
from collections import Counter

import pytest

from tasks.cluster.http import noise


@pytest.mark.parametrize("sizes", [(3, 3), (4, 5), (2, 7)])
def test_the_distribution_is_that_of_all_orders(sizes: tuple[int, int]) -> None:
    """Counted one by one: how many pairs are the wrong way round in each order."""
    one, two = sizes
    found: Counter[int] = Counter()
    for places in itertools.combinations(range(one + two), one):
        found[sum(place - number for number, place in enumerate(places))] += 1
    assert noise._counts(one, two) == [found[value] for value in range(one * two + 1)]


# Critical values of U, two-sided 5 %, from the tables of textbooks: U at or below it is no noise.
@pytest.mark.parametrize(
    ("sizes", "critical"),
    [((4, 4), 0), ((5, 5), 2), ((6, 8), 8), ((8, 8), 13), ((10, 10), 23), ((20, 20), 127)],
)
def test_critical_values_are_those_of_the_tables(sizes: tuple[int, int], critical: int) -> None:
    assert noise._exact(*sizes) == critical + 1


@pytest.mark.parametrize("sizes", [(1, 1), (3, 3), (0, 9), (2, 5)])
def test_too_few_to_tell(sizes: tuple[int, int]) -> None:
    assert noise.effect([1.0] * sizes[0], [2.0] * sizes[1]) is None


def test_a_clear_change() -> None:
    found = noise.effect([10.0, 10.1, 9.9, 10.2], [20.0, 20.2, 19.9, 20.1])
    assert found is not None
    assert found["ratio"] == pytest.approx(2, rel=0.02)
    assert 1.9 < found["low"] < found["ratio"] < found["high"] < 2.1
    assert not found["is_noise"]


@pytest.mark.parametrize("sizes", [(4, 4), (8, 6), (50, 60)])
def test_how_often_noise_is_called_a_change(sizes: tuple[int, int]) -> None:
    """Of pairs without a difference some 5 % look like one, whatever they are distributed as."""
    dice = random.Random(1)
    wrong = 0
    for _ in range(600):
        one, two = ([dice.lognormvariate(0, 0.3) for _ in range(n)] for n in sizes)
        found = noise.effect(one, two)
        assert found is not None
        wrong += not found["is_noise"]
    assert wrong <= 600 * 0.08
    assert wrong > 0


def test_two_runs_of_the_same_are_never_quite_alike() -> None:
    """Each is steady to a per mille; an hour later the machine is 1 % slower: that is noise."""
    one = [100 + n / 10 for n in range(8)]
    for times, is_noise in ((0.985, True), (1.015, True), (0.95, False), (1.05, False)):
        found = noise.effect(one, [times * value for value in one])
        assert found is not None
        assert found["is_noise"] == is_noise


@pytest.mark.parametrize(("many", "half"), [(3, 2.4843), (6, 1.0494), (31, 0.3668)])
def test_interval_of_a_mean(many: int, half: float) -> None:
    """Student's: of values whose standard deviation is 1, against the table."""
    spread = ((many - 1) / many) ** 0.5
    values = [spread * (1 if number % 2 else -1) for number in range(many)]
    if many % 2:
        values[-1] = 0.0
    low, high = noise.interval(values) or (0, 0)
    assert (high - low) / 2 == pytest.approx(half * statistics.stdev(values), rel=2e-3)
    assert noise.interval([1.0]) is None
