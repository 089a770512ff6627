"""What is said while a command waits."""

from __future__ import annotations

import time

import pytest

from tasks.cli import waiting
from tasks.cluster.ssh import background


def test_many_short_waits_are_one(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of them is too short to be told; what is silent is all of them."""
    monkeypatch.setattr(waiting, "AFTER", 0.5)
    wait = waiting.Waiting()

    def short() -> None:
        for number in range(4):
            wait({f"repeat {number}": background.begin(time.sleep, 0.4)})

    short()
    assert capsys.readouterr().err == ""
    with wait.as_one():
        short()
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("waiting for repeat 1, ")
