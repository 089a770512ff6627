"""What a restart of tp.watch finds once it has the lock: others may have acted while it waited."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tasks.cluster.errors import CheckFailed
from tasks.cluster.facts import NodeFacts
from tasks.cluster.facts.server.state import KEY, State, Wanted
from tasks.cluster.facts.snapshot import Snapshot
from tasks.cluster.server import snapshots
from tasks.commands.tp import watch


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Of a node `a`, on which `cluster.wanted` is what is wanted."""
    made = SimpleNamespace(leader=SimpleNamespace(name="a"), wanted=None)

    def states(cluster: Any) -> Snapshot:
        state = State(0.0, {}, None, None, wanted=cluster.wanted)
        return Snapshot({"a": NodeFacts("a", {KEY: state})}, {})

    monkeypatch.setattr(snapshots, "states", states)
    return made


def test_it_is_still_wanted(cluster: Any) -> None:
    cluster.wanted = Wanted("running", "r1", 5.0, "ann@desk")
    assert watch._still_wanted(cluster) == "r1"
    assert watch._still_wanted(cluster, "r1") == "r1"


def test_somebody_has_stopped_it(cluster: Any) -> None:
    cluster.wanted = Wanted("stopped", "r1", 5.0, "ann@desk")
    with pytest.raises(CheckFailed, match="stopped by ann@desk"):
        watch._still_wanted(cluster, "r1")


def test_somebody_has_started_another(cluster: Any) -> None:
    cluster.wanted = Wanted("running", "r2", 5.0, "ann@desk")
    with pytest.raises(watch._StartedMeanwhileError):
        watch._still_wanted(cluster, "r1")


def test_a_server_of_a_version_before(cluster: Any) -> None:
    """There nothing is written down of what is wanted."""
    assert watch._still_wanted(cluster) == ""
    assert watch._still_wanted(cluster, "") == ""
