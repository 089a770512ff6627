"""One streamed answer and its times, as a client sees them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .api import Api, ApiTimeoutError, Messages, Piece


@dataclass(frozen=True)
class Answer:
    """`first` and `seconds` count from the request to the first and to the last piece.

    Token counts are the server's own, None where it tells none; `cached` are those of the prompt
    that it had from an earlier one.
    """

    text: str
    thought: str
    finish: str | None
    first: float | None
    seconds: float
    prompt_tokens: int | None
    tokens: int | None
    cached: int | None

    @property
    def speed(self) -> float | None:
        """Tokens/s after the first token; None for a single one, or where they are not counted."""
        if self.first is None or self.tokens is None or self.tokens < 2:
            return None
        return (self.tokens - 1) / max(self.seconds - self.first, 1e-9)


def ask(
    api: Api,
    model: str,
    messages: Messages,
    max_tokens: int,
    timeout: float = 60,
    show: Callable[[Piece], None] = lambda piece: None,
    until: float | None = None,
    **sampling: Any,
) -> Answer:
    """Ask, `show` each piece as it comes, and time it; `until` is when all must have come.

    `timeout` is in seconds without a word, `until` by `time.monotonic`. Raise ApiError.
    """
    start = time.monotonic()
    first, last, finish = None, start, None
    text, thought = [], []
    usage: dict[str, int] = {}
    for piece in api.stream(model, messages, max_tokens, timeout, **sampling):
        now = time.monotonic()
        if until is not None and now > until:
            raise ApiTimeoutError("the answer was not whole in time")
        if piece.text or piece.thought:
            first, last = first or now, now
            text.append(piece.text)
            thought.append(piece.thought)
            show(piece)
        finish = piece.finish or finish
        usage |= piece.usage
    return Answer(
        "".join(text),
        "".join(thought),
        finish,
        None if first is None else first - start,
        last - start,
        usage.get("prompt_tokens"),
        usage.get("completion_tokens"),
        usage.get("cached_tokens"),
    )
