"""Why a page can't be had is kept as what it is."""

from __future__ import annotations

import re
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tasks.cluster.config.hostfile import Host
from tasks.cluster.http.client import Api
from tasks.cluster.http.failure import Why
from tasks.cluster.ssh.node import Node

Serve = Callable[..., Api]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """A server that answers each connection with these bytes (None: nothing), and hangs up."""
    listeners = []

    def start(
        answer: bytes | None, tls: ssl.SSLContext | None = None, key: str | None = None
    ) -> Api:
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)
        threading.Thread(target=play, args=(listener, answer, tls), daemon=True).start()
        return Api(Node(Host("127.0.0.1")), "127.0.0.1", listener.getsockname()[1], key)

    yield start
    for listener in listeners:
        listener.close()


def play(listener: socket.socket, answer: bytes | None, tls: ssl.SSLContext | None) -> None:
    held = []
    with suppress(OSError):
        while True:
            peer, _ = listener.accept()
            with suppress(OSError):
                peer = tls.wrap_socket(peer, server_side=True) if tls else peer
                peer.recv(65536)
                if answer is None:
                    held.append(peer)
                    continue
                peer.sendall(answer)
            peer.close()


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


def test_who_is_never_final() -> None:
    """What passes by itself while a server starts does not make it one that can't be asked."""
    passing = {Why.REFUSED, Why.TIMEOUT, Why.BROKEN, Why.STATUS, Why.ANSWER}
    assert {why for why in Why if not why.is_final} == passing
