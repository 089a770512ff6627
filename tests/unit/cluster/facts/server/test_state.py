"""A cluster's state as a node tells it: what is taken of it, of this layout and of the others."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import Any

import pytest

from tasks.cluster.facts.server import state
from tasks.cluster.facts.server.state import Record, Wanted

RECORD = Record(
    run="1f",
    rank=0,
    size=2,
    host="mac1",
    backend="jaccl",
    engine="mlx-lm",
    ready="/health",
    model="llama",
    command=["python3"],
    env=[],
    bind="0.0.0.0",
    port=8000,
    ports=[32323],
    log="/tmp/tp_server.rank0.log",
    started=1765432100.0,
    by="me@desk",
)
LIVES = "pid 4130\nstart 5\nof b\nalive"
PLACES = "at /h/.mlx-tp/default\nold /h/.mlx-tp"


def told(*blocks: str) -> state.State:
    return state.parse("\n".join(["now 9", "boot b", PLACES, *blocks, "end", ""]), 0)


def run(name: str, *records: Record, word: str = "run") -> str:
    return f"{word} {name}\nrecord {state.dump(name, records)}"


def test_a_later_record_is_read() -> None:
    """What it has besides is passed over, of the run and of each rank."""
    data = json.loads(state.dump("1f", [RECORD]))
    data.update(version=9, colour="red")
    data["ranks"][0].update(speed={"a": [1]})
    found = told(f"run 1f\nrecord {json.dumps(data)}", f"rank 0\n{LIVES}").ranks[0]
    assert (found.record, found.pid, found.alive) == (RECORD, 4130, True)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"version": state.LAYOUT}, None),
        ({"version": 9, "writer": "ours 9.1"}, "started by ours 9.1, a later version"),
        ({"version": 9, "writer": ["\x1b[2J", 5]}, "a later version"),
        ({"version": 9, "writer": None, "ranks": {"0": "elsewhere"}}, "a later version"),
        ({"version": "9"}, None),
        ({"version": True}, None),
        ({"version": 10**400}, "a later version"),
    ],
)
def test_who_wrote_a_record(changed: dict[str, Any], says: str | None) -> None:
    """A run that is over, too; of a shape that is not known its ranks are still listed by pid."""
    data = {**json.loads(state.dump("1f", [RECORD])), **changed}
    for word in ("run", "ended"):
        found = told(f"{word} 1f\nrecord {json.dumps(data)}", f"rank 0\n{LIVES}")
        assert [says is not None and says in line for line in found.later] == (
            [True] if says else []
        )
        assert all(line.isprintable() for line in found.later)
        assert word == "ended" or found.ranks[0].alive


def old(**changed: Any) -> str:
    return json.dumps({**asdict(RECORD), **changed})


def test_the_layout_before_is_read() -> None:
    """There `ready` and the exit status name the run that they are of."""
    head = f"old\nrecord {old()}"
    found = told(f"{head}\ntoken 1f\nrank 0\n{LIVES}")
    assert (found.ranks[0].record, found.ranks[0].alive, found.ready) == (RECORD, True, "1f")
    assert told(f"{head}\ntoken 2f\nrank 0\n{LIVES}").ready is None
    for code, exit_status in (("1f 137", 137), ("2f 137", None)):
        found = told(f"{head}\nrank 0\npid 4\nstart 5\nof b\nexit {code}")
        assert found.ranks[0].exit == exit_status
    assert told(f"last\nrecord {old()}").last == {0: RECORD}
    assert told(f"last\nrecord {old()}").ranks == {}


def test_what_was_wanted_last_can_be_started_again() -> None:
    second = replace(RECORD, rank=1)
    wanted = "wanted stopped 1f 1765432100 me@desk two words"
    found = told(wanted, run("1f", RECORD, second, word="ended"))
    assert found.wanted == Wanted("stopped", "1f", 1765432100.0, "me@desk two words")
    assert (found.ranks, found.last) == ({}, {0: RECORD, 1: second})
    assert found.folders == ("/h/.mlx-tp/default", "/h/.mlx-tp")


def test_of_two_that_are_one_rank_the_living_one_counts() -> None:
    later = replace(RECORD, run="2f")
    blocks = [run("1f", RECORD), f"rank 0\n{LIVES}", run("2f", later), "rank 0\npid 1"]
    assert told(*blocks).ranks[0].pid == 4130
    assert told(*blocks[2:], *blocks[:2]).ranks[0].pid == 4130


def test_a_damaged_record_hides_no_rank() -> None:
    found = told("run 1f\nrecord {[", f"rank 3\n{LIVES}")
    assert (found.ranks[3].record, found.ranks[3].alive) == (None, True)


def test_a_rank_that_is_about_to_be_started() -> None:
    assert told(run("1f", RECORD)).ranks[0].pid is None
