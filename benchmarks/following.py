"""`tp.logs --follow` of four ranks against `tail -f` over ssh: lines per second, none lost or torn.

The lines are there at once; the time is from then until the last one is shown.
"""

from __future__ import annotations

import re
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

from .farm import Farm, farm, until
from .measure import TIMES, Result, Row

RANKS = 4
LINES = 25_000  # of each rank
WIDE = 1000  # bytes of a line where memory is measured: of short ones 1 GB would take minutes
SIZES = (64, 1000)  # MB in all, to see whether memory grows with what has been shown


def run() -> Result:
    with farm(RANKS) as nodes:
        nodes.have_run()
        ours, theirs = [], []
        for turn in range(TIMES):
            _clear(nodes, turn)
            ours.append(_measure(nodes, _follow(nodes), LINES)[0])
            _clear(nodes, turn)
            theirs.append(_measure(nodes, _tail(nodes), LINES)[0])
        small, large = (_memory(nodes, TIMES + turn, size) for turn, size in enumerate(SIZES))
    rows = [
        Row("tp.logs --follow, 4 ranks", "`tail -f` over ssh", ours, theirs, unit="lines/s",
            kind="least", goal=50_000),
        Row(f"memory of tp.logs after {SIZES[1]} MB", f"after {SIZES[0]} MB", [large], [small],
            unit="MB", kind="ratio", goal=1.25),
    ]  # fmt: skip
    note = "Every line was there once, whole, and in its rank's order: it is checked in each run."
    return Result(rows, [note, "Memory is the most that it ever had, of one sample each."])


def _memory(nodes: Farm, turn: int, size: int) -> float:
    _clear(nodes, turn)
    return _measure(nodes, _follow(nodes), size * 10**6 // RANKS // WIDE, WIDE)[1]


def _path(nodes: Farm, rank: int) -> Path:
    return nodes.home / "logs" / f"tp_server.rank{rank}.log"


def _lines(rank: int, numbers: range, width: int) -> str:
    text = f" of rank {rank}: a line as long as those of a server's log are, mostly"
    text = text.ljust(width - 9, ".") + "\n"
    return "".join(f"{number:08d}{text}" for number in numbers)


def _clear(nodes: Farm, turn: int) -> None:
    for path in (nodes.home / "logs").iterdir():
        path.unlink()
    for rank in range(RANKS):
        _path(nodes, rank).write_text(
            f"# mlx-tp run={turn} rank={rank} {time.time()}\nbegin of rank {rank}\n"
        )


def _follow(nodes: Farm) -> list[subprocess.Popen[str]]:
    return [nodes.inv.start("tp.logs", "--follow", stderr=subprocess.DEVNULL)]


def _tail(nodes: Farm) -> list[subprocess.Popen[str]]:
    """One for each node, each into a pipe of its own: in one pipe they would tear lines."""
    pipes: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "text": True}
    return [
        subprocess.Popen([*nodes.ssh, name, f"tail -n +1 -f {_path(nodes, rank)}"], **pipes)
        for rank, name in enumerate(nodes.names)
    ]


def _measure(
    nodes: Farm, processes: list[subprocess.Popen[str]], lines: int, width: int = 0
) -> tuple[float, float]:
    """Lines per second, and the first reader's peak memory in MB."""
    shown: list[list[int]] = [[] for _ in range(RANKS)]
    begun: set[int] = set()
    for process in processes:
        threading.Thread(target=_read, args=(process, shown, begun), daemon=True).start()
    try:
        until(lambda: len(begun) == RANKS)
        start = 0.0
        for begin in range(0, lines, LINES):
            part = range(begin, min(begin + LINES, lines))
            texts = [_lines(rank, part, width) for rank in range(RANKS)]
            start = start or time.monotonic()
            for rank, text in enumerate(texts):
                with _path(nodes, rank).open("a") as log:
                    log.write(text)
        until(lambda: all(len(each) >= lines for each in shown), 120)
        rate = lines * RANKS / (time.monotonic() - start)
        peak = _peak(processes[0].pid)
    finally:
        for process in processes:
            process.terminate()
            process.wait(30)
    assert all(each == list(range(lines)) for each in shown), "lines are lost, torn or disordered"
    return rate, peak


def _read(process: subprocess.Popen[str], shown: list[list[int]], begun: set[int]) -> None:
    pattern = re.compile(r"(?:rank \d \| )?(\d{8}) of rank (\d): .*\n")
    assert process.stdout is not None
    for line in process.stdout:
        found = pattern.fullmatch(line)
        if found:
            shown[int(found.group(2))].append(int(found.group(1)))
        elif "begin of rank" in line:
            begun.add(int(line.split()[-1]))


def _peak(pid: int) -> float:
    found = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    return int(found.group(1)) / 1000 if found else 0.0
