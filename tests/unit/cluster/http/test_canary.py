"""What is rounding, and what is wrong: the canary's verdict."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

import pytest

from tasks.cluster.http import canary
from tasks.cluster.http.canary import Position, Reference, judge, judge_texts

PROMPT, COUNT = [1, 2], 64


def position(best: int, by: float = 2.0, rival: int = 9, nats: float = -0.1) -> Position:
    """A token that is ahead of its rival by so many nats."""
    return Position(nats, {best: nats, rival: nats - by})


def reference(noise: float = 0.05, positions: Sequence[Position] = ()) -> Reference:
    positions = positions or [position(7)] * COUNT
    ways = {"again": [0.0] * COUNT, "sums of 2 parts": [noise] * COUNT}
    return Reference("m", 1, "1 rank", 2, [PROMPT + [7] * COUNT], positions, ways)


def moved(by: float) -> list[Position]:
    return [position(7, nats=-0.1 - by)] * COUNT


def test_what_is_as_far_as_noise_is_right() -> None:
    found = judge(reference(), moved(0.06), [[7] * COUNT, [7] * 10])
    assert (found.verdict, found.why, found.positions) == ("right", "", COUNT)
    assert found.mean == pytest.approx(0.06)
    assert (found.noise, found.ways["again"], found.turned) == (0.05, 0.0, 0)
    assert found.mean < found.limit < 0.12
    assert 0.05 < found.sees < found.limit
    assert found.served == {"same": 2}


@pytest.mark.parametrize("by", [0.17, float("nan"), float("inf")])
def test_what_is_beyond_noise_is_wrong(by: float) -> None:
    found = judge(reference(), moved(by))
    assert found.verdict == "wrong"
    assert "nats off on average, where rounding makes 0.05" in found.why


def test_more_positions_see_less() -> None:
    few, many = reference(), reference()
    many = replace(
        many,
        tokens=[*many.tokens] * 16,
        positions=[*many.positions] * 16,
        noise={"sums of 2 parts": [0.05] * COUNT * 16},
    )
    assert judge(few, moved(0.08)).verdict == "right"
    assert judge(many, moved(0.08) * 16).verdict == "wrong"


@pytest.mark.parametrize(
    ("ahead", "noise", "verdict"),
    [(0.4, 0.05, "right"), (0.6, 0.05, "wrong"), (0.6, 0.35, "right"), (0.8, 0.35, "wrong")],
)
def test_a_token_that_turned(ahead: float, noise: float, verdict: str) -> None:
    """It is a tie within half a nat, and within what the noise makes of two tokens."""
    positions = [position(7, ahead), *[position(7)] * (COUNT - 1)]
    found = judge(reference(noise, positions), [position(9, 0.1, 7), *positions[1:]])
    assert (found.verdict, found.turned) == (verdict, 1)
    assert found.turned_most == pytest.approx(ahead)
    served = judge(reference(noise, positions), positions, [[9, 3], [7, 7]])
    assert served.verdict == verdict
    assert served.served == {"same": 1, "tie" if verdict == "right" else "wrong": 1}


def test_a_token_that_the_reference_did_not_think_of() -> None:
    """It had at most what the last of its likeliest had."""
    assert position(7, by=3).preferred(1234) == pytest.approx(3)
    found = judge(reference(), moved(0), [[7, 1234]])
    assert found.verdict == "wrong"
    assert "1 of 1 answers as clients get them" in found.why


def test_an_answer_without_tokens_is_wrong() -> None:
    assert judge(reference(), moved(0), [[]]).verdict == "wrong"


def test_words_prove_nothing() -> None:
    told = Reference("m", 1, "1 rank", texts=["a", "b"])
    assert judge_texts(told, ["a", "b"]).verdict == "same"
    found = judge_texts(told, ["a", "c"])
    assert found.verdict == "can't tell"
    assert found.why.startswith("1 of 2 answers differ")


def test_a_recorded_one_is_the_same() -> None:
    told = reference()
    found = Reference.load(told.dump())
    assert (found.tokens, found.positions, found.noise) == (
        told.tokens, told.positions, told.noise,
    )  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [{"kind": "x"}, {"positions": []}, {"positions": [[1]]}, {"tokens": 3}, {"more": 1}],
    ids=str,
)
def test_what_is_no_record(change: dict[str, object]) -> None:
    text = json.dumps({**json.loads(reference().dump()), **change})
    with pytest.raises(ValueError, match="is no file of"):
        Reference.load(text)


@pytest.mark.parametrize("text", ["", "[]", "3", '{"kind": 1', "\x00"])
def test_what_is_no_file(text: str) -> None:
    with pytest.raises(ValueError, match="is no file of"):
        Reference.load(text)


def test_ties_have_one_winner() -> None:
    assert Position(-1, {9: -1.0, 3: -1.0, 5: -2.0}).best == 3
    assert canary.differences([position(1)] * 3, moved(0.5)[:2]) == pytest.approx([0.5, 0.5])
