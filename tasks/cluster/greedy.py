"""Greedy answers of two servers compared, token by token where they tell their tokens."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .api import Api, ApiError
from .http import stream


@dataclass(frozen=True)
class Greedy:
    """A greedy answer: its text, and its tokens (id or text) where the server tells them all.

    `rivals` has for each token what else might have come: token -> log probability.
    """

    text: str
    tokens: Sequence[Any] | None
    rivals: Sequence[Mapping[Any, float]] = ()


def ask(api: Api, model: str, prompt: str, max_tokens: int, timeout: float) -> Greedy:
    """Ask for the likeliest token at each step; raise ApiError."""
    data = api.chat(
        model, prompt, max_tokens, timeout, temperature=0, logprobs=True, top_logprobs=5
    )
    return parse(data)


def parse(data: Mapping[str, Any]) -> Greedy:
    """A completion as OpenAI's form has it; mlx-lm adds the tokens' ids."""
    try:
        choice = data["choices"][0]
        said, thought, _ = stream.parts(choice.get("message") or {})
        text = thought + said
        told = (choice.get("logprobs") or {}).get("content") or []
        tokens = [_token(each) for each in told]
        rivals = [_rivals(each) for each in told]
        counted = (data.get("usage") or {}).get("completion_tokens")
    except (KeyError, TypeError, IndexError, AttributeError):
        raise ApiError("the completion has another form than agreed") from None
    whole = None not in tokens and len(tokens) == counted
    return Greedy(text, tokens, rivals) if whole and tokens else Greedy(text, None)


def _token(entry: Mapping[str, Any]) -> Any:
    found = entry.get("id", entry.get("token"))
    return found if isinstance(found, (int, str)) else None


def _rivals(entry: Mapping[str, Any]) -> dict[Any, float]:
    return {
        _token(each): float(each["logprob"])
        for each in entry.get("top_logprobs") or []
        if isinstance(each.get("logprob"), (int, float))
    }


def difference(right: Greedy, found: Greedy) -> str | None:
    """Where `found` first differs from the reference's answer, in words, or None."""
    if right.tokens is not None and found.tokens is not None:
        return _of_tokens(right, found)
    if right.text == found.text:
        return None
    at = _first(right.text, found.text)
    return f"from character {at} on {_cut(found.text, at)} instead of {_cut(right.text, at)}"


def _of_tokens(right: Greedy, found: Greedy) -> str | None:
    one, two = right.tokens or [], found.tokens or []
    if list(one) == list(two):
        return None
    at = _first(one, two)
    ended = "the end"
    was = repr(one[at]) if at < len(one) else ended
    now = repr(two[at]) if at < len(two) else ended
    rest = _first(right.text, found.text)
    words = f"token {at} is {now} instead of {was}"
    if right.text != found.text:
        words += f" ({_cut(found.text, rest)} instead of {_cut(right.text, rest)})"
    return words + _how_near(right, one, two, at)


def _how_near(right: Greedy, one: Sequence[Any], two: Sequence[Any], at: int) -> str:
    """How likely the reference took both: rounding alone can turn what is nearly a tie."""
    if at >= min(len(one), len(two), len(right.rivals)):
        return ""
    odds = [right.rivals[at].get(tokens[at]) for tokens in (two, one)]
    if None in odds:
        return ", which the reference had not among its likeliest"
    shares = [f"{math.exp(min(value, 0)) * 100:.3g} %" for value in odds if value is not None]
    return f", which the reference gave {shares[0]} against {shares[1]}"


def _first(one: Sequence[Any], two: Sequence[Any]) -> int:
    """The first place where two sequences differ."""
    pairs = enumerate(zip(one, two, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(one), len(two)))


def _cut(text: str, at: int) -> str:
    return repr(text[at : at + 20]) if at < len(text) else "the end"
