"""The figures of an answer: what can't be divided by is no rate."""

from __future__ import annotations

from typing import Any

import pytest

from tasks.cluster.http.completion import ChatResult, ToolCall, calls, first_tokens
from tasks.cluster.http.load import LoadRow, Sample
from tasks.cluster.http.stream import CallPart
from tasks.commands.tp import bench, chat


def result(**more: Any) -> ChatResult:
    told: dict[str, Any] = {
        "text": "a", "thought": "", "finish": "stop", "first": 2.0, "seconds": 4.0, "pieces": 20,
        "prompt_tokens": 10, "tokens": 20, "first_tokens": 1, "cached": None,
    }  # fmt: skip
    return ChatResult(**{**told, **more})


ONE = {"first": 2.3, "seconds": 2.3, "pieces": 1, "first_tokens": 20}


@pytest.mark.parametrize(
    ("more", "speed", "overall", "says"),
    [
        ({}, 9.5, 5.0, "first token after 2.00 s; then 9.5 tokens/s; 20 tokens in 4.0 s; prompt"),
        # All in one piece: nothing to divide by.
        (ONE, None, 8.7, "2.30 s; came in one piece; 20 tokens in 2.3 s, 8.7 tokens/s in all;"),
        # A parser that held all back, and lets its pieces go at once.
        (
            {"first": 2.299, "seconds": 2.3}, None, 8.7,
            "; all pieces came at once; 20 tokens in 2.3 s, 8.7 tokens/s in all;",
        ),
        ({"seconds": 2.1, "pieces": 999, "tokens": 999}, None, 475.7, "; all pieces came at once;"),
        # Ten tokens a piece: those of the first took none of the time after it.
        ({"pieces": 2, "first_tokens": 10}, 5.0, 5.0, "; then 5.0 tokens/s; 20 tokens in 4.0 s;"),
        ({"pieces": 1, "tokens": 1, "seconds": 2.0}, None, 0.5, "after 2.00 s; 1 token in 2.0 s;"),
        (
            {"tokens": None, "first_tokens": None}, None, None,
            "; then 9.5 pieces/s; 20 pieces in 4.0 s, whose tokens the server does not count;",
        ),
        ({**ONE, "tokens": None, "first_tokens": None}, None, None, "one piece; 1 piece in 2.3 s,"),
        ({"first": None, "pieces": 0, "tokens": None, "seconds": 0.0}, None, None, "no token came"),
    ],
)  # fmt: skip
def test_figures(
    more: dict[str, Any], speed: float | None, overall: float | None, says: str
) -> None:
    found = result(**more)
    assert found.speed == pytest.approx(speed)
    assert found.overall == pytest.approx(overall, abs=0.05)
    assert says in chat.in_words(found)


@pytest.mark.parametrize(
    ("tokens", "told", "sizes", "first"),
    [
        (20, None, [1] * 20, 1),
        (20, None, [60], 20),
        (20, None, [30, 30], 10),  # by its share of the text
        (20, 4, [30, 30], 4),  # by the server's own word
        (20, 20, [30, 30], 10),  # which counted all of them before
        (3, None, [9, 1, 1, 1], 1),
        (None, None, [1, 1], None),
        (5, None, [], None),
    ],
)
def test_tokens_of_the_first_piece(
    tokens: int | None, told: int | None, sizes: list[int], first: int | None
) -> None:
    assert first_tokens(tokens, told, sizes) == first


def test_calls() -> None:
    parts = [CallPart(1, "g", "{"), CallPart(0, "f"), CallPart(1, "g", "}"), CallPart(0, "", "{}")]
    assert calls(parts) == [ToolCall("f", "{}"), ToolCall("g", "{}")]
    assert str(ToolCall("f", '{"a": 1}')) == 'f({"a": 1})'


def test_columns() -> None:
    """A row of answers that came at once has no tokens/s of each, and so has its document."""
    once = Sample(2.3, 2.3, 10, 20, None, None, None, 1, None, True)
    told = LoadRow(1, 10, 10, 2, 4.6, [once, once]).document()
    assert told["tokens_per_second"] == {"p50": None, "p95": None}
    assert told["came_at_once"] == 2
    assert bench.table([told])[1][-3:] == ("-", "-", "8.7")
    untold = Sample(1.0, 3.0, None, None, None, None, None, 20, 9.5)
    told = LoadRow(1, 10, 10, 2, 4.0, [untold, untold]).document()
    assert told["tokens_per_second_total"] is None
    assert bench.table([told])[1][-3:] == ("9.5 pieces/s", "9.5 pieces/s", "10.0 pieces/s")
