"""Why a page can't be had is kept as what it is."""

from __future__ import annotations

import json
import re
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import pytest
from conftest import DEADLINE

from tasks.cluster.config.hostfile import Host
from tasks.cluster.http.client import Api
from tasks.cluster.http.failure import ApiError, Why
from tasks.cluster.ssh.node import Node

Serve = Callable[..., Api]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """A server that answers each connection with these bytes (None: nothing), and hangs up.

    Of several answers each is given once, the last one from then on.
    """
    played, over = [], threading.Event()

    def start(
        answer: bytes | list[bytes] | None,
        tls: ssl.SSLContext | None = None,
        key: str | None = None,
        asked: list[bytes] | None = None,
    ) -> Api:
        listener = socket.create_server(("127.0.0.1", 0))
        answers = answer if isinstance(answer, list) else [answer]
        more = (answers, tls, [] if asked is None else asked, over)
        thread = threading.Thread(target=play, args=(listener, *more), daemon=True)
        played.append((listener, thread))
        thread.start()
        return Api(Node(Host("127.0.0.1")), "127.0.0.1", listener.getsockname()[1], key)

    yield start
    over.set()
    for listener, thread in played:
        # Closed in its hands, the file's number may be the next server's, whose peer it would take.
        socket.create_connection(listener.getsockname()).close()
        thread.join(DEADLINE)
        listener.close()


def play(
    listener: socket.socket,
    answers: Sequence[bytes | None],
    tls: ssl.SSLContext | None,
    asked: list[bytes],
    over: threading.Event,
) -> None:
    held, left = [], list(answers)
    with suppress(OSError):
        while True:
            peer, _ = listener.accept()
            if over.is_set():
                return
            with suppress(OSError):
                peer = tls.wrap_socket(peer, server_side=True) if tls else peer
                asked.append(request(peer))
                answer = left.pop(0) if left[1:] else left[0]
                if answer is None:
                    held.append(peer)
                    continue
                peer.sendall(answer)
            peer.close()


def request(peer: socket.socket) -> bytes:
    """A request, its body in one piece with its head or not."""
    got = peer.recv(65536)
    head, _, body = got.partition(b"\r\n\r\n")
    length = re.search(rb"Content-Length: (\d+)", head)
    return got if not length or len(body) == int(length[1]) else got + peer.recv(65536)


def http(status: int) -> bytes:
    return f"HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n".encode()


@pytest.mark.parametrize(
    ("answer", "why", "says"),
    [
        (http(401), Why.KEY, r"the server wants a key \(401\): set tp.api_key to where it is"),
        (http(403), Why.KEY, r"the server wants a key \(403\)"),
        (http(404), Why.NO_PAGE, "GET /health: it answers 404"),
        (http(503), Why.STATUS, "GET /health: it answers 503"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", Why.NOT_HTTP, "what listens there speaks no HTTP"),
        (b"", Why.BROKEN, "the connection broke off"),
        (None, Why.TIMEOUT, "no answer in time"),
    ],
)
def test_pages(serve: Serve, answer: bytes | None, why: Why, says: str) -> None:
    found = serve(answer).page("/health", 0.3)
    assert found
    assert found.why is why
    assert found.is_timeout == (why is Why.TIMEOUT)
    assert re.search(says, str(found)), str(found)


def test_a_page(serve: Serve) -> None:
    assert serve(http(200)).page("/health") is None
    refused = serve(http(401), key="k").page("/health")
    assert str(refused) == "the server refuses the key (401): see tp.api_key, or its --api-key"


def test_nothing_listens() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        found = Api(Node(Host("127.0.0.1")), "127.0.0.1", free.getsockname()[1]).page("/health")
    assert found
    assert found.why is Why.REFUSED


@pytest.mark.parametrize("kind", [ConnectionResetError, BrokenPipeError, OSError])
def test_the_node_is_lost_before_the_request(
    kind: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    """urllib3 takes two of these for an early answer, and asks what is not there for it."""

    def lost(*_: object) -> None:
        raise kind("lost")

    node = Node(Host("mac1"))
    monkeypatch.setattr(node, "socket", lost)
    found = Api(node, "0.0.0.0", 8000).page("/health")
    assert found
    assert found.why is Why.BROKEN


def test_tls(serve: Serve, tmp_path: Path) -> None:
    files = (tmp_path / "cert.pem", tmp_path / "key.pem")
    made = ["-keyout", str(files[1]), "-out", str(files[0]), "-subj", "/CN=x"]
    line = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    subprocess.run([*line, "-nodes", *made], check=True, capture_output=True)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(*files)
    found = serve(http(200), tls).page("/health")
    assert found
    assert found.why is Why.TLS


def completion(message: object, finish: str | None, **usage: int) -> bytes:
    choice = {"index": 0, "message": message, "finish_reason": finish}
    return of_json({"choices": [choice], **({"usage": usage} if usage else {})})


def of_json(data: object) -> bytes:
    body = json.dumps(data).encode()
    # Else the next request may go over this connection, which `play` is about to close.
    head = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
    return head % len(body) + body


SILENT = {"role": "assistant", "content": None, "reasoning": None, "tool_calls": None}
ENDED = completion(SILENT, "stop", prompt_tokens=2, completion_tokens=0)  # of vllm-mlx (0.2.6)
TOLD = [
    # An end token that the engine counts (mlx-lm), and one that it does not (vllm-mlx).
    ("counted", completion({"content": ""}, "stop", prompt_tokens=2, completion_tokens=1), True),
    ("not counted", ENDED, False),
    # mlx_lm.server says "stop" of what was never begun, too.
    ("nothing", completion({"content": ""}, "stop"), False),
    ("no reason", completion({"content": ""}, None, completion_tokens=0), False),
    ("text", completion({"content": "a"}, "stop"), True),
    ("a thought", completion({"content": None, "reasoning": "a"}, "stop"), True),
    # A token that is no text by itself.
    ("its length", completion({"content": ""}, "length"), True),
    ("no message", completion(None, "length"), True),
]


@pytest.mark.parametrize(("_name", "answer", "is_token"), TOLD, ids=[row[0] for row in TOLD])
def test_a_token(serve: Serve, _name: str, answer: bytes, is_token: bool) -> None:
    if is_token:
        assert serve(answer).one_token(None, "M", 5) == "M"
        return
    with pytest.raises(ApiError, match="5 completions hold no token: "):
        serve(answer).one_token(None, "M", 5)


def test_an_end_token_first(serve: Serve) -> None:
    """A model that ends its first answers is asked again, each time by other words."""
    asked: list[bytes] = []
    token = completion({"content": "a"}, "length")
    assert serve([ENDED, ENDED, token], asked=asked).one_token(None, "M", 5) == "M"
    assert len({body.split(b"\r\n\r\n")[1] for body in asked}) == 3


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (of_json({"error": {"message": "no room"}}), "the server said: no room"),
        (of_json({"choices": []}), "the completion answered 200: "),
        (of_json({"choices": [{"message": "a"}]}), "the completion answered 200: "),
        (of_json(["a"]), "the completion answered 200: "),
        (http(503), "the completion answered 503: ''"),
    ],
)
def test_no_completion(serve: Serve, answer: bytes, says: str) -> None:
    with pytest.raises(ApiError, match=re.escape(says)):
        serve(answer).one_token(None, "M", 5)


def test_who_is_never_final() -> None:
    """What passes by itself while a server starts does not make it one that can't be asked."""
    passing = {Why.REFUSED, Why.TIMEOUT, Why.BROKEN, Why.STATUS, Why.ANSWER}
    assert {why for why in Why if not why.is_final} == passing
