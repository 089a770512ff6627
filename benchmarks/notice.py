"""How long it takes until readiness, and a dead rank, are told: against the rank's own clock."""

from __future__ import annotations

from .farm import Farm, farm
from .measure import TIMES, Result, Row


def run() -> Result:
    with farm(2) as nodes:
        nodes.use_stub(nodes.names)
        ready = [_ready(nodes, 0.8 + 0.07 * turn) for turn in range(TIMES)]
        dead = [_dead(nodes, 0.8 + 0.07 * turn) for turn in range(TIMES)]
    rows = [
        Row("notice that the server is ready", "", ready, kind="most", goal=0.3),
        Row("notice that a rank is dead", "", dead, kind="most", goal=0.3),
    ]
    return Result(rows)


def _ready(nodes: Farm, load: float) -> float:
    (nodes.home / "load.0").write_text(str(load))
    told, _ = nodes.told("ready after")
    nodes.inv("tp.stop")
    return told - float((nodes.home / "ready.0").read_text())


def _dead(nodes: Farm, after: float) -> float:
    (nodes.home / "load.0").write_text("60")
    (nodes.home / "die.1").write_text(str(after))
    told, _ = nodes.told("rank 1 on node2: dead")
    (nodes.home / "die.1").unlink()
    return told - float((nodes.home / "died.1").read_text())
