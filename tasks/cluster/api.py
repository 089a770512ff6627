"""The server's HTTP side, as the control machine sees it: its pages, models and completions.

A remote rank 0 is asked through its node's SSH connection, so that neither a firewall nor a
server bound to 127.0.0.1 stands between; `requests` does the HTTP.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from . import engine
from .nodes import Node

# requests is imported where a page is asked for: it takes longer than all of our own modules.
if TYPE_CHECKING:
    import requests

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


Messages = Sequence[Mapping[str, str]]
LINE = 4 * 1024 * 1024  # bytes of a stream's line that can still be one
USAGE = ("prompt_tokens", "completion_tokens")


@dataclass(frozen=True)
class Piece:
    """A part of a streamed answer: `text`, or `thought` of a model that thinks aloud.

    `finish` is why it ends ("stop", "length"), in one of the last pieces; `usage` counts tokens
    (prompt_tokens, completion_tokens, cached_tokens) where the server tells, at the end.
    """

    text: str = ""
    thought: str = ""
    finish: str | None = None
    usage: Mapping[str, int] = field(default_factory=dict)


@dataclass
class Api:
    """The server of rank 0 on `node`, bound to `bind:port` there; `key` if it wants one."""

    node: Node
    bind: str
    port: int
    key: str | None = None

    @classmethod
    def of(cls, cluster: Cluster) -> Api:
        """The server that this cluster is to run, wherever its arguments tell it to listen."""
        return cls(cluster.leader, cluster.bind, cluster.http_port, engine.key(cluster.args))

    @cached_property
    def session(self) -> requests.Session:
        """Where all requests to this server are sent from."""
        from . import session

        return session.of(self.node, self.key)

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
        messages = [{"role": "user", "content": prompt}]
        body = {**_body(model, messages, max_tokens), **sampling}
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
        """Get one real token; the name by which the loaded model is to be asked for."""
        name = self.name_of(model, default, timeout)
        self.chat(name, "Hi", max_tokens=1, timeout=timeout)
        return name

    def name_of(self, model: str | None, default: str, timeout: float = 10) -> str:
        """The name to ask for: asking by one that is not the loaded model would load another."""
        return model if model and model in self.models(timeout) else default

    def stream(
        self, model: str, messages: Messages, max_tokens: int, timeout: float = 60, **sampling: Any
    ) -> Iterator[Piece]:
        """The pieces of a streamed chat completion as they come, each within `timeout` seconds.

        Raise ApiError when the stream ends before the server has said that it is at its end.
        """
        body = {**_body(model, messages, max_tokens), **sampling}
        body |= {"stream": True, "stream_options": {"include_usage": True}}
        answer = self._send("POST", "/v1/chat/completions", timeout, json=body, stream=True)
        with answer:
            if answer.status_code != 200:
                said = _said(answer)
                raise ApiError(f"the completion answered {answer.status_code}: {said!r}")
            for line in _lines(answer):
                if line == "data: [DONE]":
                    return
                # What begins otherwise is empty, or a comment that keeps the connection alive.
                if line.startswith("data:"):
                    yield _piece(line.removeprefix("data:"))
        raise ApiError("the stream broke off")

    def _get(self, path: str, timeout: float) -> requests.Response:
        return self._send("GET", path, timeout)

    def _send(self, method: str, path: str, timeout: float, **more: Any) -> requests.Response:
        import requests

        url = f"http://{self.target}:{self.port}{path}"
        try:
            # A page that sends us elsewhere would send us anywhere.
            options = {"timeout": timeout, "allow_redirects": False, **more}
            return self.session.request(method, url, **options)
        except requests.Timeout:
            raise ApiTimeoutError(f"{method} {path}: no answer in time") from None
        except (requests.RequestException, OSError, EOFError) as error:
            raise ApiError(f"{method} {path}: {_reason(error)}") from None


def _body(model: str, messages: Messages, max_tokens: int) -> dict[str, Any]:
    return {"model": model, "messages": messages, "max_tokens": max_tokens}


def _lines(answer: requests.Response) -> Iterator[str]:
    """The lines of an answer, each as soon as it is there: `iter_lines` waits for whole blocks."""
    from urllib3.exceptions import HTTPError, ReadTimeoutError

    rest = b""
    try:
        while data := answer.raw.read1(65536):
            *lines, rest = (rest + data).split(b"\n")
            if len(rest) > LINE:
                raise ApiError("the stream holds a line without end")
            yield from (line.decode("utf-8", "replace").rstrip("\r") for line in lines)
    except (ReadTimeoutError, TimeoutError):
        raise ApiTimeoutError("the stream gave nothing more in time") from None
    except (HTTPError, OSError, EOFError, ValueError):
        raise ApiError("the stream broke off") from None


def _said(answer: requests.Response) -> str:
    from requests import RequestException

    try:
        return answer.text[:200]
    except (RequestException, OSError, EOFError):
        return ""


def _piece(text: str) -> Piece:
    try:
        data = json.loads(text)
        if "error" in data:
            raise ApiError(f"the server said: {data['error']!s:.200}")
        choice = data["choices"][0] if data["choices"] else {}
        delta = choice.get("delta", {})
        thought = delta.get("reasoning") or delta.get("reasoning_content") or ""
        told = data.get("usage") or {}
        usage = {key: told[key] for key in USAGE if type(told.get(key)) is int}
        cached = (told.get("prompt_tokens_details") or {}).get("cached_tokens")
        usage |= {"cached_tokens": cached} if type(cached) is int else {}
        end = choice.get("finish_reason")
        return Piece(str(delta.get("content") or ""), str(thought), end and str(end), usage)
    except _NOT_AS_AGREED:
        raise ApiError(f"the stream holds what is no completion: {text[:200]!r}") from None


def _reason(error: BaseException) -> str:
    import requests

    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "the connection broke off"
    if isinstance(error, requests.ConnectionError):
        return "no connection"
    return str(error) or type(error).__name__
