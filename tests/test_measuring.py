"""What is asked and measured of a server that runs: tp.chat, tp.bench, tp.top."""

from __future__ import annotations

import os
import re
import signal
from typing import Any

import pytest
from conftest import Inv
from test_injection import ORDERS, server

from tasks.cluster import api as apis

STREAMS = [
    (b"", "broke off"),
    (b'data: {"choices": [{"delta": {"content": "a"}}]}\n\n', "broke off"),
    (b"data: nonsense\n\n", "no completion"),
    (b"data: [1]\n\n", "no completion"),
    (b'data: {"choices": 5}\n\n', "no completion"),
    (b'data: {"choices": [{"delta": "x"}]}\n\n', "no completion"),
    (b'data: {"choices": [], "usage": [1]}\n\n', "no completion"),
    (b'data: {"error": "\x1b[31mbad"}\n\n', "no completion"),
    (b'data: {"error": "out of memory"}\n\n', "the server said: out of memory"),
    (b"data: " + b"[" * 100_000 + b"\n\n", "no completion"),
    (b"<html>", "broke off"),
]


def pieces(api: apis.Api) -> list[apis.Piece]:
    return list(api.stream("m", [{"role": "user", "content": "Hi"}], 5))


@pytest.mark.parametrize(("body", "says"), STREAMS)
def test_a_stream_of_another_shape(body: bytes, says: str) -> None:
    with server(body=body) as (api, _), pytest.raises(apis.ApiError, match=says) as error:
        pieces(api)
    assert not ORDERS.search(str(error.value))


def test_a_stream() -> None:
    """Comments keep it alive, thoughts come apart, and the server's counts are taken."""
    body = (
        b': keepalive 1/2\n\ndata: {"choices": [{"delta": {"reasoning": "hm"}}]}\r\n\r\n'
        b'data: {"choices": [{"delta": {"content": "\xc3\xa4"}, "finish_reason": "stop"}]}\n\n'
        b'data: {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 2,'
        b' "prompt_tokens_details": {"cached_tokens": 3}}}\n\ndata: [DONE]\n\n'
    )
    with server(body=body) as (api, _):
        thought, text, end = pieces(api)
    assert (thought.thought, text.text, text.finish) == ("hm", "ä", "stop")
    assert end.usage == {"prompt_tokens": 7, "completion_tokens": 2, "cached_tokens": 3}
    says = "answered 404: 'no such model'"
    refused = server(body=b"no such model", status=404)
    with refused as (api, _), pytest.raises(apis.ApiError, match=says):
        pieces(api)


def rank_pid(inv: Inv, rank: int) -> int:
    return int(inv("tp.status", "--json").json()["ranks"][rank]["pid"])


def test_chat(served: Inv) -> None:
    assert "no server is recorded: inv tp.start" in served("tp.chat", "Hi", code=3).one_line()
    served("tp.start")
    said = served("tp.chat", "Hi", "--max-tokens", "12", "--temperature", "0")
    assert re.search(r"^first token after \d.*; 12 tokens in", said.err)
    told: Any = served(
        "tp.chat",
        "Hi",
        "--system",
        "Be brief",
        "--max-tokens",
        "12",
        "--temperature",
        "0",
        "--json",
    ).json()
    # A token of the tiny model is a letter, but for the odd one that is none.
    assert said.out.strip()
    assert told["text"].strip() != said.out.strip()
    assert told["tokens"] == 12
    assert told["finish"] == "length"
    assert 0 < told["first"] < told["seconds"]
    # Each byte is a token, and each message has two marks.
    assert told["prompt_tokens"] == len("Be brief") + len("Hi") + 5
    os.kill(rank_pid(served, 0), signal.SIGKILL)
    assert "rank 0 has ended: inv tp.restart" in served("tp.chat", "Hi", code=3).one_line()


def test_a_chat_that_breaks_off(served: Inv) -> None:
    """What has come is shown, then one line on what to do."""
    served("tp.start")
    pid = rank_pid(served, 0)
    chat = served.start("tp.chat", "Hi", "--max-tokens", "100000", "--temperature", "1")
    assert chat.stdout
    assert chat.stdout.read(3)
    os.kill(pid, signal.SIGKILL)
    _, err = chat.communicate(timeout=60)
    assert chat.returncode == 4
    assert re.fullmatch(r"chat: the stream broke off after \d+ pieces: inv tp.status .*\n", err)
