"""What tp.chat shows of an answer: its pieces, and what is said where it breaks off."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from tasks.cluster.errors import ActionFailed
from tasks.cluster.http.api import ApiError, StreamChunk
from tasks.cluster.http.completion import ChatResult
from tasks.commands.tp import chat
from tasks.session import Session

ANSWER = ChatResult("one two", "", "stop", 0.5, 1.0, 3, 4, None, 2)
QUESTION = chat.ChatRequest("Hi", None, 9, 0.5, 60.0)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Ask a server that sends such pieces, and ends so."""
    server = SimpleNamespace(
        api=SimpleNamespace(url="u"), model="m", record=SimpleNamespace(model="")
    )

    def tell(*pieces: StreamChunk, error: BaseException | None = None) -> None:
        def ask(
            api: Any, model: str, messages: Any, most: int, wait: float, show: Any, **given: Any
        ) -> Any:
            assert (model, most, wait, given) == ("m", 9, 60.0, {"temperature": 0.5})
            for piece in pieces:
                show(piece)
            if error:
                raise error
            return ANSWER

        monkeypatch.setattr(chat, "ask", ask)
        monkeypatch.setattr(chat, "running", lambda cluster: server)
        chat.run(Session(), None, QUESTION)  # type: ignore[arg-type]

    return tell


def test_an_answer(told: Callable[..., None], capsys: pytest.CaptureFixture[str]) -> None:
    told(StreamChunk(thought="hm"), StreamChunk("one "), StreamChunk("two"))
    shown = capsys.readouterr()
    assert shown.out == "one two\n"
    assert shown.err.startswith("hmfirst token after 0.50 s; 4 tokens in 1.0 s; ")


def test_an_answer_that_breaks_off(
    told: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    """What came is a whole line, before the error is."""
    with pytest.raises(ActionFailed, match=r"^chat: it left after 2 pieces: inv tp.status"):
        told(StreamChunk("one "), StreamChunk("two"), error=ApiError("it left"))
    assert capsys.readouterr().out == "one two\n"
    with pytest.raises(ActionFailed, match=r"^chat: it left: inv"):
        told(error=ApiError("it left"))


def test_an_interrupt(told: Callable[..., None], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyboardInterrupt):
        told(StreamChunk("one"), error=KeyboardInterrupt())
    assert capsys.readouterr().out == "one\n"
