"""Starting and stopping two ranks of a real server, against the same done by hand with a shell.

By hand: the same two ranks over `ssh`, their page polled with curl every 50 ms, one completion;
SIGTERM to rank 0, and a look every 50 ms whether both are gone. Both have no checks to make.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from .farm import Farm, farm, until
from .measure import TIMES, Result, Row, in_turn

IDLE = 2.0  # seconds in which the CPU of what is idle is measured


def run() -> Result:
    with farm(2, real=True) as nodes:
        ours, hand = Ours(nodes), ByHand(nodes)
        launcher = MlxLaunch(nodes)
        names = {"start": ours.start, "stop": ours.stop, "hand": hand.start, "gone": hand.stop}
        names |= {"mlx": launcher.start, "ended": launcher.stop}
        samples = in_turn(names, TIMES)
    rows = [
        Row("tp.start until the first token", "two ranks started by hand", samples["start"],
            samples["hand"], kind="more", goal=0.5),
        Row("tp.stop", "SIGTERM by hand until both are gone", samples["stop"], samples["gone"],
            kind="more", goal=0.5),
        Row("tp.start: launch until its page answers", "mlx.launch until its page answers",
            ours.ready, samples["mlx"], kind="ratio", goal=1),
        Row("CPU while serving, of what is no rank", "mlx.launch", ours.idle, launcher.idle,
            unit="cores", kind="most", goal=0.01),
        Row("memory while serving, of what is no rank", "mlx.launch", ours.memory,
            launcher.memory, unit="MB"),
    ]  # fmt: skip
    return Result(rows, [
        "What is no rank: with us a shell on each node, which waits for its rank to end; nothing"
        " runs on the control machine.",
        "On one machine some starts take a second more (see the samples): the last rank of MLX's"
        " ring connects to rank 0, which is there already and connects back, before that rank"
        " listens, and waits a second until its second try (mlx/distributed/ring/ring.cpp,"
        " make_connections).",
    ])  # fmt: skip


class Ours:
    def __init__(self, nodes: Farm) -> None:
        self.nodes = nodes
        self.ready: list[float] = []
        self.idle: list[float] = []
        self.memory: list[float] = []

    def start(self) -> float:
        start = time.time()
        told, rows = self.nodes.told("healthy: a token")
        said = next(row for row in rows if row.startswith("ready after"))
        self.ready.append(float(said.split()[2]))
        helpers = [pid for pid in _all() if _is_waiting_shell(pid)]
        self.idle.append(_cores(helpers))
        self.memory.append(_megabytes(helpers))
        return told - start

    def stop(self) -> None:
        self.nodes.inv("tp.stop")


class ByHand:
    def __init__(self, nodes: Farm) -> None:
        self.nodes = nodes
        self.port = nodes.inv.port
        self.ring = nodes.home / "ring.json"
        ports = nodes.inv.ring, nodes.inv.ring + 1
        self.ring.write_text(json.dumps([[f"127.0.0.1:{port}"] for port in ports]))

    def start(self) -> float:
        url = f"http://127.0.0.1:{self.port}"
        body = {"model": "default_model", "max_tokens": 1}
        body["messages"] = [{"role": "user", "content": "Hi"}]
        line = " ".join(self._rank_words())
        script = "".join(
            f"{' '.join(self.nodes.ssh)} {name} 'MLX_RANK={rank} MLX_HOSTFILE={self.ring}"
            f" nohup {line} >{self.nodes.home}/hand.{rank} 2>&1 </dev/null & echo $!'"
            f" >{self.nodes.home}/pid.{rank}\n"
            for rank, name in enumerate(self.nodes.names)
        )
        script += f"until curl -sf {url}/health >/dev/null; do sleep 0.05; done\n"
        script += f"curl -sf {url}/v1/chat/completions -H 'Content-Type: application/json'"
        script += f" -d '{json.dumps(body)}' >/dev/null"
        start = time.monotonic()
        subprocess.run(["sh", "-c", script], check=True, timeout=90)
        return time.monotonic() - start

    def stop(self) -> float:
        pids = [pid for pid in _all() if self._is_rank(pid)]
        first = (self.nodes.home / "pid.0").read_text().strip()
        start = time.monotonic()
        line = [*self.nodes.ssh, self.nodes.names[0], f"kill -TERM {first}"]
        subprocess.run(line, check=True)
        while any(self._is_rank(pid) for pid in pids):
            time.sleep(0.05)
        return time.monotonic() - start

    def _rank_words(self) -> list[str]:
        words = [sys.executable, "-m", "mlx_lm", "server", "--model", str(self.nodes.model)]
        return [*words, "--port", str(self.port)]

    def _is_rank(self, pid: int) -> bool:
        words = _words(pid)
        return words[1:4] == self._rank_words()[1:4] and str(self.nodes.model) in words


class MlxLaunch(ByHand):
    """mlx.launch knows hosts by name for ssh, so here it starts both ranks on this machine."""

    def __init__(self, nodes: Farm) -> None:
        super().__init__(nodes)
        self.hostfile = nodes.home / "launch.json"
        host = {"ssh": "127.0.0.1", "ips": ["127.0.0.1"]}
        self.hostfile.write_text(json.dumps([host] * 2))
        self.process: subprocess.Popen[Any] | None = None
        self.idle: list[float] = []
        self.memory: list[float] = []

    def start(self) -> float:
        import requests

        tool = str(Path(sys.executable).parent / "mlx.launch")
        words = [tool, "--backend", "ring", "--hostfile", str(self.hostfile)]
        words += ["--starting-port", str(self.nodes.inv.ring), "--", *self._rank_words()]
        quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        env = {**self.nodes.inv.environment(), "HF_HUB_OFFLINE": "1"}
        start = time.monotonic()
        self.process = subprocess.Popen(words, env=env, start_new_session=True, **quiet)
        url = f"http://127.0.0.1:{self.port}/health"

        def is_up() -> bool:
            try:
                return requests.get(url, timeout=1).ok
            except requests.RequestException:
                return False

        until(is_up)
        spent = time.monotonic() - start
        assert self.process
        helpers = [pid for pid in _tree(self.process.pid) if not self._is_rank(pid)]
        self.idle.append(_cores(helpers))
        self.memory.append(_megabytes(helpers))
        return spent

    def stop(self) -> float:
        assert self.process is not None
        ranks = [pid for pid in _tree(self.process.pid) if self._is_rank(pid)]
        start = time.monotonic()
        self.process.terminate()
        for pid in ranks:
            _kill(pid)
        self.process.wait(30)
        until(lambda: not any(self._is_rank(pid) for pid in ranks))
        return time.monotonic() - start


def _kill(pid: int) -> None:
    try:
        os.kill(pid, 15)
    except ProcessLookupError:
        return


def _all() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat behind the program's name; [] if it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    except OSError:
        return []


def _words(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    except OSError:
        return []


def _tree(root: int) -> list[int]:
    found, new = [root], [root]
    parents = {pid: int(_stat(pid)[1]) for pid in _all() if _stat(pid)}
    while new:
        new = [pid for pid, parent in parents.items() if parent in new]
        found += new
    return found


def _is_waiting_shell(pid: int) -> bool:
    """A shell of ours whose child is a rank of this benchmark."""
    children = [other for other in _all() if _stat(other)[1:2] == [str(pid)]]
    is_shell = _words(pid)[:2] == ["/bin/sh", "-s"]
    return is_shell and any("mlx_lm" in _words(child) for child in children)


def _cores(pids: list[int]) -> float:
    def spent() -> float:
        ticks = [int(field) for pid in pids for field in _stat(pid)[11:13]]
        return sum(ticks) / os.sysconf("SC_CLK_TCK")

    before = spent()
    time.sleep(IDLE)
    return (spent() - before) / IDLE


def _megabytes(pids: list[int]) -> float:
    pages = sum(int(_stat(pid)[21]) for pid in pids if _stat(pid))
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6
