"""What all nodes have told at one time."""

from __future__ import annotations

from typing import Any

import pytest

from tasks.cluster.config.hostfile import Host
from tasks.cluster.facts import Fact, Key, NodeFacts, Unknown
from tasks.cluster.facts.server import state
from tasks.cluster.facts.server.state import RankState, State
from tasks.cluster.facts.snapshot import FactQuery, Snapshot
from tasks.cluster.ssh.node import CommandResult, Node

DAYS = Key[int]("days")


def days(text: str, status: int) -> int:
    return int(text)


def ran(*numbers: int) -> State:
    return State(0.0, {number: RankState(number, None) for number in numbers}, None, None)


def snapshot(**values: Any) -> Snapshot:
    return Snapshot({node: NodeFacts(node, {state.KEY: v}) for node, v in values.items()}, {})


def test_ranks_come_by_number_whatever_node_they_are_on() -> None:
    read = snapshot(mac1=ran(2, 0), mac2=ran(1), mac3=Unknown("why"))
    assert [(node, rank.rank) for node, rank in read.ranks] == [
        ("mac1", 0),
        ("mac2", 1),
        ("mac1", 2),
    ]
    assert read.state("mac3") is None


def test_a_node_that_did_not_answer_has_told_nothing() -> None:
    read = Snapshot({}, {"mac1": ("no route", "ssh -v mac1")})
    assert read.on("mac1").get(state.KEY) is None
    assert read.state("mac1") is None
    assert read.ranks == []


def test_a_fact_that_is_wanted_twice_is_read_once() -> None:
    first, second = Fact(DAYS, "echo 1", days), Fact(DAYS, "echo 2", days)
    query = FactQuery.of([Node(Host("localhost"))], lambda node: [first, second])
    assert query.facts == {"localhost": [first]}
    assert query.scripts["localhost"].count("begin") == 1


def test_answers_become_a_snapshot() -> None:
    """What a node had told before it was lost counts; one that never answered is not reached."""
    fact = Fact(DAYS, "echo 1", days)
    query = FactQuery.of([Node(Host("mac1")), Node(Host("mac2"))], lambda node: [fact])
    begun = f"\n{query.nonce} begin days\n1"
    answers = {
        "mac1": CommandResult("mac1", begun, "", None, "no answer in time"),
        "mac2": CommandResult("mac2", "", "", None, "SSH failed", remedy="ssh -v mac2"),
    }
    read = query.snapshot(answers)
    assert read.on("mac1").get(DAYS) == Unknown("the node did not answer in time")
    assert read.unreachable == {"mac2": ("SSH failed", "ssh -v mac2")}


def test_it_is_a_mapping_for_a_version_more() -> None:
    read = snapshot(mac1=ran(0))
    with pytest.warns(DeprecationWarning, match="`nodes`"):
        assert list(read) == ["mac1"]  # type: ignore[call-overload]
    with pytest.warns(DeprecationWarning, match="the snapshot itself"):
        assert read.facts["mac1"]["state"] == ran(0)  # type: ignore[attr-defined]
    with pytest.raises(AttributeError):
        read.nothing  # type: ignore[attr-defined]  # noqa: B018
