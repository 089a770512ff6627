"""inv tp.chat: one question to the running server, and how fast it answered."""

from __future__ import annotations

import sys
import threading
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import asdict, dataclass
from functools import partial

from ...cli import envelope, screen
from ...cluster.cluster import Cluster
from ...cluster.config.engine import Engine
from ...cluster.errors import ActionFailed, CheckFailed
from ...cluster.facts.server.state import Record
from ...cluster.http.api import Api, ApiError, Messages, StreamChunk
from ...cluster.http.completion import ChatResult, ask
from ...cluster.server import snapshots
from ...cluster.ssh import background
from ...cluster.text import counted, one_line
from ...session import Session
from . import recorded

AFTER = "inv tp.status and inv tp.logs tell more"
RATES = ("speed", "piece_speed", "overall", "came_at_once")  # of an answer, beside its fields


@dataclass(frozen=True)
class Server:
    """The server that runs: HTTP side, record, its model's name; `pythons` is each node's own."""

    api: Api
    record: Record
    model: str
    pythons: Mapping[str, str]


def running(cluster: Cluster) -> Server:
    """The recorded server, wherever it was told to listen; raise with what to do if none runs."""
    read = snapshots.states(cluster)
    node, rank, record = recorded.leader(read)
    if not rank.alive:
        raise CheckFailed(f"{node}: rank 0 has ended: inv tp.restart starts it again")
    api = recorded.api_of(cluster, node, record)
    known = [(name, each.record) for name, each in reversed(read.ranks) if each.record]
    pythons = {name: each.command[0] for name, each in known}
    return Server(api, record, name_of(cluster, api, record), pythons)


def name_of(cluster: Cluster, api: Api, record: Record) -> str:
    """The name by which a server of the recorded kind is to be asked for its model."""
    try:
        return api.name_of(record.asked_by or None, engine_of(cluster, record).model)
    except ApiError as error:
        raise ActionFailed(f"{api.url}: {error}: {AFTER}") from None


def engine_of(cluster: Cluster, record: Record) -> Engine:
    """The engine that the server was started with, which need not be the configured one."""
    return cluster.engine_named(record.engine) or cluster.engine


@dataclass(frozen=True)
class ChatRequest:
    """What to ask: `timeout` is in seconds without a word; None leaves it to the server."""

    prompt: str
    system: str | None
    max_tokens: int
    temperature: float | None
    timeout: float

    @property
    def messages(self) -> Messages:
        system = [{"role": "system", "content": self.system}] if self.system else []
        return [*system, {"role": "user", "content": self.prompt}]


def run(session: Session, cluster: Cluster, question: ChatRequest) -> None:
    """Stream the answer to stdout, what the model thinks and the times to stderr."""
    server = running(cluster)
    answer = _streamed(session, server, question, _Shown(silent=envelope.current() is not None))
    url, model = server.api.url, server.record.model or server.model
    rates = {name: getattr(answer, name) for name in RATES}
    if not envelope.given({"url": url, "model": model, **asdict(answer), **rates}):
        for call in answer.calls:
            screen.out(f"tool call: {one_line(str(call))}")
        screen.say(in_words(answer))
    if not answer.pieces:
        raise ActionFailed(f"chat: the answer holds no text: {AFTER}")


def _streamed(session: Session, server: Server, question: ChatRequest, shown: _Shown) -> ChatResult:
    """The answer, shown as it comes."""
    given = {} if question.temperature is None else {"temperature": question.temperature}
    most, patience = question.max_tokens, question.timeout
    work = partial(ask, server.api, server.model, question.messages, most, patience, shown, **given)
    asked = background.begin(work)
    asked.add_done_callback(lambda _: shown.begin())
    try:
        session.waiting({"the first word": shown.begun})
        shown.may_speak.set()
        return asked.result()
    except ApiError as error:
        after = f" after {counted(shown.pieces, 'piece')}" if shown.pieces else ""
        raise ActionFailed(f"chat: {error}{after}: {AFTER}") from None
    except KeyboardInterrupt:
        shown.silent = True
        raise
    finally:
        shown.end()


class _Shown:
    """Shows pieces as they come: the answer on stdout, thoughts on stderr.

    `begun` ends with the first one; it is shown once that was seen (`may_speak`), since who waits
    for it may have a line of his own on the terminal.
    """

    def __init__(self, silent: bool) -> None:
        self.silent = silent
        self.pieces = 0
        self.last = ""
        self.begun: Future[None] = Future()
        self.may_speak = threading.Event()

    def begin(self) -> None:
        if not self.begun.done():
            self.begun.set_result(None)

    def __call__(self, piece: StreamChunk) -> None:
        self.begin()
        self.may_speak.wait()
        self.pieces += 1
        if not self.silent:
            if piece.thought:
                screen.part(piece.thought, sys.stderr)
            if piece.text:
                screen.part(piece.text, sys.stdout)
                self.last = piece.text

    def end(self) -> None:
        if self.last and not self.last.endswith("\n"):
            screen.out("")
        self.last = ""


def in_words(answer: ChatResult) -> str:
    """The times of an answer as a line."""
    if answer.first is None:
        return "no token came"
    words = [f"first token after {answer.first:.2f} s", *_rate(answer)]
    if answer.tokens is not None:
        overall = f", {answer.overall:.1f} tokens/s in all" if answer.overall else ""
        came = counted(answer.tokens, "token")
        words.append(f"{came} in {answer.seconds:.1f} s{overall if answer.came_at_once else ''}")
    else:
        came = counted(answer.pieces, "piece")
        words.append(f"{came} in {answer.seconds:.1f} s, whose tokens the server does not count")
    if answer.prompt_tokens is not None:
        cached = f", {answer.cached} of them cached" if answer.cached else ""
        words.append(f"prompt {counted(answer.prompt_tokens, 'token')}{cached}")
    if answer.finish == "length":
        words.append("cut off by --max-tokens")
    return "; ".join(words)


def _rate(answer: ChatResult) -> list[str]:
    """How fast the rest came after the first piece, or why that can't be told."""
    if answer.speed is not None:
        return [f"then {answer.speed:.1f} tokens/s"]
    if answer.tokens is None and answer.piece_speed is not None:
        return [f"then {answer.piece_speed:.1f} pieces/s"]
    if answer.pieces == 1:
        return ["came in one piece"] if answer.tokens != 1 else []
    return ["all pieces came at once"] if answer.came_at_once else []
