"""What `tp.watch` costs the control machine and the nodes, per node and look."""

from __future__ import annotations

import resource
import subprocess
import time
from pathlib import Path

from .farm import Farm, farm
from .measure import TIMES, Result, Row
from .server import _stat

SPAN = 2.0  # seconds for one sample


def run() -> Result:
    with farm(2) as nodes:
        nodes.use_stub(nodes.names)
        nodes.inv("tp.start")
        rows = [watched(nodes, "tp.watch"), _on_a_node(nodes)]
        nodes.inv("tp.stop")
    return Result(rows)


def watched(nodes: Farm, task: str, *words: str) -> Row:
    """The CPU of a task that looks once a second: share of a core, for each node."""
    process = nodes.inv.start(task, *words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(2)  # it has started
    samples = []
    for _ in range(TIMES):
        before = _spent(process.pid)
        time.sleep(SPAN)
        samples.append(100 * (_spent(process.pid) - before) / SPAN / len(nodes.names))
    assert process.poll() is None, "it has ended by itself"
    process.terminate()
    process.wait(30)
    what = f"{task}: share of a core per node, control machine"
    return Row(what, "", samples, unit="%", kind="most", goal=2)


def _on_a_node(nodes: Farm) -> Row:
    """The script of a look, run on this machine: sshd's own share is not in it."""
    from tasks.cluster import facts, state

    script = facts.script(
        [state.fact(str(Path(nodes.sshd.node_home("node1")) / ".mlx-tp"))], "mark"
    )
    samples = []
    for _ in range(TIMES):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(["/bin/sh", "-s"], input=script, text=True, capture_output=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        samples.append(100 * spent)
    what = "tp.watch: share of a core per node, on the node (without sshd's)"
    return Row(what, "", samples, unit="%", kind="most", goal=2)


def _spent(pid: int) -> float:
    return sum(int(field) for field in _stat(pid)[11:13]) / 100
