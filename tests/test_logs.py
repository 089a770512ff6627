"""The logs that a rank's node keeps: which ones, under which names, and which run each is of."""

from __future__ import annotations

import fcntl
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
from conftest import DEADLINE, Inv, require, wait_for

from tasks.cluster import cluster as clusters
from tasks.cluster.errors import ActionFailed, CheckFailed
from tasks.cluster.server import combined_log as combined
from tasks.cluster.server import earlier_logs, launch, log_paths, logs, snapshots
from tasks.cluster.server.earlier_logs import Kept
from tasks.cluster.server.launch import Run
from tasks.cluster.server.log_paths import LogPaths

NOTE = "print('rank', __import__('os').environ['MLX_RANK'])"


def cluster_in(home: Path, ranks: int, keep: int, log_dir: str | None, **more: Any) -> Any:
    """Ranks on this machine that say their number and end."""
    local = [{"ssh": "127.0.0.1", "ips": ["127.0.0.1"]}] * ranks
    (home / "hosts.json").write_text(json.dumps(local))
    config = {"engines": {"note": {"command": ["-c", NOTE]}}, "engine": "note"}
    config["state_dir"] = str(home / layout.STATE)
    options: dict[str, Any] = {
        "hostfile": str(home / "hosts.json"),
        "python": sys.executable,
        "keep_logs": keep,
    }
    config |= more
    return clusters.build(config, log_dir=log_dir and str(home / log_dir), cwd=str(home), **options)


def start(home: Path, run: str, ranks: int = 1, keep: int = 2, log_dir: str | None = "logs") -> Any:
    cluster = cluster_in(home, ranks, keep, log_dir)
    run_here(home, launch.background(cluster, cluster.ranks, Run(run, "me", 0.0)))
    ends = [layout.newest(home / layout.STATE) / f"rank-{rank}.exit" for rank in range(ranks)]
    wait_for(lambda: all(end.exists() for end in ends))
    return cluster


@pytest.fixture
def links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in the place of /tmp for the known names of logs."""
    folder = tmp_path / "links"
    folder.mkdir()
    monkeypatch.setattr(launch, "LINKS", str(folder))
    monkeypatch.setattr(log_paths, "LINKS", str(folder))
    monkeypatch.setattr(earlier_logs, "LINKS", str(folder))
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
    read = snapshots.states(cluster)
    for number, (run, ranks) in enumerate([("c", 2), ("b", 1), ("a", 2)]):
        (tmp_path / run).mkdir()
        old, failed = earlier_logs.earlier(cluster, read, number, tmp_path / run)
        assert (len(old.paths), failed) == (ranks, {})
        logs.collect(cluster, old, final=True)
        for rank in range(ranks):
            first, said = combined.tail(old.combined, 0, rank)
            assert f"run={run} rank={rank}" in first
            assert said == f"rank {rank} | rank {rank}"
    with pytest.raises(CheckFailed, match="it has 2"):
        earlier_logs.earlier(cluster, read, 3, tmp_path)


def test_runs_with_a_folder_for_logs_and_without_are_told_by_their_age(
    home: Path, tmp_path: Path, links: Path
) -> None:
    runs = [f"2026113{day}T080000a" for day in range(4)]
    for run, log_dir in zip(runs, (None, "logs", None, "logs"), strict=True):
        cluster = start(home, run, keep=5, log_dir=log_dir)
    read = snapshots.states(cluster)
    found = [earlier_logs.earlier(cluster, read, number, tmp_path)[0].paths for number in range(4)]
    texts = [Path(path).read_text() for paths in found for path in paths.values()]
    assert [re.findall(r"run=(\w+)", text) for text in texts] == [[run] for run in reversed(runs)]


# Where no folder is named: files in the run's folder, links with the known names.


def test_the_known_names_lead_to_the_last_run(home: Path, links: Path) -> None:
    known = links / "tp_server.rank0.log"
    for run in ("a", "b"):
        cluster = start(home, run, log_dir=None)
        assert known.readlink() == layout.of_rank(home / layout.STATE, 0, "log")
        assert f"run={run} " in known.read_text()
    where = log_paths.place(cluster, snapshots.states(cluster))
    logs.collect(cluster, where, final=True)
    known = links / "tp_server.log"
    assert known.readlink() == layout.newest(home / layout.STATE) / "tp_server.log"
    assert known.read_text().splitlines()[-1] == "rank 0 | rank 0"
    assert stat.S_IMODE(known.stat().st_mode) == 0o600


def test_a_cluster_has_links_of_its_own_name(home: Path) -> None:
    cluster = replace(cluster_in(home, 1, 2, None), name="b")
    assert launch.link(cluster, 0) == "tp_server.b.rank0.log"
    assert launch.link(cluster) == "tp_server.b.log"


def test_a_log_of_the_layout_before_is_kept_and_found(
    home: Path, tmp_path: Path, links: Path
) -> None:
    """It has the known name: the link takes its place."""
    known, all_ranks = links / "tp_server.rank0.log", links / "tp_server.log"
    known.write_text(f"{launch.HEADER}before rank=0 host=127.0.0.1 by=me\nold\n")
    all_ranks.write_text("rank 0 | old\n")
    cluster = start(home, "a", log_dir=None)
    read = snapshots.states(cluster)
    logs.collect(cluster, log_paths.place(cluster, read), final=True)
    assert known.with_name(f"{known.name}.1").read_text().endswith("old\n")
    assert all_ranks.with_name(f"{all_ranks.name}.1").read_text() == "rank 0 | old\n"
    old, _ = earlier_logs.earlier(cluster, read, 1, tmp_path)
    logs.collect(cluster, old, final=True)
    assert [*combined.tail(old.combined, 1)] == ["rank 0 | old"]


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
        (runs / run / log_paths.NAME).touch()
    (runs / "a" / "record.json").touch()
    logs._begin(LogPaths({}, runs / "e" / log_paths.NAME), links / log_paths.NAME, 2)
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
    read = snapshots.states(cluster)
    where = log_paths.place(cluster, read)
    assert not logs.collect(cluster, where, final=True).failed
    assert [*combined.tail(where.combined, 1)] == ["rank 0 | rank 0"]
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
    assert list(earlier_logs.kept("mac1", f"junk\n{row}\n")) == found


def test_the_view_is_of_the_last_run(tmp_path: Path) -> None:
    """Its lines begin with the first header of any of its ranks; an unfinished start counts."""
    rows = ["junk", "# mlx-tp run=a rank=0 x", "old", "# mlx-tp run=b rank=0 x", "new"]
    rows += ["# mlx-tp run=b rank=1 x", "newer"]
    path = tmp_path / "log"
    path.write_text("".join(f"rank {row.count('=1 ')} | {row}\n" for row in rows))
    assert [line.partition(" | ")[2] for line in combined.tail(path, 0)] == rows[3:]
    assert [*combined.tail(path, 1, 0, "n")] == ["rank 0 | newer"]
    path.write_text("rank 0 | no header\n")
    assert [*combined.tail(path, 0)] == ["rank 0 | no header"]


def test_nothing_was_ever_started(light: Inv) -> None:
    """It is said in a line, and nothing is made to say it."""
    light("tp.stop")
    line = light("tp.logs", code=4).one_line()
    assert "no log yet: inv tp.start makes one" in line
    assert not list(light.home.rglob("tp_server*"))


# However much ranks print.

FLOOD = """
import faulthandler, os, time
faulthandler.enable()
for number in range(150):
    os.write(2, b"".join(b"%06d %s\\n" % (number * 500 + n, b"x" * 92) for n in range(500)))
    time.sleep(0.01)
os.abort()
"""


def test_a_log_is_capped_while_its_rank_prints(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """7.5 MB, at some 4 MB/s. Rank and `tail -f` keep the file; its last words stay."""
    monkeypatch.setitem(globals(), "NOTE", FLOOD)
    cluster = cluster_in(home, 1, 2, "logs", log_limit=1)
    log, peak = home / "logs" / "tp_server.rank0.log", 0
    run_here(home, launch.background(cluster, cluster.ranks, Run("a", "me", 0.0)))
    end = layout.newest(home / layout.STATE) / "rank-0.exit"
    with (tmp_path / "seen").open("wb") as seen:
        follower = subprocess.Popen(
            ["tail", "-n", "+1", "-f", log], stdout=seen, stderr=subprocess.DEVNULL
        )
        try:
            while not end.exists():
                peak = max(peak, sum(p.stat().st_size for p in log.parent.glob(f"{log.name}*")))
                time.sleep(0.01)
            assert end.read_text() == "134\n"
            if b"Fatal Python error: Abort" in log.read_bytes():
                wait_for(lambda: b"Fatal Python error: Abort" in (tmp_path / "seen").read_bytes())
        finally:
            follower.kill()
            follower.wait()
    first, *rest = log.read_text().splitlines()
    assert first == f"{launch.HEADER}a rank=0 host=127.0.0.1 by=me"
    older = log.with_name(f"{log.name}.older").read_text().splitlines()
    numbers = [int(line[:6]) for line in [*older, *rest] if line.endswith("x")]
    assert numbers == sorted(numbers)
    assert numbers[-1] == 74_999
    assert 75_000 - numbers[0] - len(numbers) <= 1000  # of a write in the moment of a cut
    # A rank that is gone looks alive until its shell has seen it: then the older part has them.
    assert any("Fatal Python error: Abort" in line for line in [*older, *rest])
    assert 1_000_000 < peak < 1_000_000 + 3_000_000  # what comes between two looks


def run_here(home: Path, script: str) -> None:
    env = {**os.environ, "HOME": str(home)}
    subprocess.run(["sh", "-s"], input=script, env=env, check=True, text=True, timeout=DEADLINE)


def test_collecting_is_bounded_and_says_what_it_passed_over(home: Path) -> None:
    """The begin, where the first error is, and the end; then what is new."""
    cluster = start(home, "a")
    where = log_paths.place(cluster, snapshots.states(cluster))
    log = home / "logs" / "tp_server.rank0.log"
    with log.open("a") as file:
        file.writelines(f"{number:07d}\n" for number in range(500_000))
    taken = logs.collect(cluster, where)
    shown = list(combined.tail(where.combined, 0))
    (note,) = [line for line in shown if "bytes are not here" in line]
    assert note == f"rank 0 | # mlx-tp: {taken.left['127.0.0.1', 0]} bytes are not here: see {log}"
    numbers = [int(line[-7:]) for line in shown if re.fullmatch(r"rank 0 \| \d{7}", line)]
    assert (numbers[0], numbers[-1]) == (0, 499_999)
    assert taken.left["127.0.0.1", 0] + 8 * len(numbers) == 4_000_000
    assert where.combined.stat().st_size < 3 * logs.CHUNK
    assert list(logs.errors(cluster, where)[0][1]) == [f"{499_990 + n:07d}" for n in range(10)]
    with log.open("a") as file:
        file.write("more\nhalf a li")
    taken = logs.collect(cluster, where)
    assert (taken.left, list(combined.tail(where.combined, 1))) == ({}, ["rank 0 | more"])


def test_a_stream_leaves_nothing_out(home: Path) -> None:
    cluster = start(home, "a")
    where = log_paths.place(cluster, snapshots.states(cluster))
    with (home / "logs" / "tp_server.rank0.log").open("a") as file:
        file.writelines(f"{number:07d}\n" for number in range(500_000))
    trips = 1
    while not logs.collect(cluster, where, stream=True).is_all:
        trips += 1
    shown = list(combined.tail(where.combined, 0))
    assert [int(line[-7:]) for line in shown[2:]] == list(range(500_000))
    assert trips == 4


def test_a_suspended_command_here_is_not_waited_for(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have stopped while it had the log: others say so, and go on without."""
    cluster = start(home, "a")
    where = log_paths.place(cluster, snapshots.states(cluster))
    monkeypatch.setattr(logs, "TURN", 0.2)
    with where.positions.open("wb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(ActionFailed) as busy:
            logs.collect(cluster, where)
    assert "another command here has had it for 0.2 s" in str(busy.value.message)
    assert not logs.collect(cluster, where).failed


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / log_paths.NAME


def test_the_combined_log_is_capped(home: Path, path: Path) -> None:
    """It is the same file then, of which a view of many lines has the older ones too."""
    path.write_text("".join(f"rank 0 | {number}\n" for number in range(1000)))
    inode = path.stat().st_ino
    for number, limit in enumerate((0, 10**6, 2 * path.stat().st_size)):
        with combined.own(path, "ab") as log:
            assert combined.shorten(log, path, limit) == (0 if number == 2 else log.tell())
            log.write(b"rank 1 | new\n")
    assert path.read_text() == "rank 1 | new\n"
    assert path.stat().st_ino == inode
    assert list(combined.tail(path, 2)) == ["rank 1 | new", "rank 1 | new"]
    assert list(combined.tail(path, 2, rank=0)) == ["rank 0 | 998", "rank 0 | 999"]
    assert len(list(combined.tail(path, 0))) == 1003


def bytes_read() -> int:
    """By this process so far: how much is read says what a busy machine's clock does not."""
    require(Path("/proc/self/io").exists(), "needs Linux, which counts what is read")
    return int(Path("/proc/self/io").read_text().split()[1])


def test_the_end_of_a_large_log_is_shown_at_once(path: Path) -> None:
    """It is read from its end: 1 GB, of which just the first and last lines are on the disk."""
    path.write_text(f"rank 0 | {launch.HEADER}a rank=0 x\n")
    with path.open("ab") as file:
        file.truncate(10**9)
        file.write(b"\n" + b"".join(b"rank %d | %d\n" % (n % 2, n) for n in range(1000)))
    begun = bytes_read()
    assert list(combined.tail(path, 2)) == ["rank 0 | 998", "rank 1 | 999"]
    assert list(combined.tail(path, 1, 0, "^99")) == ["rank 0 | 998"]
    assert bytes_read() - begun < 10**7


def test_lines_of_any_length_are_read_from_the_end(path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(combined, "_BLOCK", 64)
    rows = [f"rank 0 | {'x' * length}" for length in (0, 1, 54, 55, 56, 200, 63, 64, 65)]
    path.write_text("\n".join(rows) + "\n")
    for count in range(1, len(rows) + 1):
        assert list(combined.tail(path, count)) == rows[-count:]


def test_a_full_disk_here_is_a_line_and_tears_nothing(home: Path, light: Inv) -> None:
    """Of what could not be written nothing counts as taken."""
    light("tp.start")
    log, combined_log = (home / "logs" / name for name in ("tp_server.rank0.log", log_paths.NAME))
    with log.open("a") as file:
        file.write("more\n" * 20_000)
    before = combined_log.read_bytes()
    full = light.start("tp.logs", "--lines", "1", preexec_fn=lambda: limit_files(len(before) + 999))
    out, err = full.communicate(timeout=DEADLINE)
    assert (full.returncode, out.count("\n")) == (4, 1)
    assert err == f"{combined_log}: can't be written (File too large): choose another --log-dir\n"
    assert combined_log.read_bytes() == before
    assert light("tp.logs", "--lines", "0").out.count("| more\n") == 20_000


def limit_files(size: int) -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
