"""How far a load is: what is told of it from one look to the next."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from tasks.cluster.facts import NodeFacts
from tasks.cluster.facts.server.marks import Loading, Marks
from tasks.cluster.facts.server.state import KEY, RankState, State
from tasks.cluster.facts.snapshot import Snapshot
from tasks.cluster.http.failure import ApiError, Why
from tasks.cluster.server import readiness, wait
from tasks.cluster.server.readiness import Health


def read(**done: int | None) -> Snapshot:
    """A node per rank that has read so much of 100 bytes; None has told nothing yet."""
    found = {}
    for number, (name, each) in enumerate(done.items()):
        marks = Marks(loading=None if each is None else Loading(1.0, each, 100))
        rank = RankState(number, None, 7, alive=True, marks=marks)
        found[name] = NodeFacts(name, {KEY: State(0.0, {number: rank}, None, None)})
    return Snapshot(found, {})


def test_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    """It never falls; the limit's clock begins anew with each byte, and only then."""
    now = [0.0]
    monkeypatch.setattr(wait, "time", SimpleNamespace(monotonic=lambda: now[0]))
    cluster: Any = None
    waiting = wait._Waiting(cluster, cluster, None)

    def look(at: float, **done: int | None) -> tuple[float | None, float | None]:
        now[0] = at
        return waiting._grow(read(**done))

    assert look(1, a=None, b=None) == (None, None)
    # One rank is ahead: the other will read as much.
    assert look(2, a=40, b=None) == (0.2, None)
    assert look(4, a=60, b=20) == (0.4, 6.0)
    assert waiting.grown == 4
    # A node that gives no answer takes nothing back, nor does it count as growth.
    assert look(5, a=70)[0] == 0.7
    assert waiting.grown == 4
    assert look(6, a=70, b=30)[0] == 0.7
    assert waiting.grown == 6
    assert look(9, a=100, b=100) == (1.0, 0.0)
    assert waiting.grown == 9


def test_a_page_is_knocked_at_between_two_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A look costs the node more than a request that is refused."""
    now, asked, up = [0.0], [], 0.25
    clock = SimpleNamespace(
        monotonic=lambda: now[0], sleep=lambda s: now.__setitem__(0, now[0] + s)
    )
    monkeypatch.setattr(wait, "time", clock)
    api: Any = SimpleNamespace(node=SimpleNamespace(is_relayed=False))
    cluster: Any = None
    waiting = wait._Waiting(cluster, api, None)

    def token() -> str:
        asked.append(now[0])
        if now[0] < up:
            raise ApiError("nothing listens there", Why.REFUSED)
        return "m"

    monkeypatch.setattr(waiting, "_token", token)
    joining, loading = (
        wait.Progress(0, Health(state), [wait.RankView(0, "a", "joined")])
        for state in (readiness.JOINING, readiness.LOADING)
    )
    assert waiting.ask(joining) == ""
    assert (asked, now) == ([], [wait.PAUSE])
    now[0] = 0.0
    assert waiting.ask(loading) == ""
    assert asked == pytest.approx([0, 0.05, 0.1, 0.15])
    assert waiting.ask(loading) == "m"
    assert asked[4:] == pytest.approx([0.2, 0.25])
    # What has taken long is looked at, and asked, more seldom.
    now[0], asked[:], up = 0.0, [], 9.0
    assert waiting.ask(replace(loading, seconds=1000)) == ""
    assert asked == pytest.approx([0, 0.25, 0.5, 0.75])
    # Each request through a relay is a process on the node.
    now[0], api.node.is_relayed = 0.0, True
    assert waiting.ask(loading) == ""
    assert (len(asked), now) == (5, [wait.RELAYED])
