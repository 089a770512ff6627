"""`inv --list` and `inv --help tp.start`, cold, against those of an empty tasks file."""

from __future__ import annotations

import tempfile
from pathlib import Path

from .measure import ROOT, TIMES, Result, Row, in_turn, process, python

EMPTY = 'from invoke import task\n\n\n@task\ndef nothing(c):\n    """Nothing."""\n'


def run() -> Result:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "tasks.py").write_text(EMPTY)
        invoke = python("-m", "invoke")
        samples = in_turn(
            {
                "list": process(*invoke, "--list", cwd=ROOT),
                "help": process(*invoke, "--help", "tp.start", cwd=ROOT),
                "empty": process(*invoke, "--list", cwd=folder),
                "empty help": process(*invoke, "--help", "nothing", cwd=folder),
            },
            times=4 * TIMES + 1,
        )
    rows = [
        Row("inv --list", "an empty tasks file", samples["list"], samples["empty"]),
        Row("inv --help tp.start", "an empty tasks file", samples["help"], samples["empty help"]),
    ]
    return Result([Row(**{**vars(row), "kind": "ratio", "goal": 1.25}) for row in rows])
