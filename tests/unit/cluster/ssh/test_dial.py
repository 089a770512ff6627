"""The socket on which SSH is spoken."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest

from tasks.cluster.ssh import dial
from tasks.cluster.ssh.dial import ProxySocket


@pytest.fixture
def port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def resolved(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    def rows(host: str, port: int, *_: object) -> list[Any]:
        return [(socket.AF_INET, 1, 6, "", (each, port)) for each in addresses]

    monkeypatch.setattr(socket, "getaddrinfo", rows)


@pytest.mark.parametrize("error", [OSError(101, "Network is unreachable"), TimeoutError()])
def test_a_host_with_several_addresses(
    monkeypatch: pytest.MonkeyPatch, port: int, error: OSError
) -> None:
    """A Mac's name has one per interface: the first that answers is taken, as ssh does."""
    resolved(monkeypatch, "192.0.2.1", "127.0.0.1")
    connect = dial._connected

    def connected(family: int, address: tuple[str, int], timeout: float) -> socket.socket:
        if address[0] == "192.0.2.1":
            raise error
        return connect(family, address, timeout)

    monkeypatch.setattr(dial, "_connected", connected)
    with dial.dial("mac1.local", port, socket.AF_UNSPEC, 5) as made:
        assert made.getpeername() == ("127.0.0.1", port)
    resolved(monkeypatch, "192.0.2.1")
    with pytest.raises(type(error)):
        dial.dial("mac1.local", port, socket.AF_UNSPEC, 5)


@pytest.mark.parametrize("name", ["mac1..local", "x" * 64])
def test_what_is_no_name(name: str) -> None:
    with pytest.raises(socket.gaierror):
        dial.dial(name, 22, socket.AF_UNSPEC, 5)


def test_a_command_to_talk_to() -> None:
    with ProxySocket("cat") as made:
        made.settimeout(5)
        made.sendall(b"in and out")
        assert made.recv(100) == b"in and out"
    assert made._process.wait(5) == -15


@pytest.mark.parametrize("much", [0, 300_000])
def test_a_command_that_ends(much: int) -> None:
    """Its end is seen at once, and however much it says it need not wait for us."""
    with ProxySocket(f"sh -c 'echo no tunnel >&2; head -c {much} /dev/zero >&2; exit 3'") as made:
        made.settimeout(5)
        assert made.recv(100) == b""
        assert made.why.startswith("ProxyCommand ended: no tunnel")
        assert made.why.endswith("(exit status 3)")
