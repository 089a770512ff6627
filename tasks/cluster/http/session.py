"""Requests to a node's server: a remote one is reached through the node's SSH connection."""

from __future__ import annotations

import io
import socket
import ssl
from collections.abc import Iterator, Sequence
from contextlib import suppress
from http.client import HTTPException, IncompleteRead, RemoteDisconnected
from typing import TYPE_CHECKING

from requests import PreparedRequest, Session
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool
from urllib3.connection import HTTPConnection

from ..ssh.node import Node
from ..ssh.relay import NoWayError
from ..text import one_line
from .failure import Why

if TYPE_CHECKING:
    import paramiko
    from _typeshed import WriteableBuffer

PROBE = 2.0  # seconds


def of(node: Node, key: str | None) -> Session:
    """A session whose addresses are those that `node` sees; `key` is sent along."""
    session = Session()
    # A proxy of the user's environment has no business between us and our server.
    session.trust_env = False
    # What is packed comes in blocks, and not as it is made.
    session.headers["Accept-Encoding"] = "identity"
    if key:
        session.headers["Authorization"] = f"Bearer {key}"
    if not node.host.is_local:
        session.mount("http://", _NodeAdapter(node))
    return session


def explain(error: BaseException) -> tuple[Why, str]:
    """Why a request got no answer, from what is below the error that was raised."""
    causes = list(_causes(error))
    for why, kinds, said in _KINDS:
        if found := next((each for each in causes if isinstance(each, kinds)), None):
            return why, said or one_line(str(found))
    return Why.BROKEN, one_line(str(error)) or type(error).__name__


_KINDS: Sequence[tuple[Why, type[BaseException] | tuple[type[BaseException], ...], str]] = (
    (
        Why.NO_WAY,
        NoWayError,
        "sshd there forwards no connections (AllowTcpForwarding local would), and there is no"
        " python3 to go between",
    ),
    (Why.REFUSED, ConnectionRefusedError, "no connection: nothing listens there"),
    (Why.BROKEN, (RemoteDisconnected, IncompleteRead), "the connection broke off"),
    (Why.NOT_HTTP, HTTPException, "what listens there speaks no HTTP"),
    (Why.TIMEOUT, TimeoutError, "no answer in time"),
    (Why.BROKEN, (ConnectionResetError, BrokenPipeError, EOFError), "the connection broke off"),
    (Why.BROKEN, OSError, "no connection"),
)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error and all that it was made of, the innermost first."""
    if error is None:
        return
    yield from _causes(error.__cause__ or error.__context__)
    for each in error.args:
        # requests and urllib3 put what they wrap into the arguments, or into their `reason`.
        if isinstance(each, BaseException):
            yield from _causes(each)
    reason = getattr(error, "reason", None)
    yield from _causes(reason if isinstance(reason, BaseException) else None)
    yield error


def speaks_tls(node: Node, host: str, port: int) -> bool:
    """Whether what listens there answers the hello of TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    hello = ssl.MemoryBIO()
    with suppress(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), hello).do_handshake()
    try:
        if node.host.is_local:
            channel: socket.socket | paramiko.Channel = socket.create_connection(
                (host, port), PROBE
            )
        else:
            channel = node.socket(host, port)
        channel.settimeout(PROBE)
        channel.sendall(hello.read())
        first: bytes = channel.recv(1)
        channel.close()
    except OSError:
        return False
    return first in (b"\x15", b"\x16")  # an alert, a handshake


class _NodeAdapter(HTTPAdapter):
    """Sends requests through a node's SSH connection, each over a channel of its own."""

    def __init__(self, node: Node) -> None:
        super().__init__()
        self.node = node

    def get_connection_with_tls_context(
        self, request: PreparedRequest, *_: object, **__: object
    ) -> HTTPConnectionPool:
        node = self.node

        class Connection(HTTPConnection):
            def _new_conn(self) -> socket.socket:
                try:
                    made = _ProxySocket(node.socket(self.host.strip("[]"), self.port or 80))
                except (ConnectionResetError, BrokenPipeError) as error:
                    # urllib3 takes these two for a server that has answered before all was sent,
                    # and asks the connection that there is not for that answer.
                    raise ConnectionAbortedError(str(error)) from error
                return made  # type: ignore[return-value]

        class Pool(HTTPConnectionPool):
            ConnectionCls = Connection

        host, port = str(request.url).split("/")[2].rsplit(":", 1)
        return Pool(host, int(port))


class _ProxySocket:
    """A channel that lives until its file is closed: http.client closes the socket before that."""

    def __init__(self, channel: paramiko.Channel) -> None:
        self._channel = channel
        self._has_file = False

    def makefile(self, mode: str, *_: object, **__: object) -> io.BufferedReader:
        """Not paramiko's own file, which has no `read1`: a stream must be read as it comes."""
        self._has_file = True
        return io.BufferedReader(_Reader(self._channel))

    def close(self) -> None:
        if not self._has_file:
            self._channel.close()

    def shutdown(self, how: int) -> None:
        """Paramiko's own wakes nobody who waits in `recv`."""
        self._channel.close()

    def __getattr__(self, name: str) -> object:
        return getattr(self._channel, name)


class _Reader(io.RawIOBase):
    """What comes through a channel, which is closed with it."""

    def __init__(self, channel: paramiko.Channel) -> None:
        super().__init__()
        self._channel = channel

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer)
        data = self._channel.recv(len(view))
        view[: len(data)] = data
        return len(data)

    def close(self) -> None:
        super().close()
        self._channel.close()
