"""A server's ranks give log probabilities on given tokens, for who asks rank 0 by a prompt.

mlx_lm.server tells log probabilities of what it chose itself, after prompts in words. Here a
completion whose prompt is MARK and JSON is answered by the model that is loaded, run over token
ids. The server shares every request with all ranks before it takes the prompt apart (`_tokenize`),
so they all come here in step, between two steps of whatever else is generated. Rank 0 answers by
the one way out of there that all versions have: an exception, which is sent as the `error`.

An order is one of

    {"encode": [TEXT...]}                                       -> [[id...]...]
    {"answer": [[id...]...], "count": N}                        -> [[id...]...]   the likeliest
    {"score": [[id...]...], "first": K, "step": S, "parts": P}  -> [[position...]...]
    {"serve": [id...]}                    is a prompt as any other, of these ids

Sequences of an order have the same length and run as a batch. A position (from the K-th token on)
is [nats of the given token, [likeliest ids], [their nats]] with what came before it given. S is how
many tokens the model takes at a time, of the prompt and of what follows. Shaken, each layer's
result is off by a random part of half a step of its type, as sums in another order make it.
"""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Iterator, Sequence
from typing import Any

MARK = "\x00mlx-tp "
LIKELIEST = 8
PIECE = 512  # tokens of a prompt that are taken at a time
# What mlx-lm's classes divide "sharded-to-all": of such a matrix each rank has a part of the sum.
SUMMED = ("o_proj", "o_b_proj", "out_proj", "down_proj")
Tokens = Sequence[Sequence[int]]


class Said(Exception):  # noqa: N818
    """What an order has given: MARK and JSON."""


def install(server: Any) -> None:
    """Let the server of this module (mlx_lm.server) take orders."""
    generator = server.ResponseGenerator
    tokenize = generator._tokenize

    @functools.wraps(tokenize)
    def wrapped(self: Any, tokenizer: Any, request: Any, *more: Any) -> Any:
        if not str(request.prompt).startswith(MARK):
            return tokenize(self, tokenizer, request, *more)
        order = json.loads(request.prompt[len(MARK) :])
        if "serve" not in order:
            raise Said(MARK + json.dumps(obey(self.model_provider.model, tokenizer, order)))
        return tokenize(self, Given(tokenizer, order["serve"]), request, *more)

    generator._tokenize = wrapped


class Given:
    """A tokenizer for which every text is the same tokens."""

    def __init__(self, tokenizer: Any, tokens: Sequence[int]) -> None:
        self.tokenizer, self.tokens = tokenizer, tokens

    def encode(self, *_: Any, **__: Any) -> list[int]:
        return list(self.tokens)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.tokenizer, name)


def obey(model: Any, tokenizer: Any, order: dict[str, Any]) -> Any:
    if "encode" in order:
        return [list(tokenizer.encode(text)) for text in order["encode"]]
    if "answer" in order:
        return answer(model, order["answer"], order["count"])
    with in_parts(model, order["parts"]) if order["parts"] else contextlib.nullcontext():
        return score(model, order["score"], order["first"], order["step"])


def answer(model: Any, tokens: Tokens, count: int) -> list[list[int]]:
    """The `count` likeliest tokens that follow each sequence, one after the other."""
    import mlx.core as mx

    ids = mx.array(tokens)
    cache = after(model, ids[:, :-1], PIECE)
    given, found = ids[:, -1:], []
    for _ in range(count):
        given = mx.argmax(model(given, cache=cache)[:, -1:], axis=-1)
        mx.eval(given)
        found.append(given)
    said: list[list[int]] = mx.concatenate(found, axis=1).tolist()
    return said


def score(model: Any, tokens: Tokens, first: int, step: int) -> list[list[Any]]:
    """All positions of each sequence from the `first` on."""
    import mlx.core as mx

    ids = mx.array(tokens)
    found: list[list[Any]] = [[] for _ in tokens]
    cache = after(model, ids[:, : first - 1], step)
    for at in range(first - 1, ids.shape[1] - 1, step):
        given = ids[:, at : min(at + step, ids.shape[1] - 1)]
        logits = model(given, cache=cache)
        told = positions(logits, ids[:, at + 1 : at + given.shape[1] + 1])
        for known, more in zip(found, told):
            known += more
    return found


def after(model: Any, ids: Any, step: int) -> Any:
    """The model's cache behind these tokens, of which it takes so many at a time."""
    import mlx.core as mx
    from mlx_lm.models.cache import make_prompt_cache

    cache = make_prompt_cache(model)
    for at in range(0, ids.shape[1], step):
        model(ids[:, at : at + step], cache=cache)
        mx.eval([each.state for each in cache])
    return cache


def positions(logits: Any, given: Any) -> list[list[Any]]:
    """What is told of each position, of each sequence."""
    import mlx.core as mx

    logits = logits.astype(mx.float32)
    nats = logits - mx.logsumexp(logits, axis=-1, keepdims=True)
    best = mx.argpartition(-nats, LIKELIEST - 1, axis=-1)[..., :LIKELIEST]
    of_given = mx.take_along_axis(nats, given[..., None], axis=-1)[..., 0]
    told = (of_given, best, mx.take_along_axis(nats, best, axis=-1))
    return [list(map(list, zip(*each))) for each in zip(*(part.tolist() for part in told))]


@contextlib.contextmanager
def in_parts(model: Any, parts: int) -> Iterator[None]:
    """What so many ranks would add up is added up here: the sums are theirs, and so is rounding."""
    named = [(path.rpartition(".")[2], each) for path, each in model.named_modules()]
    kept = [(each, type(each)) for name, each in named if name in SUMMED]
    for each, kind in kept:
        each.__class__ = of_parts(kind, parts)
    try:
        yield
    finally:
        for each, kind in kept:
            each.__class__ = kind


def of_parts(kind: Any, parts: int) -> Any:
    """A class of matrices that take what they multiply part by part, and add that up."""
    import mlx.core as mx

    def call(self: Any, x: Any, *given: Any, **more: Any) -> Any:
        whose = mx.arange(x.shape[-1]) * parts // x.shape[-1]
        taken = [mx.where(whose == number, x, 0) for number in range(parts)]
        results = [kind.__call__(self, each, *given, **more) for each in taken]
        if "bias" in self:  # which is added once
            bias = kind.__call__(self, mx.zeros_like(x), *given, **more)
            results[1:] = [each - bias for each in results[1:]]
        return sum(results)

    return type(kind.__name__, (kind,), {"__call__": call})
