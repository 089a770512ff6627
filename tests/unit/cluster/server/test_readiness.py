"""A server as its nodes and its HTTP side tell it -> what is made of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tasks.cluster.facts import NodeFacts
from tasks.cluster.facts.server.marks import Importing, Joined, Loading, Marks, Meeting
from tasks.cluster.facts.server.state import KEY, RankState, Record, State, Wanted
from tasks.cluster.facts.snapshot import Snapshot
from tasks.cluster.server import readiness
from tasks.cluster.server.readiness import Health, ProbeResult, judge, loaded

RECORD = Record(
    run="r1", rank=0, size=2, host="a", backend="ring", engine="mlx-lm", ready="/health",
    model="", command=["python"], env=[], bind="127.0.0.1", port=8000, ports=[1], log=None,
    started=0.0, by="me", entry=True,
)  # fmt: skip
GIB = 1024**3
IMPORTING = Marks(importing=Importing(1.0, 7, "SIGURG"))
MEETING = replace(IMPORTING, meeting=Meeting(2.0, 60.0))
JOINED = replace(MEETING, joined=Joined(3.0, 0, 2, "ring", 0.5, {}))
FINE = ProbeResult(token=1.0)


def loading(read: int, of: int) -> Marks:
    return replace(JOINED, loading=Loading(4.0, read, of))


def rank(number: int, marks: Marks = JOINED, exit: int | None = None, **more: Any) -> RankState:
    made = RankState(number, RECORD, 100 + number, "1", "b", exit is None, exit, marks)
    return replace(made, **more)


def nodes(*ranks: RankState, ready: str | None = None, **more: Any) -> Snapshot:
    """A node per rank, a, b ...; rank 0's knows which run has given a token."""
    found = {}
    for index, each in enumerate(ranks or (None,)):
        held = {each.rank: each} if each else {}
        state = State(0.0, held, None, None if index else ready, **more)
        name = "abcd"[index]
        found[name] = NodeFacts(name, {KEY: state})
    return Snapshot(found, {})


def served(*ranks: RankState) -> Snapshot:
    return nodes(*ranks, ready="r1")


BOTH = (rank(0), rank(1))
BARE = replace(RECORD, entry=False)
LOST = {"b": ("SSH failed (Connection refused)", "ssh -v b")}
STOPPED = Wanted("stopped", "r1", 5.0, "ann@desk")


@pytest.mark.parametrize(
    ("read", "state", "why"),
    [
        # Who has not come as far as the others is named.
        (nodes(rank(0, MEETING), rank(1, IMPORTING)), "starting", "b still imports"),
        (nodes(rank(0, IMPORTING), rank(1, Marks())), "starting", "a, b still import"),
        (nodes(rank(0, MEETING), rank(1, pid=None, alive=False)), "starting", "b still imports"),
        (nodes(rank(0, MEETING), rank(1, MEETING)), "joining", "all 2 ranks meet"),
        # In a ring one returns before the other.
        (nodes(rank(0, JOINED), rank(1, MEETING)), "joining", "all 2 ranks meet"),
        (nodes(rank(0)), "starting", "only 1 of 2 ranks are recorded"),
        # A page alone says nothing: all have met, and there was no token.
        (nodes(*BOTH), "loading", ""),
        (
            nodes(rank(0, loading(GIB, 4 * GIB)), rank(1, loading(3 * GIB, 4 * GIB))),
            "loading",
            "50 %, 2.0 GiB of 4.0 GiB per rank",
        ),
        # One that has told nothing yet reads as much as the other.
        (
            nodes(rank(0, loading(2 * GIB, 4 * GIB)), rank(1)),
            "loading",
            "25 %, 1.0 GiB of 4.0 GiB per rank",
        ),
        # An engine without marks, and a record of a version before them.
        (
            nodes(rank(0, Marks(), record=BARE), rank(1, Marks(), record=BARE)),
            "loading",
            "group size not checked",
        ),
        (served(*BOTH), "ready", ""),
        (served(rank(0, Marks(), record=BARE), rank(1, Marks(), record=BARE)), "ready", ""),
        # A token of another run is none of this one.
        (nodes(*BOTH, ready="r0"), "loading", ""),
        (nodes(rank(0), rank(1, exit=137)), "dead", "died: rank 1 on b (killed by SIGKILL)"),
        (
            nodes(rank(0, exit=80), rank(1)),
            "dead",
            "died: rank 0 on a (MLX made another group than was asked for)",
        ),
        (served(rank(0), rank(1, exit=137)), "degraded", "died: rank 1 on b (killed by SIGKILL)"),
        (served(rank(0, exit=1), rank(1)), "degraded", "died: rank 0 on a (exit status 1)"),
        (
            served(rank(0, exit=0), rank(1, exit=1)),
            "dead",
            "died: rank 0 on a (exit status 0), rank 1 on b (exit status 1)",
        ),
        (served(rank(0)), "degraded", "only 1 of 2 ranks are recorded"),
        (nodes(), "stopped", "no server is recorded"),
        (nodes(wanted=STOPPED), "stopped", "by ann@desk"),
        # A rank that nobody has stopped is told, whatever is wanted.
        (nodes(*BOTH, ready="r1", wanted=STOPPED), "ready", ""),
        (Snapshot(served(*BOTH).nodes, LOST), "unknown", "b (SSH failed (Connection refused))"),
        (Snapshot({"a": NodeFacts("a", {})}, {}), "unknown", "a: its state can't be read"),
    ],
)
def test_records_marks_and_processes(read: Snapshot, state: str, why: str) -> None:
    assert judge(read, 2) == Health(state, why)


@pytest.mark.parametrize(
    ("probe", "state", "why"),
    [
        (FINE, "ready", ""),
        (ProbeResult(60.0), "ready", ""),
        (ProbeResult(61.0), "ready", "no token for 61 s"),
        (ProbeResult(600.0), "ready", "no token for 600 s"),
        (ProbeResult(601.0), "degraded", "all ranks live, but no token for 601 s"),
        (ProbeResult(1.0, "404"), "degraded", "all ranks live, but there is no token: 404"),
        (ProbeResult(900.0, unasked="HTTP 401"), "unasked", "running, can't be asked: HTTP 401"),
    ],
)  # fmt: skip
def test_what_asking_gave(probe: ProbeResult, state: str, why: str) -> None:
    assert judge(served(*BOTH), 2, probe, patience=600) == Health(state, why)


@pytest.mark.parametrize("probe", [ProbeResult(601.0), ProbeResult(1.0, "HTTP 503")])
def test_a_slow_load_is_no_failure(probe: ProbeResult) -> None:
    """What refuses, or gives nothing, before a first token still loads."""
    assert judge(nodes(*BOTH), 2, probe, patience=600).state == readiness.LOADING


def test_a_dead_rank_is_told_however_it_was_asked() -> None:
    read = served(rank(0), rank(1, exit=137))
    for probe in (FINE, ProbeResult(1.0, unasked="HTTP 401")):
        assert judge(read, 2, probe).state == readiness.DEGRADED


def test_one_rank() -> None:
    alone = replace(RECORD, size=1)
    assert judge(nodes(rank(0, MEETING, record=alone)), 1) == Health("joining")
    bare = replace(alone, entry=False)
    assert judge(nodes(rank(0, Marks(), record=bare)), 1) == Health("loading")


def test_bytes_of_ranks_that_have_told_none() -> None:
    ranks = [("a", rank(0, loading(10, 40))), ("b", rank(1)), ("c", rank(2)), ("d", rank(3))]
    assert loaded(ranks) == (10, 160)
    assert loaded(ranks[1:]) is None
