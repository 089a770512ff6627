"""A server's ranks asked for log probabilities on given tokens (remote/score.py)."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from .canary import Told
from .client import Api
from .failure import NOT_AS_AGREED, ApiError, Json

# As in remote/score.py, which lies on nodes and can't be imported here.
MARK = "\x00mlx-tp "


class NoOrdersError(ApiError):
    """The server is none that takes orders: it took one for a prompt."""


@dataclass(frozen=True)
class Orders:
    """The server at `api` with the model of that name; `timeout` is in seconds per order."""

    api: Api
    model: str
    timeout: float

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """The tokens of texts, as the server's tokenizer has them."""
        tokens: list[list[int]] = self._ask({"encode": texts})
        return tokens

    def answer(self, tokens: Sequence[Sequence[int]], count: int) -> list[list[int]]:
        """The `count` likeliest tokens after each of these prompts, which are of one length."""
        answers: list[list[int]] = self._ask({"answer": tokens, "count": count})
        return answers

    def score(
        self, tokens: Sequence[Sequence[int]], first: int, step: int, parts: int = 0
    ) -> list[list[Told]]:
        """Rows of all tokens from the `first` on, of sequences of one length, as a batch."""
        order = {"score": tokens, "first": first, "step": step, "parts": parts}
        rows: list[list[Told]] = self._ask(order)
        return rows

    def serve(self, tokens: Sequence[int], count: int) -> list[int]:
        """The likeliest tokens after a prompt by the server's own way: its caches and its batch."""
        data = self._send({"serve": tokens}, count)
        try:
            return [int(each["id"]) for each in data["choices"][0]["logprobs"]["content"]]
        except NOT_AS_AGREED:
            raise ApiError(f"it gives no answer: {_said(data)}") from None

    def _ask(self, order: dict[str, object]) -> Json:
        data = self._send(order, 1)
        if "choices" in data:
            raise NoOrdersError("it tells no log probabilities of given tokens")
        said = str(data.get("error"))
        if not said.startswith(MARK):
            raise ApiError(f"it gives no answer: {_said(data)}")
        return json.loads(said[len(MARK) :])

    def _send(self, order: dict[str, object], count: int) -> dict[str, Json]:
        prompt = MARK + json.dumps(order)
        return self.api.completion(
            self.model, prompt, count, self.timeout, temperature=0, logprobs=True
        )


def _said(data: dict[str, object]) -> str:
    return str(data.get("error", data))[:200]
