"""Requests to a node's server: a remote one is reached through the node's SSH connection."""

from __future__ import annotations

import io
from typing import Any

from requests import Session
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool
from urllib3.connection import HTTPConnection

from ..nodes import Node


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


class _NodeAdapter(HTTPAdapter):
    """Sends requests through a node's SSH connection, each over a channel of its own."""

    def __init__(self, node: Node) -> None:
        super().__init__()
        self.node = node

    def get_connection_with_tls_context(self, request: Any, *_: Any, **__: Any) -> Any:
        node = self.node

        class Connection(HTTPConnection):
            def _new_conn(self) -> Any:
                return _Socket(node.socket(self.host, self.port or 80))

        class Pool(HTTPConnectionPool):
            ConnectionCls = Connection

        host, _, port = request.url.split("/")[2].rpartition(":")
        return Pool(host, int(port))


class _Socket:
    """A channel that lives until its file is closed, as a socket does.

    http.client closes the socket before it has read the body, and counts on that.
    """

    def __init__(self, channel: Any) -> None:
        self._channel = channel
        self._has_file = False

    def makefile(self, mode: str, *_: Any, **__: Any) -> Any:
        """Not paramiko's own file, which has no `read1`: a stream must be read as it comes."""
        self._has_file = True
        return io.BufferedReader(_Reader(self._channel))

    def close(self) -> None:
        if not self._has_file:
            self._channel.close()

    def shutdown(self, how: int) -> None:
        """Paramiko's own wakes nobody who waits in `recv`."""
        self._channel.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._channel, name)


class _Reader(io.RawIOBase):
    """What comes through a channel, which is closed with it."""

    def __init__(self, channel: Any) -> None:
        super().__init__()
        self._channel = channel

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data: bytes = self._channel.recv(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        super().close()
        self._channel.close()
