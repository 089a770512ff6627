"""A streamed completion as clients read it: bytes -> events -> chunks. Pure.

Events are the HTML standard's (server-sent events). What a chunk holds differs by server; whatever
the openai client takes is taken, and tests/unit/cluster/http/test_stream.py plays both the same
streams. Why it is our own: docs/dependencies.md.
"""

import codecs
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from ..text import one_line
from .failure import NOT_AS_AGREED, ApiError, Json, error_of, of_body, words

LIMIT, LINES = 4 * 1024 * 1024, 10_000  # characters of a line, lines of an event
MOST = 10**12  # tokens
DONE = "[DONE]"
_NO_REASON = (None, False, "", "null", "None")  # of an answer that goes on; null as a word, too
# A model's thoughts: mlx-lm and OpenRouter, DeepSeek and vLLM, Ollama.
_THOUGHTS = ("reasoning", "reasoning_content", "thinking")
# mlx-vlm counts as Anthropic and OpenAI's newer API do.
_COUNTS = {
    "prompt_tokens": ("prompt_tokens", "input_tokens"),
    "completion_tokens": ("completion_tokens", "output_tokens"),
}


@dataclass(frozen=True)
class CallPart:
    """A part of a tool call: `name` comes once, `arguments` (JSON text) bit by bit.

    `id` is the call's, where it is told: some servers give each call the same index, or none.
    """

    index: int
    name: str = ""
    arguments: str = ""
    id: str = ""


@dataclass(frozen=True)
class StreamChunk:
    """A part of a streamed answer: `text`, or `thought` of a model that thinks aloud, or `calls`.

    `finish` is why it ends ("stop", "length"), in one of the last pieces; `usage` counts tokens
    (prompt_tokens, completion_tokens, cached_tokens) where the server tells, at the end.
    """

    text: str = ""
    thought: str = ""
    finish: str | None = None
    usage: Mapping[str, int] = field(default_factory=dict)
    calls: tuple[CallPart, ...] = ()

    @property
    def size(self) -> int:
        """Characters of it, whatever they are for; 0 where it brings nothing of the answer."""
        called = sum(len(call.name) + len(call.arguments) for call in self.calls)
        return len(self.text) + len(self.thought) + called


def read(
    blocks: Iterable[bytes], at_end: Callable[[bool], None] = lambda ended: None
) -> Iterator[StreamChunk]:
    """The chunks of an answer whose bytes come as `blocks`, each as soon as it is whole.

    `at_end` is called once the answer is: by a reason, or the usage of all. What may follow are
    counts and [DONE]; more of the answer, where a server gives a reason with every piece, takes the
    call back (False). Raise ApiError for an error that the server tells, for what is no completion,
    and for an answer without an end.
    """
    body = _Body(blocks)
    for event in events(body.text()):
        if event.is_done:
            return
        body.is_stream = True
        chunk = _chunk(event)
        if body.has_ended and chunk.size:
            at_end(False)
        counted = chunk.usage.get("completion_tokens") and not event.has_choices
        if not body.has_ended and (chunk.finish or counted):
            body.has_ended = True
            at_end(True)
        yield chunk
    if not body.has_ended:
        yield _whole("" if body.is_stream else body.head)


@dataclass(frozen=True)
class Event:
    """An event of a stream: its data as text, and as JSON (None where it is none)."""

    name: str
    data: str
    json: Json

    @property
    def is_done(self) -> bool:
        return self.data.strip(' "').upper().startswith(DONE)

    @property
    def has_choices(self) -> bool:
        return isinstance(self.json, Mapping) and bool(self.json.get("choices"))


class _Body:
    """The text of an answer as it comes; what failed behind its end is no failure."""

    def __init__(self, blocks: Iterable[bytes]) -> None:
        self.blocks = blocks
        self.has_ended = self.is_stream = False
        self.head = ""  # of what has been no stream so far

    def text(self) -> Iterator[str]:
        # It takes a line's end in any of its three forms, also where it comes in two blocks.
        utf8 = codecs.getincrementaldecoder("utf-8-sig")("replace")
        decoder = io.IncrementalNewlineDecoder(utf8, translate=True)
        try:
            for block in self.blocks:
                text = decoder.decode(block)
                if not self.is_stream and len(self.head) < LIMIT:
                    self.head += text
                yield text
        except ApiError:
            if not self.has_ended:
                raise


def events(texts: Iterable[str]) -> Iterator[Event]:
    """The events of a stream. Data that is JSON by itself waits for no blank line behind it.

    What is left at the end is an event only if it is whole.
    """
    name, data = "", list[str]()
    for line in _lines(texts):
        if len(data) > LINES:
            raise ApiError("the stream holds an event without end")
        key, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not line or key == "error":  # llama.cpp writes an error as a field of that name
            if data or line:
                yield _event(*(("error", value) if line else (name, "\n".join(data))))
            name, data = "", []
        elif key == "event":
            name = value
        elif key == "data":
            event = _event(name, value) if not data else None
            if event and (event.json is not None or event.is_done):
                yield event
            else:
                data.append(value)
    event = _event(name, "\n".join(data))
    if event.json is not None:
        yield event


def _event(name: str, data: str) -> Event:
    try:
        return Event(name, data, json.loads(data, strict=False))  # as C has it: tabs in texts
    except (ValueError, RecursionError):
        return Event(name, data, None)


def _lines(texts: Iterable[str]) -> Iterator[str]:
    rest = ""
    for text in texts:
        *lines, rest = (rest + text).split("\n")
        if len(rest) > LIMIT:
            raise ApiError("the stream holds a line without end")
        yield from lines
    yield rest


def _chunk(event: Event) -> StreamChunk:
    """What an event brings of the answer: nothing, where it has other things to tell."""
    said = error_of(event.json)
    if event.name == "error":
        said = of_body(event.json) or words(event.json or event.data) or "an error, and not which"
    if said:
        raise ApiError(f"the server said: {said}")
    if not isinstance(event.json, Mapping) and (event.name or event.data.strip() in ("", "null")):
        return StreamChunk()  # a ping
    try:
        return _of_choice(event.json)
    except NOT_AS_AGREED:
        raise ApiError(f"the stream holds what is no completion: {event.data[:200]!r}") from None


def _of_choice(data: Json) -> StreamChunk:
    choices = data.get("choices")
    choice = (choices[0] if choices else None) or {}
    reason = choice.get("finish_reason")
    end = None if reason in _NO_REASON else str(reason)
    if choice.get("error") or end == "error":
        said = words(choice.get("error")) if choice.get("error") else "an error, and not which"
        raise ApiError(f"the server said: {said}")
    told = choice["delta"] if "delta" in choice else choice.get("message")
    text, thought, calls = parts(told or {"content": choice.get("text")})
    return StreamChunk(text, thought, end, usage(data), calls)


def parts(message: Mapping[str, Json]) -> tuple[str, str, tuple[CallPart, ...]]:
    """Text, thoughts and tool calls of a message, whole or in part."""
    content = message.get("content")
    thought = next((found for key in _THOUGHTS if (found := _text(message.get(key)))), "")
    if not thought and isinstance(content, list):  # as Mistral has it
        parts = [part for part in content if isinstance(part, Mapping)]
        thought = "".join(_text(part.get("thinking")) for part in parts)
    text = _text(content) or _text(message.get("refusal"))
    return text, thought, tuple(_calls(message))


def _text(content: object) -> str:
    """Text, or the texts of a list of parts."""
    if isinstance(content, list):
        return "".join(map(_text, content))
    if isinstance(content, Mapping):
        return _text(content.get("text") or content.get("content"))
    return "" if content is None or isinstance(content, bool) else str(content)


def _calls(message: Mapping[str, Json]) -> Iterator[CallPart]:
    old = message.get("function_call")
    made = message.get("tool_calls") or ([{"function": old}] if old else [])
    for number, call in enumerate([made] if isinstance(made, Mapping) else made):
        index, function = call.get("index"), call.get("function") or {}
        told = function.get("arguments")
        arguments = told if isinstance(told, str) else json.dumps(told) if told else ""
        index = index if type(index) is int else number
        name, own = function.get("name") or "", call.get("id") or ""
        yield CallPart(index, str(name), arguments, str(own))


def usage(data: Mapping[str, Json]) -> dict[str, int]:
    """The server's counts of tokens, as far as it tells any."""
    told = data.get("usage")
    if not isinstance(told, Mapping):
        return {}
    found = {
        name: _count(told[key])
        for name, keys in _COUNTS.items()
        for key in keys
        if told.get(key) is not None
    }
    details = told.get("prompt_tokens_details")
    if isinstance(details, Mapping):
        found["cached_tokens"] = _count(details.get("cached_tokens"))
    return {name: count for name, count in found.items() if count is not None}


def _count(told: object) -> int | None:
    """A count of tokens, also as JavaScript and Lua write it (20.0); None for what can be none."""
    if isinstance(told, bool) or not isinstance(told, (int, float)) or not 0 <= told < MOST:
        return None
    return int(told)


def _whole(body: str) -> StreamChunk:
    """An answer that is one JSON document, as some servers give whatever was asked for."""
    event = _event("", body)
    if event.has_choices:
        return _chunk(event)
    if said := of_body(event.json):
        raise ApiError(f"the server said: {said}")
    head = f": {one_line(body)[:200]!r}" if body.strip() else ""
    raise ApiError(f"the stream broke off{head}")
