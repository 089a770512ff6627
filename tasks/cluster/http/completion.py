"""One streamed answer and its times, as a client sees them."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .client import Api, Messages
from .failure import ApiTimeoutError
from .stream import CallPart, StreamChunk

# What comes within so many seconds, or quicker per piece than any engine makes one, was made before
# and comes from a buffer: its time says nothing of how fast it was made.
SHORTEST, QUICKEST = 0.02, 0.0002


@dataclass(frozen=True)
class ToolCall:
    """A call that the model wants; `arguments` as it wrote them (JSON text, if it is able to)."""

    name: str
    arguments: str

    def __str__(self) -> str:
        return f"{self.name}({self.arguments})"


@dataclass(frozen=True)
class ChatResult:
    """`first` and `seconds` count from the request to the first and to the last of `pieces`.

    Token counts are the server's own, None where it tells none; `cached` are those of the prompt
    that it had from an earlier one. `first_tokens` are those of the first piece: by the server
    where it counts along, else by that piece's share of the text.
    """

    text: str
    thought: str
    finish: str | None
    first: float | None
    seconds: float
    prompt_tokens: int | None
    tokens: int | None
    cached: int | None
    pieces: int
    first_tokens: int | None = None
    calls: Sequence[ToolCall] = ()

    @property
    def speed(self) -> float | None:
        """Tokens/s after the first piece; None where they are not counted, or all came at once."""
        return self._per_second(self.tokens, self.first_tokens)

    @property
    def piece_speed(self) -> float | None:
        """Pieces/s after the first piece."""
        return self._per_second(self.pieces, 1)

    @property
    def overall(self) -> float | None:
        """Tokens/s from the request to the last piece; None where they are not counted."""
        if self.tokens is None or self.pieces == 0 or self.seconds < SHORTEST:
            return None
        return self.tokens / self.seconds

    @property
    def came_at_once(self) -> bool:
        """Whether several tokens came with no time between that one could divide by."""
        return self.pieces > 0 and self.tokens != 1 and not self._is_timed

    @property
    def _is_timed(self) -> bool:
        spread = self.seconds - (self.first or 0)
        return self.first is not None and spread >= max(SHORTEST, QUICKEST * self.pieces)

    def _per_second(self, every: int | None, first: int | None) -> float | None:
        if every is None or first is None or every <= first or not self._is_timed:
            return None
        return (every - first) / (self.seconds - (self.first or 0))


def ask(
    api: Api,
    model: str,
    messages: Messages,
    max_tokens: int,
    timeout: float = 60,
    show: Callable[[StreamChunk], None] = lambda piece: None,
    until: float | None = None,
    **sampling: object,
) -> ChatResult:
    """Ask, `show` each piece, time it; all must come by `until` (monotonic). Raise ApiError."""
    start = time.monotonic()
    came: list[tuple[float, StreamChunk]] = []
    for piece in api.stream(model, messages, max_tokens, timeout, **sampling):
        came.append((time.monotonic() - start, piece))
        if until is not None and time.monotonic() > until:
            raise ApiTimeoutError("the answer was not whole in time")
        if piece.size:
            show(piece)
    return _result(came)


def _result(came: Sequence[tuple[float, StreamChunk]]) -> ChatResult:
    """What pieces come to, each with the seconds after which it was there."""
    usage: dict[str, int] = {}
    told, pieces, times = None, list[StreamChunk](), list[float]()
    for at, piece in came:
        usage |= piece.usage
        if piece.size:
            told = told if pieces else usage.get("completion_tokens")
            pieces.append(piece)
            times.append(at)
    tokens = usage.get("completion_tokens") or None
    return ChatResult(
        text="".join(piece.text for piece in pieces),
        thought="".join(piece.thought for piece in pieces),
        finish=next((piece.finish for _, piece in reversed(came) if piece.finish), None),
        first=times[0] if times else None,
        seconds=times[-1] if times else 0.0,
        prompt_tokens=usage.get("prompt_tokens"),
        tokens=tokens,
        cached=usage.get("cached_tokens"),
        pieces=len(pieces),
        first_tokens=first_tokens(tokens, told, [piece.size for piece in pieces]),
        calls=calls([part for piece in pieces for part in piece.calls]),
    )


def first_tokens(tokens: int | None, told: int | None, sizes: Sequence[int]) -> int | None:
    """How many of `tokens` the first piece held: `told` with it by a server that counts along."""
    if tokens is None or not sizes:
        return None
    if told and (told < tokens or len(sizes) == 1):
        return told
    if tokens <= len(sizes):
        return 1
    return max(1, round(tokens * sizes[0] / sum(sizes)))


def calls(parts: Sequence[CallPart]) -> list[ToolCall]:
    """The calls whose parts came as they were made; a name with another id begins another one."""
    found: dict[tuple[int, int], ToolCall] = {}
    newest: dict[int, tuple[int, str]] = {}  # of each index: how many before it, and its id
    for part in parts:
        before, own = newest.get(part.index, (0, part.id))
        before += bool(part.name and part.id and own and part.id != own)
        newest[part.index] = before, own if not part.name else part.id or own
        call = found.get((part.index, before), ToolCall("", ""))
        # Some tell the name with every part.
        found[part.index, before] = ToolCall(
            call.name or part.name, call.arguments + part.arguments
        )
    return [found[place] for place in sorted(found)]
