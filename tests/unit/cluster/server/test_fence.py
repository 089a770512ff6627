"""The number of a hold: above all that the nodes have seen, or another has taken over."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import pytest

from tasks.cluster.facts.server.state import NO_HOLD, Seen, parse_fence
from tasks.cluster.server import fence
from tasks.cluster.server.fence import Fence, TakenOver
from tasks.cluster.ssh import scripts
from tasks.cluster.ssh.node import CommandResult

MINE = Fence(5, "mine", "tp.start of ada@desk", "default")


class Leader:
    """Rank 0's node: what it is asked, and its answer."""

    def __init__(self, answer: str = "") -> None:
        self.name, self.answer = "mac1", answer
        self.fences: dict[str, Fence] = {"f": MINE}
        self.asked: list[str] = []

    def sh(self, script: str) -> CommandResult:
        self.asked.append(script)
        return CommandResult(self.name, err=self.answer, status=0)


def cluster(answer: str = "") -> Any:
    leader, where = Leader(answer), {"state_dir": "s", "cluster": "default"}
    nodes = [leader, SimpleNamespace(name="mac2")]
    return SimpleNamespace(leader=leader, nodes=nodes, folder="f", where=where)


def seen(number: int, hold: str) -> Seen:
    return Seen(number, hold, 1764500000.0, "tp.stop of bob@x")


def test_all_know_ours() -> None:
    """Then nobody is asked again, and what acts carries it."""
    mine = cluster()
    assert not fence.is_aligned(mine)
    assert not fence.raised(mine, {"mac1": seen(5, "mine"), "mac2": seen(5, "mine")})
    assert fence.is_aligned(mine)
    assert mine.leader.asked == []
    assert fence.values(mine) == {
        "fence": "5",
        "fence_of": "default",
        "hold": "mine",
        "holder": "tp.start of ada@desk",
    }


@pytest.mark.parametrize("number", [5, 9])
def test_one_has_seen_as_high_a_number(number: int) -> None:
    """Rank 0's node was another, or its state was wiped: ours is raised above it, there first."""
    mine = cluster()
    assert fence.raised(mine, {"mac1": seen(5, "mine"), "mac2": seen(number, "old")})
    assert fence.values(mine)["fence"] == str(number + 1)
    assert f"fence={number + 1}\n" in mine.leader.asked[0]
    assert "given=5\n" in mine.leader.asked[0]
    assert not fence.raised(mine, {"mac1": seen(number + 1, "mine"), "mac2": seen(10, "mine")})
    # From then on another's is no leftover.
    with pytest.raises(TakenOver) as found:
        fence.raised(mine, {"mac1": seen(number + 1, "mine"), "mac2": seen(11, "new")})
    assert "mac2: the cluster was taken over by tp.stop of bob@x at " in str(found.value.message)


def test_rank_0_knows_another() -> None:
    """It gave us ours, so the other has come since."""
    with pytest.raises(TakenOver) as found:
        fence.raised(cluster(), {"mac1": seen(6, "new"), "mac2": seen(6, "new")})
    assert found.value.code == 4
    with pytest.raises(TakenOver):  # while it was about to be raised
        fence.raised(cluster("fence 6 new 1764500000 tp.stop"), {"mac2": seen(9, "old")})


def test_a_node_that_can_not_write_it_down() -> None:
    """As where its disk is full: what it has seen before is no other's."""
    mine = cluster()
    assert not fence.raised(mine, {"mac1": seen(4, "old"), "mac2": seen(3, "old")})
    assert fence.is_aligned(mine)


def test_without_a_hold() -> None:
    mine = cluster()
    mine.leader.fences.clear()
    assert not fence.raised(mine, {"mac1": seen(6, "new")})
    assert fence.is_aligned(mine)
    assert fence.values(mine) == NO_HOLD


def test_what_changes_something_begins_with_our_number() -> None:
    values = {"state_dir": "s", "cluster": "default", "fence": "5", "fence_of": "default"}
    holder = "tp.start of ada@desk"
    text = scripts.script("fence/begin.sh", **values, hold="mine", holder=holder)
    assert fence.begin(cluster()) == text


def test_a_hold_is_lent() -> None:
    """To what is done for another cluster on the same nodes; where there is none, nothing is."""
    mine, other = cluster(), cluster()
    other.folder, other.leader.fences = "g", {}
    fence.lend(mine, other)
    assert fence.of(other) == MINE
    fence.lend(SimpleNamespace(leader=mine.leader, folder="h"), other)  # type: ignore[arg-type]
    assert other.leader.fences == {"g": MINE}


def test_a_refusal_among_what_a_node_says() -> None:
    told = fence.refusal(["x", "fence 6 new 1764500000 tp.stop of b", "y"])
    assert re.fullmatch(r"the cluster was taken over by tp\.stop of b at \d\d:\d\d", told)
    assert fence.refusal(["x", "y"]) == ""


def test_a_refusal_is_told_with_one_line() -> None:
    good, refused = (
        CommandResult("mac1", status=0),
        "x\nfence 6 new 1764500000 tp.stop\x1b[2J of b\n",
    )
    fence.check({"mac1": good})
    with pytest.raises(TakenOver) as found:
        fence.check({"mac1": good, "mac2": CommandResult("mac2", err=refused, status=76)})
    what = r"the cluster was taken over by tp\.stop\S* of b at \d\d:\d\d"
    words = rf"mac2: {what}; nothing was changed here"
    assert re.fullmatch(words, str(found.value.message))
    assert parse_fence("fence 6 new then who") is None
