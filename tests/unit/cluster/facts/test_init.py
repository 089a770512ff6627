"""Facts: asked for by typed keys, read in one script, and unknown where they can't be read."""

from __future__ import annotations

import subprocess

import pytest

from tasks.cluster import facts
from tasks.cluster.facts import Fact, Key, NodeFacts, Unknown, UnknownFactError, known
from tasks.cluster.facts.machine import memory, ports

DAYS = Key[int]("days")
NAME = Key[str]("name")
LOST = Key[float]("lost")
TOLD = NodeFacts("mac1", {DAYS: 3, NAME: "", LOST: Unknown("it hangs")})
UNASKED = Key[int]("unasked")


def test_a_value_is_got_by_its_key() -> None:
    assert (TOLD.get(DAYS), TOLD[DAYS], known(TOLD, DAYS)) == (3, 3, 3)
    assert (TOLD.get(NAME), TOLD[NAME], known(TOLD, NAME)) == ("", "", "")
    assert TOLD.get(Key[int]("days")) == 3


def test_what_is_unknown_or_was_not_asked_is_no_value() -> None:
    assert (TOLD.get(LOST), known(TOLD, LOST)) == (Unknown("it hangs"), None)
    assert (TOLD.get(UNASKED), known(TOLD, UNASKED)) == (None, None)
    assert (LOST in TOLD, UNASKED in TOLD) == (True, False)
    for key, why in ((LOST, "it hangs"), (UNASKED, "it was not asked")):
        with pytest.raises(UnknownFactError) as raised:
            TOLD[key]
        assert (raised.value.node, raised.value.name, raised.value.why) == ("mac1", key.name, why)


def test_the_first_that_lacks_is_told() -> None:
    assert TOLD.lacks(DAYS, NAME) is None
    assert str(TOLD.lacks(DAYS, LOST, UNASKED)) == "mac1: lost: it hangs"
    assert TOLD.unknown == {"lost": Unknown("it hangs")}


def test_all_facts_of_a_node_in_one_script() -> None:
    """A status, what is said to standard error, a mark that is forged, a parser that refuses."""

    def both(text: str, status: int) -> tuple[str, int]:
        if status == 1:
            raise ValueError("it can't be read")
        return text, status

    asked = [
        Fact(Key[tuple[str, int]]("plain"), "echo a; echo b >&2; exit 4", both),
        Fact(Key[tuple[str, int]]("forged"), "echo 'x end forged 0'; cd /; umask 0", both),
        Fact(Key[tuple[str, int]]("broken"), "echo why; exit 1", both),
        Fact(Key[tuple[str, int]]("late"), "exit 142", both),
        Fact(Key[tuple[str, int]]("cut"), "kill $$", both),
    ]
    script = facts.script(asked, "n0nce")
    done = subprocess.run(["/bin/sh", "-s"], input=script, capture_output=True, text=True)
    read = facts.read(asked, done.stdout, "n0nce", "mac1")
    assert read.node == "mac1"
    assert [read.get(fact.key) for fact in asked] == [
        ("a\nb\n", 4),
        ("x end forged 0\n", 0),
        Unknown("it can't be read (exit status 1): why"),
        Unknown("it gave no answer in time"),
        Unknown("the node did not answer in time"),
    ]


def misspelled(told: NodeFacts) -> list[object]:
    """Each line is an error of mypy: where one were none, its ignore would be (strict)."""
    return [
        told.get(memory.KYE),  # type: ignore[attr-defined]
        told.get("memory"),  # type: ignore[arg-type]
        told[ports.KEY].wired,  # type: ignore[attr-defined]
        told.get(memory.KEY).wired,  # type: ignore[union-attr]
        known(told, memory.KEY).wired,  # type: ignore[union-attr]
        Fact("days", "echo 3", parse_days),  # type: ignore[arg-type]
        Fact(Key[str]("days"), "echo 3", parse_days),  # type: ignore[arg-type]
    ]


def parse_days(text: str, status: int) -> int:
    return int(text)


def test_names_are_taken_for_a_version_more() -> None:
    with pytest.warns(DeprecationWarning, match=r'use tasks.cluster.facts.Key\("days"\)') as seen:
        fact = Fact("days", "echo 3", lambda text, status: int(text))  # type: ignore[arg-type]
    assert seen[0].filename == __file__
    assert fact.key == DAYS
    with pytest.warns(DeprecationWarning, match="a name for a fact"):
        assert TOLD["lost"] == Unknown("it hangs")  # type: ignore[index]
    with pytest.warns(DeprecationWarning, match="a name for a fact"):
        assert known(TOLD, "days") == 3  # type: ignore[arg-type]
