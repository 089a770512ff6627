"""Where a cluster's runs lie, and what is kept of them: as cluster/facts/server/state.py has it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

STATE = ".mlx-tp"  # in a home
CLUSTER = f"{STATE}/default"
# For a node's shell: into the folder of its newest run.
NEWEST = f'cd "$(ls -d ~/{CLUSTER}/runs/* | tail -n 1)"'


def runs(state: Path, cluster: str = "default") -> list[Path]:
    """The runs that a state directory knows of a cluster, the newest last."""
    return sorted((state / cluster / "runs").glob("*"))


def newest(state: Path, cluster: str = "default") -> Path:
    """The folder of the last start; one that is not there, where there was none."""
    return [state / cluster / "runs" / "none", *runs(state, cluster)][-1]


def of_rank(state: Path, rank: int, kind: str, cluster: str = "default") -> Path:
    """A file of a rank of the last start: its `pid`, `exit` or `log`."""
    return newest(state, cluster) / f"rank-{rank}.{kind}"


def record(state: Path, rank: int = 0, cluster: str = "default") -> Any:
    """What the last start has recorded of a rank."""
    ranks = json.loads((newest(state, cluster) / "record.json").read_text())["ranks"]
    return next(each for each in ranks if each["rank"] == rank)
