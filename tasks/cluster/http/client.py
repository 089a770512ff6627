"""The server's HTTP side, as the control machine sees it: its pages, models and completions.

A remote rank 0 is asked through its node's SSH connection, so that neither a firewall nor a
server bound to 127.0.0.1 stands between; `requests` does the HTTP.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from ..config import engine
from ..config.keys import KeySource
from ..errors import BadInput
from ..ssh.node import Node
from ..text import one_line
from . import stream
from .failure import NOT_AS_AGREED, ApiError, ApiTimeoutError, Json, Why, of_body, said
from .stream import StreamChunk

# requests is imported where a page is asked for: it takes longer than all of our own modules.
if TYPE_CHECKING:
    import requests

    from ..cluster import Cluster

Messages = Sequence[Mapping[str, str]]
BODY = 65536  # bytes of an answer that is no success: its first are enough
# A model may end its answer with the first token, which is no proof of it: engines say "stop" by
# default, too. So it is asked again, by other words.
PROMPTS = ("Hi", "Say a word.", "One, two, three,", "Once upon a time", "The sky is")
# Seconds that a stream has for its last words (counts of tokens, [DONE]) once the answer is whole.
LAST_WORDS = 2.0


@dataclass
class Api:
    """The server of rank 0 on `node`, bound to `bind:port` there; `key` if it wants one."""

    node: Node
    bind: str
    port: int
    key: str | KeySource | None = None

    @classmethod
    def of(cls, cluster: Cluster) -> Api:
        """The server that this cluster is to run, wherever its arguments tell it to listen."""
        key = engine.key(cluster.args) or cluster.api_key
        return cls(cluster.leader, cluster.bind, cluster.http_port, key)

    @cached_property
    def session(self) -> requests.Session:
        """Where all requests to this server are sent from; raise BadInput where its key is not."""
        from . import session

        try:
            key = self.key.key if isinstance(self.key, KeySource) else self.key
        except ValueError as error:
            raise BadInput(f"tp.api_key: {error}") from None
        return session.of(self.node, key)

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

    @property
    def shell_key(self) -> str:
        """Give the key in a line for a shell; one that is in the server's arguments stays there."""
        return self.key.shell if isinstance(self.key, KeySource) else "$API_KEY"

    def page(self, path: str, timeout: float = 2) -> ApiError | None:
        """Ask for a page; why it can't be had, None where it answers 200."""
        try:
            status = self._get(path, timeout).status_code
        except ApiError as error:
            return error
        if status == 200:
            return None
        why = Why.NO_PAGE if status == 404 else Why.STATUS
        return ApiError(f"GET {path}: it answers {status}", why)

    def models(self, timeout: float = 10) -> list[str]:
        """The ids of `GET /v1/models`."""
        answer = self._get("/v1/models", timeout)
        try:
            return [str(entry["id"]) for entry in answer.json()["data"]]
        except NOT_AS_AGREED:
            raise ApiError(
                f"GET /v1/models answered {answer.status_code}: {answer.text[:200]!r}"
            ) from None

    def chat(
        self, model: str, prompt: str, max_tokens: int, timeout: float = 60, **sampling: object
    ) -> dict[str, Json]:
        """One chat completion as the server's JSON, which may hold no token; raise ApiError."""
        messages = [{"role": "user", "content": prompt}]
        body = {**_body(model, messages, max_tokens), **sampling}
        answer = self._send("POST", "/v1/chat/completions", timeout, json=body)
        return _completion(answer)

    def completion(
        self, model: str, prompt: str, max_tokens: int, timeout: float, **sampling: object
    ) -> dict[str, Json]:
        """One completion of a plain prompt as the server's JSON, whatever it says."""
        body = {"model": model, "prompt": prompt, "max_tokens": max_tokens, **sampling}
        answer = self._send("POST", "/v1/completions", timeout, json=body)
        try:
            return dict(answer.json())
        except NOT_AS_AGREED:
            raise _no_completion(answer) from None

    def one_token(self, model: str | None, default: str, timeout: float) -> str:
        """Get one real token; the name by which the loaded model is to be asked for."""
        name = self.name_of(model, default, timeout)
        for prompt in PROMPTS:
            data = self.chat(name, prompt, max_tokens=1, timeout=timeout)
            if _holds_any(data):
                return name
        raise ApiError(f"{len(PROMPTS)} completions hold no token: {one_line(str(data))[:200]}")

    def name_of(self, model: str | None, default: str, timeout: float = 10) -> str:
        """The name to ask for: asking by one that is not the loaded model would load another."""
        return model if model and model in self.models(timeout) else default

    def stream(
        self,
        model: str,
        messages: Messages,
        max_tokens: int,
        timeout: float = 60,
        **sampling: object,
    ) -> Iterator[StreamChunk]:
        """Pieces of a streamed chat completion, each within `timeout` seconds; raise ApiError."""
        body = {**_body(model, messages, max_tokens), **sampling}
        body |= {"stream": True, "stream_options": {"include_usage": True}}
        answer = self._send("POST", "/v1/chat/completions", timeout, json=body, stream=True)
        # A server may leave the connection open behind its last word.
        last_words = threading.Timer(LAST_WORDS, _shut, [answer])
        last_words.daemon = True

        def at_end(ended: bool) -> None:
            (last_words.start if ended else last_words.cancel)()

        with answer:
            blocks = _blocks(answer)
            try:
                if not _is_done(answer):
                    words = said(next(blocks, b"")[:BODY].decode("utf-8", "replace"))
                    raise ApiError(f"the completion answered {answer.status_code}: {words!r}")
                yield from stream.read(blocks, at_end)
            finally:
                last_words.cancel()

    def _get(self, path: str, timeout: float) -> requests.Response:
        return self._send("GET", path, timeout)

    def _send(
        self, method: str, path: str, timeout: float, json: object = None, stream: bool = False
    ) -> requests.Response:
        import requests

        url = f"http://{self.target}:{self.port}{path}"
        try:
            # A page that sends us elsewhere would send us anywhere.
            answer = self.session.request(
                method, url, timeout=timeout, allow_redirects=False, json=json, stream=stream
            )
        except requests.Timeout:
            raise ApiTimeoutError(f"{method} {path}: no answer in time") from None
        except (requests.RequestException, OSError, EOFError) as error:
            raise self._unanswered(f"{method} {path}", error) from None
        if refused := self._refused(f"{method} {path}", answer):
            answer.close()
            raise refused
        return answer

    def _refused(self, what: str, answer: requests.Response) -> ApiError | None:
        status = answer.status_code
        if status in (401, 403):
            return ApiError(self._wants_key(status), Why.KEY)
        if answer.is_redirect:
            away = f"sends us to {one_line(answer.headers['Location'])[:200]}"
            who = "is it the server itself that listens there?"
            return ApiError(f"{what}: it answers {status} and {away}: {who}", Why.STATUS)
        return None

    def _unanswered(self, what: str, error: BaseException) -> ApiError:
        from . import session

        why, words = session.explain(error)
        if why in (Why.BROKEN, Why.NOT_HTTP) and session.speaks_tls(
            self.node, self.target.strip("[]"), self.port
        ):
            why, words = Why.TLS, "it speaks TLS (https), which inv does not: serve http there"
        return (
            ApiTimeoutError(f"{what}: {words}")
            if why is Why.TIMEOUT
            else ApiError(f"{what}: {words}", why)
        )

    def _wants_key(self, status: int) -> str:
        if self.key:
            return f"the server refuses the key ({status}): see tp.api_key, or its --api-key"
        return (
            f"the server wants a key ({status}): set tp.api_key to where it is (env:NAME,"
            " file:PATH or command:LINE), or start it with -- --api-key"
        )


def _body(model: str, messages: Messages, max_tokens: int) -> dict[str, object]:
    return {"model": model, "messages": messages, "max_tokens": max_tokens}


def _completion(answer: requests.Response) -> dict[str, Json]:
    """A completion as the server's JSON; raise ApiError with what it says, where it is none."""
    if not _is_done(answer):
        raise _no_completion(answer)
    try:
        data = answer.json()
        if failed := of_body(data):
            raise ApiError(f"the server said: {failed}")
        _parts(data)  # is it as agreed?
        return dict(data)
    except NOT_AS_AGREED:
        raise _no_completion(answer) from None


def _no_completion(answer: requests.Response) -> ApiError:
    return ApiError(f"the completion answered {answer.status_code}: {said(answer.text)!r}")


def _parts(data: Json) -> tuple[object, ...]:
    return stream.parts(data["choices"][0].get("message") or {})


def _holds_any(data: Json) -> bool:
    """Whether a completion holds a token: counted, or to be seen, or as many as were allowed."""
    if stream.usage(data).get("completion_tokens") or any(_parts(data)):
        return True
    return bool(data["choices"][0].get("finish_reason") == "length")


def _is_done(answer: requests.Response) -> bool:
    return 200 <= answer.status_code < 300


def _shut(answer: requests.Response) -> None:
    """End an answer for whoever reads it."""
    with suppress(OSError, ValueError, RuntimeError):
        answer.raw.shutdown()


def _blocks(answer: requests.Response) -> Iterator[bytes]:
    """The bytes of an answer as they come: `iter_content` waits for whole blocks."""
    from urllib3.exceptions import HTTPError, ReadTimeoutError

    try:
        # A server may pack what we asked to have as it is.
        while block := answer.raw.read1(BODY, decode_content=True):
            yield block
    except (ReadTimeoutError, TimeoutError):
        raise ApiTimeoutError("the stream gave nothing more in time") from None
    except (HTTPError, OSError, EOFError, ValueError):
        raise ApiError("the stream broke off") from None
