"""The server's HTTP side, as the control machine sees it: its pages, models and completions.

A remote rank 0 is asked through its node's SSH connection, so that neither a firewall nor a
server bound to 127.0.0.1 stands between; `requests` does the HTTP.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import requests
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool
from urllib3.connection import HTTPConnection

from . import engine
from .nodes import Node

if TYPE_CHECKING:
    from .cluster import Cluster


class ApiError(Exception):
    """The server did not answer as it should; the message says what it did."""

    is_timeout = False


class ApiTimeoutError(ApiError):
    """No answer in time: of a server that generates, this proves nothing."""

    is_timeout = True


# What JSON of another shape than agreed raises where it is read.
_NOT_AS_AGREED = (
    ValueError, KeyError, TypeError, IndexError, AttributeError, OverflowError, RecursionError,
)  # fmt: skip


@dataclass
class Api:
    """The server of rank 0 on `node`, bound to `bind:port` there; `key` if it wants one."""

    node: Node
    bind: str
    port: int
    key: str | None = None
    session: requests.Session = field(default_factory=requests.Session)

    @classmethod
    def of(cls, cluster: Cluster) -> Api:
        """The server that this cluster is to run, wherever its arguments tell it to listen."""
        return cls(cluster.leader, cluster.bind, cluster.http_port, engine.key(cluster.args))

    def __post_init__(self) -> None:
        # A proxy of the user's environment has no business between us and our server.
        self.session.trust_env = False
        if self.key:
            self.session.headers["Authorization"] = f"Bearer {self.key}"
        if not self.node.host.is_local:
            self.session.mount("http://", _NodeAdapter(self.node))

    @property
    def target(self) -> str:
        """Where the server listens, as seen from its node."""
        if self.bind in ("", "0.0.0.0", "::", "localhost"):
            return "127.0.0.1"
        return f"[{self.bind}]" if ":" in self.bind else self.bind

    @property
    def url(self) -> str:
        """What a user's client takes as the server's address, without a trailing slash."""
        every = self.bind in ("0.0.0.0", "::")
        return f"http://{self.node.address if every else self.target}:{self.port}"

    def is_up(self, path: str, timeout: float = 2) -> bool:
        """Whether `path` answers 200."""
        try:
            return self._get(path, timeout).status_code == 200
        except ApiError:
            return False

    def models(self, timeout: float = 10) -> list[str]:
        """The ids of `GET /v1/models`."""
        answer = self._get("/v1/models", timeout)
        try:
            return [str(entry["id"]) for entry in answer.json()["data"]]
        except _NOT_AS_AGREED:
            raise ApiError(
                f"GET /v1/models answered {answer.status_code}: {answer.text[:200]!r}"
            ) from None

    def chat(
        self, model: str, prompt: str, max_tokens: int, timeout: float = 60, **sampling: Any
    ) -> dict[str, Any]:
        """One chat completion as the server's JSON; raise ApiError unless it holds a token."""
        body = {**_body(model, prompt, max_tokens), **sampling}
        answer = self._send("POST", "/v1/chat/completions", timeout, json=body)
        try:
            data: dict[str, Any] = answer.json()
            content = data["choices"][0].get("message", {}).get("content")
            tokens = int(data.get("usage", {}).get("completion_tokens", 0))
        except _NOT_AS_AGREED:
            raise ApiError(
                f"the completion answered {answer.status_code}: {answer.text[:200]!r}"
            ) from None
        if not tokens and not content:
            raise ApiError(f"the completion holds no token: {answer.text[:200]!r}")
        return data

    def one_token(self, model: str | None, default: str, timeout: float) -> str:
        """Get one real token; the name by which the loaded model is to be asked for.

        Asking by a name that is not the loaded one would load another.
        """
        name = model if model and model in self.models(timeout) else default
        self.chat(name, "Hi", max_tokens=1, timeout=timeout)
        return name

    def stream(
        self, model: str, prompt: str, max_tokens: int, timeout: float = 60
    ) -> Iterator[str]:
        """The pieces of a streamed chat completion as they come."""
        body = {**_body(model, prompt, max_tokens), "stream": True}
        answer = self._send("POST", "/v1/chat/completions", timeout, json=body, stream=True)
        for line in answer.iter_lines(decode_unicode=True):
            if line.startswith("data: {"):
                delta = json.loads(line[len("data: ") :])["choices"][0].get("delta", {})
                yield delta.get("content") or ""

    def _get(self, path: str, timeout: float) -> requests.Response:
        return self._send("GET", path, timeout)

    def _send(self, method: str, path: str, timeout: float, **more: Any) -> requests.Response:
        url = f"http://{self.target}:{self.port}{path}"
        try:
            # A page that sends us elsewhere would send us anywhere.
            options = {"timeout": timeout, "allow_redirects": False, **more}
            return self.session.request(method, url, **options)
        except requests.Timeout:
            raise ApiTimeoutError(f"{method} {path}: no answer in time") from None
        except (requests.RequestException, OSError, EOFError) as error:
            raise ApiError(f"{method} {path}: {_reason(error)}") from None


def _body(model: str, prompt: str, max_tokens: int) -> dict[str, Any]:
    messages = [{"role": "user", "content": prompt}]
    return {"model": model, "messages": messages, "max_tokens": max_tokens}


def _reason(error: BaseException) -> str:
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "the connection broke off"
    if isinstance(error, requests.ConnectionError):
        return "no connection"
    return str(error) or type(error).__name__


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
        from paramiko.channel import ChannelFile

        class File(ChannelFile):  # type: ignore[misc]  # paramiko has no types
            def close(self) -> None:
                super().close()
                self.channel.close()

        self._has_file = True
        return File(self._channel, mode)

    def close(self) -> None:
        if not self._has_file:
            self._channel.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._channel, name)
