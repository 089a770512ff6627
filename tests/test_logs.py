"""The logs that a rank's node keeps: which ones, under which names, and which run each is of."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import layout
import pytest
from conftest import DEADLINE, Inv, wait_for

from tasks.cluster import cluster as clusters
from tasks.cluster import launch, logs, reading
from tasks.cluster.errors import CheckFailed
from tasks.cluster.launch import Run
from tasks.cluster.logs import Kept, Place

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


def test_runs_with_a_folder_for_logs_and_without_are_told_by_their_age(
    home: Path, tmp_path: Path, links: Path
) -> None:
    runs = [f"2026113{day}T080000a" for day in range(4)]
    for run, log_dir in zip(runs, (None, "logs", None, "logs"), strict=True):
        cluster = start(home, run, keep=5, log_dir=log_dir)
    read = reading.states(cluster)
    found = [logs.earlier(cluster, read, number, tmp_path)[0].paths for number in range(4)]
    texts = [Path(path).read_text() for paths in found for path in paths.values()]
    assert [re.findall(r"run=(\w+)", text) for text in texts] == [[run] for run in reversed(runs)]


# Where no folder is named: files in the run's folder, links with the known names.


def test_the_known_names_lead_to_the_last_run(home: Path, links: Path) -> None:
    known = links / "tp_server.rank0.log"
    for run in ("a", "b"):
        cluster = start(home, run, log_dir=None)
        assert known.readlink() == layout.of_rank(home / layout.STATE, 0, "log")
        assert f"run={run} " in known.read_text()
    where = logs.place(cluster, reading.states(cluster))
    logs.collect(cluster, where, final=True)
    combined = links / "tp_server.log"
    assert combined.readlink() == layout.newest(home / layout.STATE) / "tp_server.log"
    assert combined.read_text().splitlines()[-1] == "rank 0 | rank 0"
    assert stat.S_IMODE(combined.stat().st_mode) == 0o600


def test_a_cluster_has_links_of_its_own_name(home: Path) -> None:
    cluster = replace(cluster_in(home, 1, 2, None), name="b")
    assert launch.link(cluster, 0) == "tp_server.b.rank0.log"
    assert launch.link(cluster) == "tp_server.b.log"


def test_a_log_of_the_layout_before_is_kept_and_found(
    home: Path, tmp_path: Path, links: Path
) -> None:
    """It has the known name: the link takes its place."""
    known, combined = links / "tp_server.rank0.log", links / "tp_server.log"
    known.write_text(f"{launch.HEADER}before rank=0 host=127.0.0.1 by=me\nold\n")
    combined.write_text("rank 0 | old\n")
    cluster = start(home, "a", log_dir=None)
    read = reading.states(cluster)
    logs.collect(cluster, logs.place(cluster, read), final=True)
    assert known.with_name(f"{known.name}.1").read_text().endswith("old\n")
    assert combined.with_name(f"{combined.name}.1").read_text() == "rank 0 | old\n"
    old, _ = logs.earlier(cluster, read, 1, tmp_path)
    logs.collect(cluster, old, final=True)
    assert logs.tail(old.combined, 1) == ["rank 0 | old"]


def test_earlier_runs_go_but_for_the_last(home: Path, links: Path) -> None:
    """On a node; one whose end nobody has noted is over once it lives no more."""
    state = home / layout.STATE
    for run in ("a", "b", "c", "d"):
        start(home, run, log_dir=None)
    assert [path.name for path in layout.runs(state)] == ["b", "c", "d"]
    start(home, "e", keep=0, log_dir=None)
    assert [path.name for path in layout.runs(state)] == ["e"]


def test_a_run_that_lives_is_neither_removed_nor_replaced(home: Path, links: Path) -> None:
    start(home, "a", log_dir=None)
    state = home / layout.STATE
    boot = Path("/proc/sys/kernel/random/boot_id").read_text()
    begun = Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19]
    layout.of_rank(state, 0, "pid").write_text(f"{os.getpid()}\n{begun}\n{boot}")
    with pytest.raises(subprocess.CalledProcessError) as refused:
        start(home, "b", keep=0, log_dir=None)
    assert refused.value.returncode == launch.ALREADY
    assert not (state / "default" / "runs" / "a" / "ended").exists()
    assert not layout.of_rank(state, 0, "pid").exists()  # of b


def test_earlier_combined_logs_go_here(home: Path, links: Path) -> None:
    """Where this machine is a node, too, its start lets them go."""
    runs = home / "runs"
    for run in ("a", "b", "c", "d"):
        (runs / run).mkdir(parents=True)
        (runs / run / logs.NAME).touch()
    (runs / "a" / "record.json").touch()
    logs._begin(Place({}, runs / "e" / logs.NAME), links / logs.NAME, 2)
    assert sorted(path.name for path in runs.iterdir()) == ["a", "c", "d"]


def test_logs_survive_the_cleaner_of_tmp(home: Path, links: Path) -> None:
    """macOS removes what nobody has touched in /tmp for three days, as a quiet server's log."""
    cluster = start(home, "a", log_dir=None)
    stray = links / "stray"
    stray.touch()
    days_ago = time.time() - 5 * 24 * 3600
    for path in (*links.iterdir(), *(home / layout.STATE).rglob("*")):
        os.utime(path, (days_ago, days_ago), follow_symlinks=False)
    # As /etc/periodic/daily/110.clean-tmps does; nobody can set ctime back.
    clean = ["find", str(links), "!", "-type", "d", "-atime", "+3", "-mtime", "+3", "-delete"]
    subprocess.run(clean, check=True)
    assert not list(links.iterdir())
    read = reading.states(cluster)
    where = logs.place(cluster, read)
    assert not logs.collect(cluster, where, final=True).failed
    assert logs.tail(where.combined, 1) == ["rank 0 | rank 0"]
    start(home, "b", log_dir=None)
    assert (links / "tp_server.rank0.log").is_symlink()


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


def test_nothing_was_ever_started(light: Inv) -> None:
    """It is said in a line, and nothing is made to say it."""
    light("tp.stop")
    line = light("tp.logs", code=4).one_line()
    assert "no log yet: inv tp.start makes one" in line
    assert not list(light.home.rglob("tp_server*"))
