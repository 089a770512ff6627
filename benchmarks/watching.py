"""What `tp.watch` and `tp.top` cost the control machine and the nodes, per node and look."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from typing import Any

from tasks.cluster.config.settings import DEFAULT

from .farm import Farm, farm
from .measure import TIMES, Result, Row, cpu, process
from .server import _stat

SPAN = 2.0  # seconds for one sample


def run() -> Result:
    with farm(2) as nodes:
        nodes.use_stub(nodes.names)
        nodes.inv("tp.start")
        rows = [watched(nodes, "tp.watch"), _on_a_node(nodes)]
        rows += [watched(nodes, "tp.top", "--json"), _loop_on_a_node(nodes)]
        nodes.inv("tp.stop")
    return Result(rows)


def watched(nodes: Farm, task: str, *words: str) -> Row:
    """The CPU of a task that looks once a second: share of a core, for each node."""
    running = nodes.inv.start(task, *words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(2)  # it has started
    samples = []
    for _ in range(TIMES):
        before = _spent(running.pid)
        time.sleep(SPAN)
        samples.append(100 * (_spent(running.pid) - before) / SPAN / len(nodes.names))
    assert running.poll() is None, "it has ended by itself"
    running.terminate()
    running.wait(30)
    what = f"{task}: share of a core per node, control machine"
    return Row(what, "", samples, unit="%", kind="most", goal=2)


def _on_a_node(nodes: Farm) -> Row:
    """The script of a look, run on this machine: sshd's own share is not in it."""
    from tasks.cluster import facts
    from tasks.cluster.facts.server import state

    script = facts.script([state.fact(_state(nodes), DEFAULT)], "mark")
    look = cpu(process("/bin/sh", "-c", script))
    samples = [100 * (look() or 0) for _ in range(TIMES)]
    return _share("tp.watch", samples)


def _loop_on_a_node(nodes: Farm) -> Row:
    """The loop that stays on a node, the same way."""
    from tasks.cluster.facts.machine import vitals

    ranks = nodes.inv("tp.status", "--json").json()["ranks"]
    pids = [ranks[0]["pid"]]
    wanted = vitals.MonitorOptions(_state(nodes), DEFAULT, ["lo"], pids, nodes.inv.port)
    script = vitals.loop(wanted, 1, "mark")

    def work() -> None:
        quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        with subprocess.Popen(["/bin/sh", "-c", script], **quiet) as loop:
            time.sleep(SPAN)
            loop.terminate()

    look = cpu(work)
    return _share("tp.top", [100 * (look() or 0) / SPAN for _ in range(TIMES)])


def _state(nodes: Farm) -> str:
    return str(Path(nodes.sshd.node_home(nodes.names[0])) / ".mlx-tp")


def _share(task: str, samples: list[float]) -> Row:
    what = f"{task}: share of a core per node, on the node (without sshd's)"
    return Row(what, "", samples, unit="%", kind="most", goal=2)


def _spent(pid: int) -> float:
    return sum(int(field) for field in _stat(pid)[11:13]) / 100
