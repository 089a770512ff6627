"""Facts -> what rdma.undo refuses, gives back and leaves."""

from __future__ import annotations

from typing import Any

import pytest

from tasks.cluster.facts import NodeFacts
from tasks.cluster.facts.links.rdma import MATRIX, MATRIX_KEY
from tasks.cluster.facts.links.thunderbolt import HARDWARE_PORTS
from tasks.cluster.facts.machine import processes
from tasks.cluster.rdma import launchd, undo

from .test_links import GOOD_MATRIX, TWO, but, facts, interface, wired

WIRING = wired(TWO)
NONE = launchd.Daemon(None, False)
BRIDGE = interface("bridge0", members=("en3",))


def node(
    *interfaces: Any, matrix: Any = None, daemon: launchd.Daemon = NONE, files: str = ""
) -> NodeFacts:
    found = but(facts(*interfaces, matrix=matrix), launchd.KEY, daemon)
    found = but(found, processes.KEY, {})
    return but(found, undo.KEY, undo.parse(f"came in by 10.0.0.7\n{files}end\n", 0))


def commands(values: NodeFacts) -> list[str]:
    found = undo.changes(WIRING, "mac1", values, "/Users/me")
    return [" ".join(change.command) or change.what for change in found]


def test_the_daemon_goes_first_and_the_user_s_files_last() -> None:
    every = node(
        interface("en5", "10.254.0.5/30"),
        BRIDGE,
        matrix=GOOD_MATRIX,
        daemon=launchd.Daemon("text", True),
        files="draft\nlog\n",
    )
    assert commands(every) == [
        f"/bin/launchctl bootout system/{launchd.LABEL}",
        f"/bin/rm -f {launchd.PATH}",
        f"/bin/rm -f {launchd.LOG}",
        "/sbin/ifconfig en5 inet 10.254.0.5 -alias",
        "/sbin/ifconfig bridge0 addm en5",
        f"remove {MATRIX}",
        f"remove /Users/me/{launchd.DRAFT}",
    ]
    assert undo.refusals(WIRING, {"mac1": every}) == []
    assert undo.kept(WIRING, "mac1", every) == []


def test_a_daemon_s_log_may_be_on_its_way() -> None:
    values = node(interface("en5"), daemon=launchd.Daemon("text", False))
    assert commands(values) == [f"/bin/rm -f {launchd.PATH}", f"/bin/rm -f {launchd.LOG}"]


AS_IT_WAS = node(interface("en5"), interface("bridge0", members=("en3", "en5")))


@pytest.mark.parametrize(
    ("values", "left"),
    [
        (AS_IT_WAS, []),
        (but(AS_IT_WAS, MATRIX_KEY, [[None]]), [f"{MATRIX} is of other links"]),
        (node(interface("en5")), ["there is no bridge0 to put ports into"]),
        (node(interface("en3"), BRIDGE), ["there is no en5"]),
        (
            node(interface("en5", "10.9.9.9/24"), interface("bridge0", members=("en5",))),
            ["en5 has 10.9.9.9, an address of none of these links"],
        ),
    ],
    ids=["as it was", "matrix", "no bridge", "no interface", "address"],
)
def test_what_is_left(values: NodeFacts, left: list[str]) -> None:
    assert commands(values) == []
    assert undo.kept(WIRING, "mac1", values) == left


def rank(**more: Any) -> dict[int, processes.Process]:
    return {7: processes.Process(7, 1, 7, 0, "py", "py", **more)}


REFUSED = [
    (but(AS_IT_WAS, processes.KEY, rank(rank=1)), "rank 1 lives (pid 7)"),
    (
        but(AS_IT_WAS, undo.KEY, undo.OurTraces(False, False, "10.254.0.5")),
        "ssh came in by 10.254.0.5",
    ),
    (
        but(AS_IT_WAS, HARDWARE_PORTS, {"Thunderbolt 1": "en3"}),
        "en5 is no Thunderbolt port",
    ),
]


@pytest.mark.parametrize(("values", "says"), REFUSED, ids=[says for _, says in REFUSED])
def test_refusals(values: NodeFacts, says: str) -> None:
    found = undo.refusals(WIRING, {"mac1": values})
    assert len(found) == 1
    assert found[0].what.startswith(says)


def test_a_process_that_is_no_rank_does_not_count() -> None:
    assert undo.refusals(WIRING, {"mac1": but(AS_IT_WAS, processes.KEY, rank())}) == []


@pytest.mark.parametrize("text", ["", "came in by x\n", "came in by a b\nend\n", "draft\nend\n"])
def test_a_torn_answer_is_unknown(text: str) -> None:
    with pytest.raises(ValueError, match="can't be read"):
        undo.parse(text, 0)
