"""Our reader of streams against the openai client's: never less lenient, never less clear."""

from __future__ import annotations

import contextlib
import json
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from tasks.cluster.config.hostfile import Host
from tasks.cluster.http import client, completion
from tasks.cluster.http.client import Api
from tasks.cluster.http.failure import ApiError
from tasks.cluster.http.stream import MOST
from tasks.cluster.ssh.node import Node

from .shapes import CHUNKED, CLOSE, LENGTH, SHAPES, Shape

if TYPE_CHECKING:  # half a second to import, and each worker collects this
    from openai import OpenAI

SILENCE = 2.0  # seconds without a word until a client gives up


class Server(BaseHTTPRequestHandler):
    """Plays the shape that the request names as its model."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        shape = SHAPES[asked["model"]]
        self.protocol_version = "HTTP/1.0" if shape.framing == CLOSE else "HTTP/1.1"
        self.send_response(shape.status)
        length = sum(len(block) for block in shape.blocks if isinstance(block, bytes))
        framing = {CLOSE: {}, LENGTH: {"Content-Length": str(length)}}
        more = framing.get(shape.framing, {"Transfer-Encoding": "chunked"})
        for name, value in {**shape.headers, **more, "Connection": "close"}.items():
            self.send_header(name, value)
        self.end_headers()
        with contextlib.suppress(OSError):
            self.play(shape)

    def play(self, shape: Shape) -> None:
        chunked = shape.framing not in (CLOSE, LENGTH)
        for block in shape.blocks:
            if isinstance(block, bytes):
                head = f"{len(block):x}\r\n".encode() if chunked else b""
                self.wfile.write(head + block + (b"\r\n" if chunked else b""))
            elif block is None:
                self.rfile.read(1)  # until the client has gone
            else:
                time.sleep(block)
        if shape.framing == CHUNKED:
            self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    http = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    yield http.server_port
    http.shutdown()
    http.server_close()


@dataclass
class Taken:
    """What a client made of a stream."""

    text: str = ""
    thought: str = ""
    calls: list[tuple[str, str]] = field(default_factory=list)
    finish: str | None = None
    tokens: int | None = None
    error: str = ""


@pytest.fixture(scope="module")
def openai(port: int) -> Iterator[OpenAI]:
    from openai import OpenAI

    url = f"http://127.0.0.1:{port}/v1"
    with OpenAI(base_url=url, api_key="none", max_retries=0, timeout=SILENCE) as client:
        yield client


def theirs(openai: OpenAI, name: str) -> Taken:
    """What a program that uses the openai client gets, with the care that its types ask for."""
    from openai import OpenAIError

    taken, calls = Taken(), dict[int, tuple[str, str]]()
    try:
        stream = openai.chat.completions.create(
            model=name, messages=[{"role": "user", "content": "Hi"}], stream=True
        )
        for chunk in stream:
            for choice in chunk.choices or []:
                take(taken, calls, choice)
            if chunk.usage:
                taken.tokens = chunk.usage.completion_tokens
    # What it gives can be of any type, whatever is declared.
    except (OpenAIError, ValueError, AttributeError, TypeError) as error:
        taken.error = str(error) or type(error).__name__
    taken.calls = [calls[index] for index in sorted(calls)]
    return taken


def take(taken: Taken, calls: dict[int, tuple[str, str]], choice: Any) -> None:
    taken.finish = choice.finish_reason or taken.finish
    delta = choice.delta
    for call in (delta and delta.tool_calls) or []:
        name, arguments = calls.get(call.index, ("", ""))
        more = call.function.arguments or ""
        more = more if isinstance(more, str) else json.dumps(more)
        calls[call.index] = (name or call.function.name, arguments + more)
    content = (delta and delta.content) or ""
    parts = content if isinstance(content, list) else [{"text": content}]
    taken.text += "".join(part.get("text", "") for part in parts)


def ours(port: int, name: str) -> Taken:
    taken = Taken()

    def show(chunk: Any) -> None:
        taken.text += chunk.text
        taken.thought += chunk.thought

    api = Api(Node(Host("127.0.0.1")), "127.0.0.1", port)
    try:
        found = completion.ask(api, name, [{"role": "user", "content": "Hi"}], 9, SILENCE, show)
    except ApiError as error:
        taken.error = str(error)
    else:
        taken.calls = [(call.name, call.arguments) for call in found.calls]
        taken.finish, taken.tokens = found.finish, found.tokens
    return taken


@pytest.fixture(autouse=True)
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "LAST_WORDS", 1.0)  # as a busy machine may pause in between


@pytest.mark.parametrize("name", SHAPES)
def test_a_shape(port: int, name: str) -> None:
    shape, found = SHAPES[name], ours(port, name)
    assert found.error if shape.says else not found.error, found
    assert shape.says in found.error
    assert (found.text, found.thought) == (shape.text, shape.thought)
    assert (found.calls, found.finish) == (list(shape.calls), shape.finish)
    assert found.tokens == shape.tokens


def test_against_the_openai_client(
    port: int, openai: OpenAI, capsys: pytest.CaptureFixture[str]
) -> None:
    """What it takes we take, and as much of it; what it says of an error we say."""
    found = {"both": 0, "ours": 0, "none": 0}
    with ThreadPoolExecutor(4) as pool:  # some are silent for as long as a client waits
        taken = pool.map(lambda name: (theirs(openai, name), ours(port, name)), SHAPES)
    for (name, shape), (one, two) in zip(SHAPES.items(), taken, strict=True):
        assert two.text.startswith(one.text), name
        # It goes on as if nothing had been said, or takes what broke off for whole.
        is_deaf = bool(shape.says) and not one.error
        assert bool(two.error) <= (bool(one.error) or is_deaf), (name, two)
        if not two.error:
            # By its index alone, one call may be two, whose arguments run together.
            is_finer = len(two.calls) > len(one.calls) > 0
            assert set(one.calls) <= set(two.calls) or is_finer, name
            assert one.finish in (None, two.finish), name
            is_count = one.tokens is not None and 0 <= one.tokens < MOST
            assert one.tokens == two.tokens or not is_count, name
        found["none" if two.error else "ours" if one.error else "both"] += 1
    assert len(SHAPES) >= 25
    assert all(found.values())
    with capsys.disabled():
        print(
            f"\n{len(SHAPES)} shapes of streams: {found['both']} are taken by the openai client and"
            f" by ours, {found['ours']} by ours alone, {found['none']} are errors to ours",
            file=sys.stderr,
        )
