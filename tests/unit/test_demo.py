"""What inv demo ends: its own server, and no other that has its name."""

from __future__ import annotations

import pytest
from invoke.config import Config
from invoke.context import Context
from invoke.tasks import Task

from tasks.cluster.errors import ActionFailed, CheckFailed
from tasks.commands import demo


@pytest.mark.parametrize(
    ("error", "ended"), [(CheckFailed("no"), []), (ActionFailed("dead"), ["stop"])]
)
def test_a_refused_demo_ends_no_other(error: Exception, ended: list[str]) -> None:
    """Two at once: the first one's ranks have the same name."""
    said: list[str] = []

    def start(_: Context) -> None:
        raise error

    def stop(_: Context) -> None:
        said.append("stop")

    with pytest.raises(type(error)):
        demo.run(Context(Config({"tp": {}})), Task(start), Task(start), Task(stop))
    assert said == ended
