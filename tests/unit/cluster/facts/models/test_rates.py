"""What tp.bench has measured of a cluster, and where fewer ranks are faster."""

from __future__ import annotations

import pytest

from tasks.cluster.facts.models import rates
from tasks.cluster.facts.models.rates import Rate

ONE = Rate(1, "ring", 35.8, 1764500000, "/a model/M")
TWO = Rate(2, "ring", 6.4, 1764500100, "/a model/M")


def test_lines() -> None:
    """The last of a kind counts; what is no line of ours is passed over."""
    old = Rate(1, "ring", 99.0, 1, "/a model/M")
    text = "\n".join(["x", old.line, TWO.line, "1 ring fast 3 M", ONE.line, ""])
    assert sorted(rates.parse(text, 0), key=lambda each: each.ranks) == [ONE, TWO]
    assert rates.parse("", 0) == ()


def test_fewer_are_faster() -> None:
    said = rates.fewer([ONE, TWO], ONE.model, 2, "ring")
    assert said.startswith("1 rank is faster with this model: 35.8 tokens/s for each answer")
    assert said.endswith("2 over ring 6.4: -n 1")
    three = [ONE, Rate(2, "jaccl", 60.0, 1, ONE.model), Rate(4, "ring", 9.0, 1, ONE.model)]
    assert rates.fewer(three, ONE.model, 4, "ring").startswith("2 ranks are faster")


@pytest.mark.parametrize(
    ("known", "model", "ranks", "backend"),
    [
        ([ONE], ONE.model, 2, "ring"),  # these ranks were not measured
        ([TWO], ONE.model, 2, "ring"),  # no fewer were
        ([ONE, TWO], "another", 2, "ring"),
        ([ONE, TWO], ONE.model, 2, "jaccl"),
        ([ONE, TWO], ONE.model, 1, "ring"),
        ([Rate(1, "ring", 5.0, 1, "M"), Rate(2, "ring", 6.0, 1, "M")], "M", 2, "ring"),
    ],
)
def test_nothing_is_said_of_what_is_not_known(
    known: list[Rate], model: str, ranks: int, backend: str
) -> None:
    assert rates.fewer(known, model, ranks, backend) == ""
