"""Memory of a command on 64 nodes that say more than they are asked, without an end.

Each node's login shell prints for ever, whatever it is to run: a line of blanks, text that is none,
or many short lines.
"""

from __future__ import annotations

from .farm import Farm, farm
from .growth import Use, measured
from .measure import Result, Row

NODES = 64
SAYS = {
    "lines": "exec yes",
    "blanks": "while :; do printf '%65536s'; done",
    "no text": "exec cat /dev/urandom",
}
TASKS = {"tp.status": 5, "tp.preflight": 5, "tp.logs": 4}  # and how they end


def run() -> Result:
    rows = []
    with farm(NODES) as nodes:
        nodes.use_stub(nodes.names)
        _let_say(nodes)
        for name, text in SAYS.items():
            (nodes.home / "say").write_text(text)
            for task, code in list(TASKS.items())[: None if name == "lines" else 1]:
                rows.append(_row(f"{task}, {name}", measured(nodes, task, code=code)))
    return Result(rows, [f"On {NODES} nodes; one sample each."])


def _let_say(nodes: Farm) -> None:
    for name in nodes.names:
        nodes.sshd.stop(name)
        nodes.sshd.start(name, ForceCommand=f"exec sh {nodes.home}/say")


def _row(what: str, use: Use) -> Row:
    return Row(what, "", [use.memory], unit="MB", kind="most", goal=100)
