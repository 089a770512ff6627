"""What inv dev.loop tells of a cycle, in words and as a document."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest
import schemas

from tasks.cli import envelope
from tasks.cluster.errors import ActionFailed
from tasks.cluster.server import readiness, snapshots
from tasks.commands.dev import loop
from tasks.commands.tp import restart
from tasks.session import Session


@pytest.fixture
def cycle(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A cycle after a save of a.py; what is said of the nodes is made up."""

    def run(error: ActionFailed | None = None) -> None:
        session = Session()

        def again(*given: object) -> None:
            session.phases["load"] = 1.25
            if error:
                raise error

        monkeypatch.setattr(restart, "bringing", lambda *given: None)
        monkeypatch.setattr(restart, "again", again)
        cluster: Any = SimpleNamespace(ranks=(0, 1))
        loop._cycle(session, cluster, None, None, ["a.py"])  # type: ignore[arg-type]

    monkeypatch.setattr(time, "strftime", lambda form: "10:00:00")
    monkeypatch.setattr(snapshots, "states", lambda cluster: None)
    monkeypatch.setattr(readiness, "size", lambda *given: 2)
    monkeypatch.setattr(readiness, "judge", lambda *given: SimpleNamespace(state="stopped"))
    return run


BROKEN = ActionFailed("rank 1 died")


def test_in_words(cycle: Any, capsys: pytest.CaptureFixture[str]) -> None:
    cycle()
    assert capsys.readouterr().out == "10:00:00  0.0 s  a.py: load 1.2\n"
    cycle(BROKEN)
    why = "failed: rank 1 died; the server is now stopped: mend it and save"
    assert capsys.readouterr().out == f"10:00:00  0.0 s  a.py: {why}\n"


def test_as_documents(cycle: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with envelope.opened(True, is_stream=True):
        cycle()
        cycle(BROKEN)
    first, second = schemas.check_lines(["dev.loop"], capsys.readouterr().out)
    assert (first["ok"], first["state"], first["saved"]) == (True, "ready", ["a.py"])
    assert first["phases"] == {"load": 1.25}
    assert (second["error"], second["state"]) == ("rank 1 died", "stopped")
