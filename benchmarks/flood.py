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
    "blanks": "while :; do printf '%65536s'; done",
    "no text": "exec cat /dev/urandom",
    "lines": "exec yes",
}
TASKS = ("tp.status", "tp.preflight", "tp.logs", "tp.memory")


def run() -> Result:
    rows = []
    with farm(NODES) as nodes:
        nodes.use_stub(nodes.names)
        plain = [measured(nodes, "tp.memory")]
        for number, (name, shell) in enumerate(SAYS.items()):
            _let_say(nodes, shell)
            tasks = TASKS if number == 0 else TASKS[:1]
            rows += [_row(f"{task}, {name}", measured(nodes, task, code=5)) for task in tasks]
    rows.append(Row("tp.memory, as nodes should be", "", [plain[0].memory], unit="MB"))
    return Result(rows, [f"On {NODES} nodes; one sample each."])


def _let_say(nodes: Farm, shell: str) -> None:
    for name in nodes.names:
        nodes.sshd.stop(name)
        nodes.sshd.start(name, ForceCommand=shell)


def _row(what: str, use: Use) -> Row:
    return Row(what, "", [use.memory], unit="MB", kind="most", goal=100)
