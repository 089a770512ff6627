"""Measuring in turn, and rows of samples as benchmarks/results.json keeps them."""

from __future__ import annotations

import json
import os
import platform
import re
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results.json"
TIMES = 5  # samples of each: odd, so that the median is one of them

Work = Callable[[], "float | None"]


@dataclass(frozen=True)
class Row:
    """Samples of ours and of what it is measured against, in `unit`.

    `kind` and `goal`: "ratio" ours/other at most, "faster" other/ours at least, "more" ours - other
    at most, "most" ours at most, "least" ours at least, "" no goal. `x` is a place on a plot.
    """

    what: str
    against: str
    ours: Sequence[float]
    other: Sequence[float] = ()
    unit: str = "s"
    kind: str = ""
    goal: float = 0.0
    x: int | None = None


@dataclass(frozen=True)
class Result:
    """One benchmark: its rows, and what is to be said of them."""

    rows: Sequence[Row]
    notes: Sequence[str] = field(default_factory=tuple)


def in_turn(works: Mapping[str, Work], times: int = TIMES) -> dict[str, list[float]]:
    """Each work `times` times, all of them in each round; what a work gives, else its seconds."""
    samples: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(times):
        for name, work in works.items():
            start = time.monotonic()
            given = work()
            samples[name].append(time.monotonic() - start if given is None else given)
    return samples


def process(*words: str, **options: Any) -> Work:
    """A work: run a command, which must succeed."""

    def work() -> None:
        quiet: dict[str, Any] = {"stdin": subprocess.DEVNULL, "capture_output": True}
        done = subprocess.run(words, check=False, **quiet, **options)
        assert done.returncode == 0, f"{words}: exit {done.returncode}\n{done.stdout}{done.stderr}"

    return work


def cpu(work: Work) -> Work:
    """The same work, measured in seconds of CPU of the processes that it starts."""

    def spent() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        work()
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    return spent


def machine() -> dict[str, Any]:
    """What it was measured on, and how busy that was before we began."""
    cpu = [row for row in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in row]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cpu": cpu[0].partition(":")[2].strip() if cpu else platform.machine(),
        "cores": os.cpu_count(),
        "memory": memory,
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "load": os.getloadavg()[0],
        "when": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
    }


def load() -> dict[str, Any]:
    return json.loads(RESULTS.read_text()) if RESULTS.exists() else {"benchmarks": {}}


def save(name: str, result: Result, spent: float) -> None:
    """Put a benchmark's result in place of its last one."""
    data = load()
    entry = {"machine": machine(), "seconds": round(spent, 1), **asdict(result)}
    data["benchmarks"][name] = entry
    text = json.dumps(data, indent=1, default=str, sort_keys=True)
    RESULTS.write_text(_compact(text) + "\n")


def _compact(text: str) -> str:
    """Samples of a row on one line, in four digits: so that a diff can be read."""

    def one_line(found: re.Match[str]) -> str:
        numbers = [f"{float(word):.4g}" for word in found.group(1).split(",")]
        return f"[{', '.join(numbers)}]"

    return re.sub(r"\[\s*((?:-?[\d.e+-]+,?\s*)+)\]", one_line, text)


def python(*words: str) -> tuple[str, ...]:
    return (sys.executable, *words)
