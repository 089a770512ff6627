"""`tp.logs --lines 5` of logs of 1 GB: how long it takes, and what it has in memory.

Logs are sparse: just their ends are on the disk. Each run is of another start, so that all of its
rank's 1 GB is new, and what is left out is said. At last a rank prints more than its log may take.
"""

from __future__ import annotations

import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tasks.cluster.ssh.scripts import FOLDER

from .farm import Farm, farm
from .measure import TIMES, Result, Row

SIZE = 10**9
RANKS = 2
LIMIT = 256  # MB, as tp.log_limit has it
PRINTS = """
import os, time
os.write(1, b"# a header\\n")
begun = time.monotonic()
for number in range(4000):
    os.write(1, b"x" * 99_999 + b"\\n")
    time.sleep(max(begun + number / 100 - time.monotonic(), 0))
"""


def run() -> Result:
    with farm(RANKS) as nodes:
        nodes.have_run()
        new, known, memory = [], [], []
        for turn in range(TIMES):
            for rank in range(RANKS):
                _fill(nodes.home / "logs" / f"tp_server.rank{rank}.log", turn, f"line %d of {rank}")
            new.append(_lines(nodes))
            known.append(_lines(nodes))
            memory.append(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1000)
        combined = nodes.home / "logs" / "tp_server.log"
        _fill(combined, TIMES, "rank 0 | line %d")
        own = [_lines(nodes) for _ in range(TIMES)]
    return Result(
        [
            Row("tp.logs --lines 5, 1 GB of each rank is new", "", new, kind="most", goal=1.0),
            Row("and once that has been collected", "", known, kind="most", goal=1.0),
            Row("and of a combined log of 1 GB", "", own, kind="most", goal=1.0),
            Row("memory", "", memory[-1:], unit="MB", kind="most", goal=100),
            Row(
                f"log_limit {LIMIT}: the most on the disk, while a rank prints 400 MB at 10 MB/s",
                "", [_capped()], unit="MB", kind="most", goal=LIMIT,
            ),
        ]
    )  # fmt: skip


def _capped() -> float:
    """The most that a log and its older part have together."""
    peak = 0
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        with log.open("ab") as file:
            rank = subprocess.Popen([sys.executable, "-c", PRINTS], stdout=file)
        words = [str(FOLDER / "launch" / "cap.py"), str(log), str(LIMIT * 1_000_000)]
        words += [f"{log}.exit", str(rank.pid)]
        with subprocess.Popen([sys.executable, "-I", *words]):
            while rank.poll() is None:
                peak = max(peak, sum(path.stat().st_size for path in log.parent.iterdir()))
                time.sleep(0.05)
    assert rank.returncode == 0
    return peak / 1_000_000


def _fill(path: Path, turn: int, line: str) -> None:
    path.unlink(missing_ok=True)
    path.with_name(f"{path.name}.older").unlink(missing_ok=True)
    tag = "rank 0 | " if path.name == "tp_server.log" else ""
    path.write_text(f"{tag}# mlx-tp run={turn} rank={re.sub(r'[^01]', '', path.stem[-1]) or 0} x\n")
    with path.open("ab") as file:
        os.truncate(file.fileno(), SIZE)
        file.write(b"\n" + b"".join(line.encode() % number + b"\n" for number in range(1000)))


def _lines(nodes: Farm) -> float:
    begun = time.monotonic()
    process = nodes.inv.start("tp.logs", "--lines", "5", stderr=subprocess.DEVNULL)
    out, _ = process.communicate(timeout=120)
    spent = time.monotonic() - begun
    assert process.returncode == 0
    assert len(out.splitlines()) == 5, out
    return spent
