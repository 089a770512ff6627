"""What inv tp.stop asks of nodes once its ranks are stopped."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tasks.cluster.facts.snapshot import Snapshot
from tasks.cluster.server import fence, snapshots
from tasks.cluster.server import stop as stopping
from tasks.cluster.server.stop import StopReport
from tasks.commands.tp import stop
from tasks.session import ClusterMemory


def test_a_node_that_did_not_answer_is_not_waited_for_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One that says a byte now and then for ever holds each step for all of its time."""
    asked: list[str] = []

    def collect(*_: object, beside: dict[str, str], **__: object) -> dict[str, Any]:
        asked.extend(beside)
        return {}

    monkeypatch.setattr(stop, "collect", collect)
    monkeypatch.setattr(snapshots, "running_facts", lambda _: lambda node: [])
    monkeypatch.setattr(stopping, "forget_scripts", lambda *_: {"mac1": "forget"})
    monkeypatch.setattr(fence, "check", lambda answers: None)
    cluster: Any = SimpleNamespace(nodes=[SimpleNamespace(name=name) for name in ("mac1", "mac2")])
    session: Any = SimpleNamespace(known=lambda _: ClusterMemory())
    reports = [StopReport("mac1"), StopReport("mac2", failure="no answer within 30 s")]
    stop.finish(session, cluster, Snapshot({}, {}), reports)
    assert asked == ["mac1"]
