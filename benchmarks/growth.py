"""How time, memory, threads and open files grow with the nodes, and what dead nodes cost."""

from __future__ import annotations

import re
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .farm import Farm, farm
from .measure import Result, Row

SIZES = (2, 8, 32, 128, 256)
SERVED = 32  # nodes at most on which ranks are started: each is a Python of its own here
DEAD = 5
TASKS = ("tp.preflight", "tp.status")  # those that are run at every size
BUDGET = 150  # seconds for all sizes


@dataclass
class Use:
    """What a command took: seconds, and the most MB, threads and open files that it had."""

    seconds: float
    memory: float = 0.0
    threads: float = 0
    files: float = 0


def run() -> Result:
    rows, notes = [], ["One sample for each size: a plot of growth, not a comparison."]
    start = time.monotonic()
    with farm(max(SIZES)) as nodes:
        for count in SIZES:
            if time.monotonic() - start > BUDGET:
                notes.append(f"{count} nodes and more were left out: no time was left for them.")
                break
            rows += _at(nodes, count)
        rows.append(_dead(nodes, count))
    return Result([*rows, *_per_node(rows)], notes)


def _per_node(rows: list[Row]) -> list[Row]:
    """Linear or better: for the most nodes each takes no more than for some."""
    made = []
    for what in (*TASKS, *(f"{TASKS[0]}: {kind}" for kind in ("threads", "open files"))):
        by_size = {row.x: row.ours[0] / row.x for row in rows if row.what == what and row.x}
        most = max(by_size)
        names = f"{what}, per node of {most}", f"per node of {SERVED}"
        unit = "s" if what in TASKS else ""
        if most > SERVED:
            pair = [by_size[most]], [by_size[SERVED]]
            made.append(Row(*names, *pair, unit=unit, kind="ratio", goal=1.25))
    return made


def _at(nodes: Farm, count: int) -> list[Row]:
    nodes.use_stub(nodes.names[:count])
    tasks = list(TASKS)
    if count <= SERVED:
        tasks = ["tp.preflight", "tp.start", "tp.status", "tp.stop"]
    rows = []
    for task in tasks:
        # A stub does not end when its peers do, as a rank of MLX does.
        use = measured(nodes, task, *(["--order", "all"] if task == "tp.stop" else []))
        rows.append(Row(task, "", [use.seconds], x=count))
        rows.append(Row(f"{task}: memory", "", [use.memory], unit="MB", x=count))
        rows.append(Row(f"{task}: threads", "", [use.threads], unit="", x=count))
        rows.append(Row(f"{task}: open files", "", [use.files], unit="", x=count))
    return rows


def measured(nodes: Farm, *words: str, code: int = 0) -> Use:
    start = time.monotonic()
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = nodes.inv.start(*words, **quiet)
    use = Use(0)
    watcher = threading.Thread(target=_watch, args=(process, use), daemon=True)
    watcher.start()
    found = process.wait(120)
    use.seconds = time.monotonic() - start
    watcher.join(5)
    assert found == code, f"{words}: exit {found}"
    return use


def _watch(process: subprocess.Popen[str], use: Use) -> None:
    while process.poll() is None:
        try:
            status = Path(f"/proc/{process.pid}/status").read_text()
            files = len(list(Path(f"/proc/{process.pid}/fd").iterdir()))
        except OSError:
            return
        found = dict(re.findall(r"^(VmHWM|Threads):\s+(\d+)", status, re.MULTILINE))
        use.memory = max(use.memory, int(found.get("VmHWM", 0)) / 1000)
        use.threads = max(use.threads, int(found.get("Threads", 0)))
        use.files = max(use.files, files)
        time.sleep(0.02)


def _dead(nodes: Farm, count: int) -> Row:
    """All nodes but five, whose packets are dropped: as much longer as one of them takes."""
    nodes.use_stub(nodes.names[:count])
    alive = measured(nodes, "tp.preflight").seconds
    config = nodes.sshd.folder / "config"
    plain = config.read_text()
    with _full() as port:
        text = plain
        for name in nodes.names[:DEAD]:
            text = text.replace(f"Port {nodes.sshd.ports[name]}\n", f"Port {port}\n")
        config.write_text(text)
        spent = measured(nodes, "tp.preflight", code=5).seconds
    config.write_text(plain)
    what = f"tp.preflight, {count} nodes, {DEAD} of them dead (they drop packets)"
    return Row(what, "all alive", [spent], [alive], kind="more", goal=10)


@contextmanager
def _full() -> Iterator[int]:
    """A port whose queue is full: what connects there gets no answer."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        clients = [socket.socket() for _ in range(8)]
        for client in clients:
            client.setblocking(False)
            client.connect_ex(server.getsockname())
        time.sleep(0.2)
        yield server.getsockname()[1]
        for client in clients:
            client.close()
