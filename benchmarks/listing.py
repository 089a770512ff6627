"""`inv --list` and `inv --help tp.start`, cold, against those of an empty tasks file."""

from __future__ import annotations

import tempfile
from pathlib import Path

from .measure import ROOT, TIMES, Result, Row, cpu, in_turn, process, python

EMPTY = 'from invoke import task\n\n\n@task\ndef nothing(c):\n    """Nothing."""\n'


def run() -> Result:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "tasks.py").write_text(EMPTY)
        invoke = python("-m", "invoke")
        works = {
            "list": process(*invoke, "--list", cwd=ROOT),
            "help": process(*invoke, "--help", "tp.start", cwd=ROOT),
            "empty list": process(*invoke, "--list", cwd=folder),
            "empty help": process(*invoke, "--help", "nothing", cwd=folder),
        }
        in_turn(works, times=1)  # compiled modules are written
        wall = in_turn(works, times=3 * TIMES)
        spent = in_turn({name: cpu(work) for name, work in works.items()}, times=3 * TIMES)
    against = "an empty tasks file"
    rows = []
    for name, what in (("list", "inv --list"), ("help", "inv --help tp.start")):
        for samples, of in ((wall, ""), (spent, ", CPU")):
            ours, empty = samples[name], samples[f"empty {name}"]
            rows.append(Row(what + of, against, ours, empty, kind="ratio", goal=1.25))
    return Result(rows)
