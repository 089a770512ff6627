"""The logs that a rank's node keeps: which ones, under which names, and which run each is of."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import layout
import pytest
from conftest import DEADLINE, wait_for

from tasks.cluster import cluster as clusters
from tasks.cluster import launch, logs, reading
from tasks.cluster.errors import CheckFailed
from tasks.cluster.launch import Run
from tasks.cluster.logs import Kept

NOTE = "print('rank', __import__('os').environ['MLX_RANK'])"


def cluster_in(home: Path, ranks: int, keep: int, log_dir: str | None) -> Any:
    """Ranks on this machine that say their number and end."""
    local = [{"ssh": "127.0.0.1", "ips": ["127.0.0.1"]}] * ranks
    (home / "hosts.json").write_text(json.dumps(local))
    config = {"engines": {"note": {"command": ["-c", NOTE]}}, "engine": "note"}
    config["state_dir"] = str(home / layout.STATE)
    options = {"hostfile": str(home / "hosts.json"), "python": sys.executable, "keep_logs": keep}
    return clusters.build(config, log_dir=log_dir and str(home / log_dir), cwd=str(home), **options)


def start(home: Path, run: str, ranks: int = 1, keep: int = 2, log_dir: str | None = "logs") -> Any:
    cluster = cluster_in(home, ranks, keep, log_dir)
    script = launch.background(cluster, cluster.ranks, Run(run, "me", 0.0))
    line = ["/bin/sh", "-s"]
    env = {**os.environ, "HOME": str(home)}
    subprocess.run(line, input=script, env=env, check=True, text=True, timeout=DEADLINE)
    ends = [layout.newest(home / layout.STATE) / f"rank-{rank}.exit" for rank in range(ranks)]
    wait_for(lambda: all(end.exists() for end in ends))
    return cluster


@pytest.fixture
def links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in the place of /tmp for the known names of logs."""
    folder = tmp_path / "links"
    folder.mkdir()
    monkeypatch.setattr(launch, "LINKS", str(folder))
    monkeypatch.setattr(logs, "LINKS", str(folder))
    return folder


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


@pytest.mark.parametrize("log_dir", [None, "logs"])
def test_an_earlier_run_is_that_of_all_its_ranks(
    home: Path, tmp_path: Path, log_dir: str | None, links: Path
) -> None:
    """Whatever the number of ranks was, runs are not mixed."""
    start(home, "a", ranks=2, log_dir=log_dir)
    start(home, "b", ranks=1, log_dir=log_dir)
    cluster = start(home, "c", ranks=2, log_dir=log_dir)
    read = reading.states(cluster)
    for number, (run, ranks) in enumerate([("c", 2), ("b", 1), ("a", 2)]):
        (tmp_path / run).mkdir()
        old, failed = logs.earlier(cluster, read, number, tmp_path / run)
        assert (len(old.paths), failed) == (ranks, {})
        logs.collect(cluster, old, final=True)
        for rank in range(ranks):
            first, said = logs.tail(old.combined, 0, rank)
            assert f"run={run} rank={rank}" in first
            assert said == f"rank {rank} | rank {rank}"
    with pytest.raises(CheckFailed, match="it has 2"):
        logs.earlier(cluster, read, 3, tmp_path)


NAMED = 1_000_000  # older than those of runs
HEADER = f"{launch.HEADER}1f rank=0 host=mac1 by=me"


@pytest.mark.parametrize(
    ("row", "found"),
    [
        (f"/d/rank-0.log\t{HEADER}", [Kept("mac1", 0, 1, "1f", "/d/rank-0.log")]),
        (f"/d/tp_server.rank0.log\t{HEADER}",
         [Kept("mac1", 0, NAMED, "1f", "/d/tp_server.rank0.log")]),
        (f"/d/tp_server.rank7.log.12\t{HEADER}".replace("rank=0", "rank=7"),
         [Kept("mac1", 7, NAMED + 12, "1f", "/d/tp_server.rank7.log.12")]),
        (f"/d/tp_server.rank1.log\t{HEADER}", []),
        (f"/d/tp_server.rank0.log\t{HEADER.replace('mac1', 'mac2')}", []),
        (f"/d/tp_server.rank0.log.old\t{HEADER}", []),
        (f"d/tp_server.rank0.log\t{HEADER}", []),
        ("/d/tp_server.rank0.log\tsomething", []),
        (f"/d/tp_server.rank0.log\t{HEADER.replace('1f', '$(id)')}", []),
        ("/d/tp_server.rank0.log", []),
    ],
)  # fmt: skip
def test_which_logs_a_node_names(row: str, found: list[Kept]) -> None:
    assert list(logs.kept("mac1", f"junk\n{row}\n")) == found


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
