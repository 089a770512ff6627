"""Round trips and connections per node, counted at sshd; polls are told apart."""

from __future__ import annotations

from .farm import farm
from .measure import Result, Row

GOALS = {"tp.preflight": 1, "tp.start": 4, "tp.stop": 3}


def run() -> Result:
    from test_trips import trips

    rows = []
    with farm(2) as nodes:
        nodes.use_stub(nodes.names)
        for task, goal in GOALS.items():
            found = trips(nodes.inv, nodes.sshd, task)
            most = [float(max(found.rest.values()))]
            what = f"{task}: round trips per node, polls apart"
            rows.append(Row(what, "", most, unit="", kind="most", goal=goal))
            most = [float(max(found.connections.values()))]
            what = f"{task}: connections per node"
            rows.append(Row(what, "", most, unit="", kind="most", goal=1))
    return Result(
        rows,
        [
            "The most of any node: rank 0's, since it has the lock too.",
            "Polls are looks at ranks while they load, and the wait for ranks that were told to"
            " end (which polls on the node: one round trip).",
        ],
    )
