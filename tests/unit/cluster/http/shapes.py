"""Shapes of streamed answers, as servers are known to give them, and what must come of each."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

CLOSE, CHUNKED, LENGTH, CUT = "close", "chunked", "length", "cut"  # CUT: chunked, without its end


@dataclass(frozen=True)
class Shape:
    """What a server sends (a number is a pause in s, None an open connection), and what it means.

    `says` is in the error that must be told; `framing` is how HTTP marks the end.
    """

    blocks: Sequence[bytes | float | None]
    text: str = ""
    thought: str = ""
    calls: Sequence[tuple[str, str]] = ()
    finish: str | None = None
    tokens: int | None = None
    says: str = ""
    framing: str = CLOSE
    status: int = 200
    headers: dict[str, str] = field(default_factory=lambda: {"Content-Type": "text/event-stream"})


def chunk(delta: Any = None, finish: str | None = None, **more: Any) -> bytes:
    """An event as most servers write it."""
    choice = {"index": 0, "delta": {} if delta is None else delta, "finish_reason": finish}
    return event({"id": "c", "object": "chat.completion.chunk", "choices": [choice], **more})


def event(data: Any) -> bytes:
    return b"data: " + json.dumps(data).encode() + b"\n\n"


def say(*words: object) -> list[bytes]:
    return [chunk({"content": word}) for word in words]


JSON = {"Content-Type": "application/json"}
END = chunk(finish="stop")
COUNTS = {"prompt_tokens": 10, "completion_tokens": 20, "total_tokens": 30}
USAGE = event({"id": "c", "choices": [], "usage": COUNTS})
DONE = b"data: [DONE]\n\n"
TAIL = [END, USAGE, DONE]
WHOLE: dict[str, Any] = {"finish": "stop", "tokens": 20}
CALL = [
    {"index": 0, "id": "1", "type": "function", "function": {"name": "weather", "arguments": ""}},
    {"index": 0, "function": {"arguments": '{"city":'}},
    {"index": 0, "function": {"arguments": ' "Oslo"}'}},
]
OSLO = [("weather", '{"city": "Oslo"}')]
PLAIN = [*say("a ", "b"), *TAIL]

SHAPES: dict[str, Shape] = {
    # What every server should give.
    "plain": Shape([chunk({"role": "assistant", "content": ""}), *PLAIN], "a b", **WHOLE),
    "a piece of all": Shape([chunk({"content": "a b c"}), *TAIL], "a b c", **WHOLE),
    "several tokens a piece": Shape([*say("a b c ", "d e f"), *TAIL], "a b c d e f", **WHOLE),
    "cut off by max_tokens": Shape(
        [*say("a"), chunk(finish="length"), USAGE, DONE], "a", finish="length", tokens=20
    ),
    "no usage": Shape([*say("a"), END, DONE], "a", finish="stop"),
    "unicode, also as escapes": Shape(
        [event({"choices": [{"delta": {"content": "ä"}}]}), *say("\U0001f600"), *TAIL],
        "ä\U0001f600",
        **WHOLE,
    ),
    "a character in two blocks": Shape(
        [b'data: {"choices": [{"delta": {"content": "\xf0\x9f', 0.02, b'\x98\x80"}}]}\n\n', *TAIL],
        "\U0001f600",
        **WHOLE,
    ),
    "a block of all": Shape([b"".join(PLAIN)], "a b", **WHOLE),
    "a byte at a time": Shape([bytes([each]) for each in b"".join(PLAIN)], "a b", **WHOLE),
    "chunked": Shape(PLAIN, "a b", framing=CHUNKED, **WHOLE),
    "of a told length": Shape(PLAIN, "a b", framing=LENGTH, **WHOLE),
    # Tool calls.
    "a tool call": Shape(
        [
            *(chunk({"tool_calls": [part]}) for part in CALL),
            chunk(finish="tool_calls"),
            USAGE,
            DONE,
        ],
        calls=OSLO,
        finish="tool_calls",
        tokens=20,
    ),
    "a tool call of one piece": Shape(
        [
            chunk(
                {
                    "tool_calls": [
                        {"index": 0, "function": {"name": OSLO[0][0], "arguments": OSLO[0][1]}}
                    ]
                }
            ),
            *TAIL,
        ],
        calls=OSLO,
        **WHOLE,
    ),
    "two tool calls": Shape(
        [
            chunk({"tool_calls": [{"index": n, "function": {"name": f"f{n}", "arguments": "{}"}}]})
            for n in (0, 1)
        ]
        + TAIL,
        calls=[("f0", "{}"), ("f1", "{}")],
        **WHOLE,
    ),
    "a tool call's arguments as an object": Shape(
        [
            chunk(
                {
                    "tool_calls": [
                        {"index": 0, "function": {"name": "weather", "arguments": {"city": "Oslo"}}}
                    ]
                }
            ),
            *TAIL,
        ],
        calls=OSLO,
        **WHOLE,
    ),
    "a function call, as before tools": Shape(
        [chunk({"function_call": {"name": "weather", "arguments": OSLO[0][1]}}), *TAIL],
        calls=OSLO,
        **WHOLE,
    ),
    "tool calls that are null": Shape(
        [chunk({"content": "a", "tool_calls": None}), *TAIL], "a", **WHOLE
    ),
    # Thoughts.
    **{
        f"thoughts as {name}": Shape([chunk({name: "hm"}), *PLAIN], "a b", "hm", **WHOLE)
        for name in ("reasoning", "reasoning_content", "thinking")
    },
    "thoughts under two names": Shape(
        [chunk({"reasoning": "hm", "reasoning_content": "hm"}), *PLAIN], "a b", "hm", **WHOLE
    ),
    "thoughts as a part": Shape(
        [
            chunk(
                {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}]}
            ),
            *PLAIN,
        ],
        "a b",
        "hm",
        **WHOLE,
    ),
    # Content.
    "content as parts": Shape(
        [
            chunk({"content": [{"type": "text", "text": "a "}, {"type": "text", "text": "b"}]}),
            *TAIL,
        ],
        "a b",
        **WHOLE,
    ),
    "a refusal": Shape([chunk({"content": None, "refusal": "no"}), *TAIL], "no", **WHOLE),
    "null deltas": Shape([event({"choices": [{"delta": None}]}), *PLAIN], "a b", **WHOLE),
    "null contents": Shape([chunk({"content": None, "reasoning": None}), *PLAIN], "a b", **WHOLE),
    "null choices": Shape([event({"choices": None}), *PLAIN], "a b", **WHOLE),
    "null errors": Shape([chunk({"content": "a b"}, error=None), *TAIL], "a b", **WHOLE),
    "null usage in every chunk": Shape(
        [chunk({"content": "a b"}, usage=None), *TAIL], "a b", **WHOLE
    ),
    "no finish_reason but in the end": Shape(
        [event({"choices": [{"index": 0, "delta": {"content": "a"}}]}), *TAIL], "a", **WHOLE
    ),
    "the reason beside the text": Shape(
        [chunk({"content": "a b"}, "stop"), USAGE, DONE], "a b", **WHOLE
    ),
    # Usage.
    "usage without choices": Shape([*say("a"), END, event({"usage": COUNTS}), DONE], "a", **WHOLE),
    "usage in the last chunk": Shape(
        [*say("a"), chunk({}, "stop", usage=COUNTS), DONE], "a", **WHOLE
    ),
    "usage with every piece": Shape(
        [chunk({"content": "a"}, usage={"completion_tokens": 1}), END, USAGE, DONE], "a", **WHOLE
    ),
    # The stream's own form.
    "comments and pings": Shape(
        [b": hello\n\n", *say("a "), b":\n\n: wait\nevent: ping\ndata: {}\n\n", *say("b"), *TAIL],
        "a b",
        **WHOLE,
    ),
    "a ping without data": Shape(
        [*say("a "), b"event: ping\n\n", *say("b"), *TAIL], "a b", **WHOLE
    ),
    "ids and retries": Shape([b"id: 1\nretry: 5\n" + say("a b")[0], *TAIL], "a b", **WHOLE),
    "carriage returns": Shape([b"".join(PLAIN).replace(b"\n", b"\r\n")], "a b", **WHOLE),
    "carriage returns, apart": Shape(
        [each for part in PLAIN for each in (part.replace(b"\n", b"\r\n")[:-1], 0.001, b"\n")],
        "a b",
        **WHOLE,
    ),
    "carriage returns alone": Shape([b"".join(PLAIN).replace(b"\n", b"\r")], "a b", **WHOLE),
    "no blank after the colon": Shape(
        [b"".join(PLAIN).replace(b"data: ", b"data:")], "a b", **WHOLE
    ),
    "an event of several lines": Shape(
        [b'data: {"choices":\ndata: [{"delta": {"content": "a"}}]}\n\n', *TAIL], "a", **WHOLE
    ),
    "lines without a blank one between": Shape(
        [b"".join(PLAIN).replace(b"\n\n", b"\n")], "a b", **WHOLE
    ),
    "named events": Shape([b"event: message\n" + each for each in PLAIN], "a b", **WHOLE),
    "packed": Shape(
        [gzip.compress(b"".join(PLAIN))],
        "a b",
        **WHOLE,
        headers={"Content-Type": "text/event-stream", "Content-Encoding": "gzip"},
    ),
    # Its end.
    "no [DONE]": Shape([*say("a"), END, USAGE], "a", **WHOLE),
    "no [DONE], no usage": Shape([*say("a"), END], "a", finish="stop"),
    "no blank line at the end": Shape([b"".join(PLAIN).rstrip()], "a b", **WHOLE),
    "the reason and no end of the chunks": Shape(
        [*say("a"), END, USAGE], "a", framing=CUT, **WHOLE
    ),
    "an open connection behind [DONE]": Shape([*PLAIN, None], "a b", **WHOLE),
    "an open connection behind the reason": Shape([*say("a"), END, USAGE, None], "a", **WHOLE),
    "usage and no reason": Shape([*say("a"), USAGE], "a", tokens=20),
    # An answer that is no stream.
    "no stream but a completion": Shape(
        [
            json.dumps(
                {
                    "choices": [{"message": {"content": "a"}, "finish_reason": "stop"}],
                    "usage": COUNTS,
                }
            ).encode()
        ],
        "a",
        **WHOLE,
        headers=JSON,
    ),
    "an error as the body": Shape(
        [b'{"error": {"message": "prompt too long: 999 > 512", "code": 400}}'],
        says="the server said: prompt too long: 999 > 512",
        headers=JSON,
    ),
    "an error as text, as the body": Shape(
        [b'{\n  "error": "no memory"\n}\n'], says="the server said: no memory", headers=JSON
    ),
    "a detail as the body": Shape(
        [b'{"detail": "no memory"}'], says="said: no memory", headers=JSON
    ),
    "an error with its status": Shape(
        [b'{"error": {"message": "no such model"}}'],
        says="answered 404: 'no such model'",
        status=404,
        headers=JSON,
    ),
    "a refused field": Shape(
        [b'{"detail": [{"loc": ["body", "model"], "msg": "field required"}]}'],
        says="answered 422: 'field required'",
        status=422,
        headers=JSON,
    ),
    "a page": Shape(
        [b"<html>no</html>"],
        says="broke off: '<html>no</html>'",
        headers={"Content-Type": "text/html"},
    ),
    "nothing": Shape([], says="broke off"),
    # An error in mid-stream.
    "an error in the stream": Shape(
        [*say("a"), event({"error": {"message": "out of memory"}})],
        "a",
        says="the server said: out of memory",
    ),
    "an error as text, in the stream": Shape(
        [*say("a"), event({"error": "out of memory"})], "a", says="the server said: out of memory"
    ),
    "an event named error": Shape(
        [*say("a"), b"event: error\n" + event({"message": "out of memory"})],
        "a",
        says="the server said: out of memory",
    ),
    "an event named error, in words": Shape(
        [*say("a"), b"event: error\ndata: out of memory\n\n"],
        "a",
        says="the server said: out of memory",
    ),
    "a field named error": Shape(
        [*say("a"), b'error: {"code": 500, "message": "out of memory"}\n\n'],
        "a",
        says="the server said: out of memory",
    ),
    "an object of kind error": Shape(
        [*say("a"), event({"object": "error", "message": "out of memory"})],
        "a",
        says="the server said: out of memory",
    ),
    "no completion": Shape([*say("a"), b"data: nonsense\n\n"], "a", says="no completion"),
    # A cut.
    "a cut": Shape(say("a ", "b"), "a b", says="broke off"),
    "a cut in a line": Shape([*say("a"), chunk({"content": "b"})[:30]], "a", says="broke off"),
    "a cut in the chunks": Shape(say("a"), "a", says="broke off", framing=CUT),
    "silence": Shape([*say("a"), None], "a", says="nothing more in time"),
    # Other kinds of the same, as a hostile tester has them.
    "null as a word": Shape([chunk({"content": "a b"}, "null"), *TAIL], "a b", **WHOLE),
    "a reason with every piece": Shape(
        [part for word in "abcd" for part in (chunk({"content": word}, "stop"), 0.12)] + [USAGE],
        "abcd",
        **WHOLE,
    ),
    "text as of a plain completion": Shape(
        [event({"choices": [{"index": 0, "text": "a"}]}), *TAIL], "a", **WHOLE
    ),
    "content that is a number": Shape([*say(1, 0), *TAIL], "10", **WHOLE),
    "a tab as it is": Shape(
        [b'data: {"choices": [{"delta": {"content": "a\tb"}}]}\n\n', *TAIL], "a\tb", **WHOLE
    ),
    "a choice that is null": Shape([event({"choices": [None]}), *PLAIN], "a b", **WHOLE),
    **{
        f"two tool calls of one place, {what}": Shape(
            [
                chunk({"tool_calls": [{**place, "id": f"c{n}", "function": {"name": f"f{n}"}}]})
                for n in (0, 1)
            ]
            + [chunk({"tool_calls": [{**place, "function": {"arguments": "{}"}}]}), *TAIL],
            calls=[("f0", ""), ("f1", "{}")],
            **WHOLE,
        )
        for what, place in (("told", {"index": 0}), ("untold", {}))
    },
    "a tool call that is no list": Shape(
        [chunk({"tool_calls": {"function": {"name": "f", "arguments": "{}"}}}), *TAIL],
        calls=[("f", "{}")],
        **WHOLE,
    ),
    "a call's id with every part": Shape(
        [chunk({"tool_calls": [{**part, "id": "1"}]}) for part in CALL] + TAIL, calls=OSLO, **WHOLE
    ),
    "counts with a point": Shape(
        [*say("a"), chunk(finish="stop", usage={"completion_tokens": 20.0})], "a", **WHOLE
    ),
    **{
        f"usage that counts nothing: {usage!r:.20}": Shape(
            [*say("a", "b"), 0.03, chunk(finish="stop", usage=usage), DONE], "ab", finish="stop"
        )
        for usage in ("n/a", [1], True, {"completion_tokens": 10**400}, {"completion_tokens": -1})
    },
    "usage whose details are a list": Shape(
        [*say("a"), chunk(finish="stop", usage={**COUNTS, "prompt_tokens_details": [1]})],
        "a",
        **WHOLE,
    ),
    "an end in small letters": Shape([*say("a"), END, b"data: [done]\n\n"], "a", finish="stop"),
    "an end as JSON": Shape([*say("a"), END, b'data: "[DONE]"\n\n'], "a", finish="stop"),
    "an event of another kind": Shape(
        [*say("a"), b"event: metrics\ndata: [1, 2]\n\n", *TAIL], "a", **WHOLE
    ),
    "another success": Shape(PLAIN, "a b", status=201, **WHOLE),
    "an error of the choice": Shape(
        [*say("a"), event({"choices": [{"error": {"code": 502, "message": "overloaded"}}]})],
        "a",
        says="the server said: overloaded",
    ),
    "an error as the reason": Shape(
        [*say("a"), chunk(finish="error"), DONE], "a", says="the server said: an error, and not"
    ),
    "an event named error, without a word": Shape(
        [*say("a"), b"event: error\ndata:\n\n"], "a", says="the server said: an error, and not"
    ),
    **{
        f"an error's words elsewhere: {' '.join(body)}": Shape(
            [json.dumps(body).encode()], says=f"the server said: {said}", headers=JSON
        )
        for body, said in (
            ({"error": True, "message": "no memory"}, "no memory"),
            ({"statusCode": 500, "error": "Bad", "message": "no memory"}, "Bad: no memory"),
            ({"errors": [{"message": "no memory"}]}, "no memory"),
            ({"success": False, "message": "no memory"}, "no memory"),
            ({"code": 400, "msg": "no memory", "data": None}, "no memory"),
            ({"type": "about:blank", "title": "Bad", "detail": "no memory"}, "no memory"),
        )
    },
    "sent elsewhere": Shape(
        [],
        says="answers 307 and sends us to http://elsewhere/v1",
        status=307,
        headers={"Location": "http://elsewhere/v1"},
    ),
}
