"""The logs that a rank's node keeps: which ones, under which names, and which run each is of."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import DEADLINE, wait_for

from tasks.cluster import cluster as clusters
from tasks.cluster import launch, logs
from tasks.cluster.errors import CheckFailed
from tasks.cluster.launch import Run
from tasks.cluster.logs import Kept, Place

NOTE = "print('rank', __import__('os').environ['MLX_RANK'])"


def cluster_in(home: Path, ranks: int, keep: int) -> Any:
    """Ranks on this machine that say their number and end."""
    local = [{"ssh": "127.0.0.1", "ips": ["127.0.0.1"]}] * ranks
    (home / "hosts.json").write_text(json.dumps(local))
    config = {"engines": {"note": {"command": ["-c", NOTE]}}, "engine": "note"}
    options = {"hostfile": str(home / "hosts.json"), "python": sys.executable, "keep_logs": keep}
    return clusters.build(config, log_dir=str(home / "logs"), cwd=str(home), **options)


def start(home: Path, run: str, ranks: int = 1, keep: int = 2) -> Any:
    cluster = cluster_in(home, ranks, keep)
    script = launch.background(cluster, cluster.ranks, Run(run, "me", 0.0))
    line = ["/bin/sh", "-s"]
    env = {**os.environ, "HOME": str(home)}
    subprocess.run(line, input=script, env=env, check=True, text=True, timeout=DEADLINE)
    ends = [home / ".mlx-tp" / f"rank{rank}.exit" for rank in range(ranks)]
    wait_for(lambda: all(end.exists() and run in end.read_text().split() for end in ends))
    return cluster


def kept_in(home: Path, rank: int = 0) -> dict[str, str]:
    """Suffix -> run, of the logs of a rank."""
    found = sorted((home / "logs").glob(f"tp_server.rank{rank}.log*"))
    return {p.name.partition(".log")[2]: p.read_text().split("run=")[1].split()[0] for p in found}


def test_the_last_logs_are_kept(home: Path) -> None:
    for run in ("a", "b", "c", "d"):
        start(home, run)
    assert kept_in(home) == {"": "d", ".1": "c", ".2": "b"}
    start(home, "e", keep=1)
    assert kept_in(home) == {"": "e", ".1": "d"}
    start(home, "f", keep=0)
    assert kept_in(home) == {"": "f"}


def test_what_is_no_log_of_ours_is_not_kept(home: Path) -> None:
    (home / "logs" / "tp_server.rank0.log").write_text("somebody's\n")
    start(home, "a")
    assert kept_in(home) == {"": "a"}


def test_an_earlier_run_is_that_of_all_its_ranks(home: Path, tmp_path: Path) -> None:
    """Whatever the number of ranks was, runs are not mixed."""
    start(home, "a", ranks=2)
    start(home, "b", ranks=1)
    cluster = start(home, "c", ranks=2)
    where = Place({("127.0.0.1", 0): str(home / "logs" / "x")}, home / "tp_server.log")
    for number, (run, ranks) in enumerate([("c", 2), ("b", 1), ("a", 2)]):
        (tmp_path / run).mkdir()
        old, failed = logs.earlier(cluster, where, number, tmp_path / run)
        assert (len(old.paths), failed) == (ranks, {})
        logs.collect(cluster, old, final=True)
        for rank in range(ranks):
            first, said = logs.tail(old.combined, 0, rank)
            assert f"run={run} rank={rank}" in first
            assert said == f"rank {rank} | rank {rank}"
    with pytest.raises(CheckFailed, match="it has 2"):
        logs.earlier(cluster, where, 3, tmp_path)


HEADER = f"{launch.HEADER}1f rank=0 host=mac1 by=me"


@pytest.mark.parametrize(
    ("row", "found"),
    [
        (f"tp_server.rank0.log\t{HEADER}", [Kept("mac1", 0, 0, "1f", "/d/tp_server.rank0.log")]),
        (f"tp_server.rank7.log.12\t{HEADER}".replace("rank=0", "rank=7"),
         [Kept("mac1", 7, 12, "1f", "/d/tp_server.rank7.log.12")]),
        (f"tp_server.rank1.log\t{HEADER}", []),
        (f"tp_server.rank0.log\t{HEADER.replace('mac1', 'mac2')}", []),
        (f"tp_server.rank0.log.old\t{HEADER}", []),
        ("tp_server.rank0.log\tsomething", []),
        (f"tp_server.rank0.log\t{HEADER.replace('1f', '$(id)')}", []),
        ("tp_server.rank0.log", []),
    ],
)  # fmt: skip
def test_which_logs_a_node_names(row: str, found: list[Kept]) -> None:
    assert list(logs.kept("mac1", f"/d\n{row}\n")) == found
    assert list(logs.kept("mac1", row)) == []


def test_the_view_is_of_the_last_run(tmp_path: Path) -> None:
    """Its lines begin with the first header of any of its ranks; an unfinished start counts."""
    rows = ["junk", "# mlx-tp run=a rank=0 x", "old", "# mlx-tp run=b rank=0 x", "new"]
    rows += ["# mlx-tp run=b rank=1 x", "newer"]
    combined = tmp_path / "log"
    combined.write_text("".join(f"rank {row.count('=1 ')} | {row}\n" for row in rows))
    assert [line.partition(" | ")[2] for line in logs.tail(combined, 0)] == rows[3:]
    assert logs.tail(combined, 1, 0, "n") == ["rank 0 | newer"]
    combined.write_text("rank 0 | no header\n")
    assert logs.tail(combined, 0) == ["rank 0 | no header"]
