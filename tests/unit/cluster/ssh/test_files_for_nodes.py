"""A rank's life by the files that nodes run, in each shell that may be /bin/sh somewhere."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import layout
import pytest
from conftest import require, wait_for

from tasks.cluster import cluster as clusters
from tasks.cluster.facts.server import state
from tasks.cluster.server import audit_log, launch, lock, logs, stop, targets, wait
from tasks.cluster.server.launch import Run
from tasks.cluster.ssh import scripts

from .test_scripts import SHELLS

TELL = "import json, os, sys; print(json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)]))"
# What our own files call theirs, and what they must not come apart at.
ENV = {"name": "a b", "run": "mine", "python": "none", "words": "1", "log": "/nowhere"}

Sh = Callable[[str], str]


@pytest.fixture(params=SHELLS)
def sh(request: pytest.FixtureRequest, tmp_path: Path) -> Sh:
    words = shlex.split(request.param)
    require(shutil.which(words[0]), f"needs {words[0]}")
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}

    def run(text: str) -> str:
        done = subprocess.run(
            [*words, "-s"], input=text, env=env, cwd=tmp_path, capture_output=True, text=True
        )
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    return run


@pytest.fixture
def cluster(tmp_path: Path) -> Any:
    (tmp_path / "a b").mkdir()
    hosts = tmp_path / "hosts.json"
    hosts.write_text(json.dumps([{"ssh": "mac1", "ips": ["10.0.0.1"]}]))
    return clusters.build(
        {"engines": {"tell": {"command": ["-c", TELL], "prepare": "export MORE=$HOME"}}},
        ["--model", "~/model", "a\\nb", "--", "~"],
        hostfile=str(hosts),
        num_ranks="2",
        engine="tell",
        backend="ring",
        python=sys.executable,
        cwd="~/a b",
        log_dir="~/logs",
        env=[f"{name}={value}" for name, value in ENV.items()],
    )


def _have_ended(sh: Sh, cluster: Any, run: str) -> bool:
    return [rank.exit for rank in ranks(sh, cluster, run)] == [0, 0]


def test_a_ranks_life(sh: Sh, cluster: Any, tmp_path: Path) -> None:
    for run in ("abc", "def"):
        sh(launch.background(cluster, cluster.ranks, Run(run, "me\\n", 0.0)))
        wait_for(partial(_have_ended, sh, cluster, run))
    words, folder, env = told(tmp_path)
    assert words == ["--model", f"{tmp_path}/model", "a\\nb", "--", "~"]
    assert folder == f"{tmp_path}/a b"
    assert env.items() >= {**ENV, "MORE": str(tmp_path), "MLX_RANK": "1"}.items()
    # A token of a run that is over says nothing of the next.
    sh(wait.ready_script(cluster, "abc"))
    assert read(sh, cluster).ready is None
    sh(wait.ready_script(cluster))
    assert read(sh, cluster).ready == "def"
    where = [(rank.rank, launch.log_path(cluster, rank, "def"), "", 0) for rank in cluster.ranks]
    taken = logs.parse("mac1", sh(logs.read_script(where, "nonce")), "nonce")
    assert [piece.data.count(b"\n") for piece in taken] == [2, 2]
    assert sorted(path.name for path in (tmp_path / "logs").iterdir()) == [
        f"tp_server.rank{rank}.log{age}" for rank in (0, 1) for age in ("", ".1")
    ]
    sh(stop.forget_scripts(cluster, [stop.StopReport("mac1")])["mac1"])
    found = read(sh, cluster)
    assert (found.ranks, found.ready) == ({}, None)
    assert {rank: record.run for rank, record in found.last.items()} == {0: "def", 1: "def"}
    assert found.baseline is not None


def test_no_name_of_another_cluster_is_taken_for_a_file_of_the_layout_before(
    sh: Sh, cluster: Any, tmp_path: Path
) -> None:
    """The cluster `default` clears away what lay where all others have their folders."""
    state_dir = tmp_path / layout.STATE
    others = [state_dir / name for name in ("rank1", "rank0-lab", "ready2", "ready-lab")]
    before = [state_dir / name for name in ("rank0.json", "rank1.exit", "ready")]
    for folder in others:
        (folder / "runs").mkdir(parents=True)
    for script in (
        launch.background(cluster, cluster.ranks, Run("abc", "me", 0.0)),
        stop.forget_scripts(cluster, [stop.StopReport("mac1")])["mac1"],
    ):
        for file in before:
            file.write_text("")
        sh(script)
        assert all((folder / "runs").is_dir() for folder in others)
        assert not any(file.exists() for file in before)


def test_a_script_that_was_held_up_starts_nothing_once_its_run_is_stopped(
    sh: Sh, cluster: Any, tmp_path: Path
) -> None:
    late = launch.background(cluster, cluster.ranks, Run("abc", "me", 0.0))
    sh(stop.forget_scripts(cluster, [stop.StopReport("mac1")], "abc")["mac1"])
    said = sh(f"(\n{late}) 2>&1 || :\n")
    assert said == "the run was stopped before it had started here\n"
    assert not layout.of_rank(tmp_path / layout.STATE, 0, "pid").exists()
    assert read(sh, cluster).wanted is None
    sh(launch.background(cluster, cluster.ranks, Run("def", "me", 0.0)))


def test_only_what_was_seen_is_stopped(sh: Sh, cluster: Any) -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        boot = sh(scripts.script("prelude.sh") + 'printf %s "$tp_boot"')
        same = {
            "other start": ("start", boot, "1"),
            "other boot": ("child", "x", "sleep 60"),
            "other command": ("command", "", "sleep 6"),
            "it": ("command", "", "sleep 60"),
        }
        for label, proof in same.items():
            target = targets.Target("mac1", process.pid, label, proof, has_rdma=True)
            assert sh(stop.script(cluster, [target], [target], "KILL", 1)) == "\nleft\n"
            assert (read(sh, cluster).sigkill is not None) == (label == "it")
        assert process.wait() == -9


@pytest.mark.parametrize(
    ("backend", "end", "has_stamp"),
    [("jaccl", "3", True), ("jaccl", "0", False), ("ring", "3", False)],
)
def test_a_rank_that_ends_without_clean_up(
    sh: Sh, cluster: Any, backend: str, end: str, has_stamp: bool
) -> None:
    """Whoever has ended it, over RDMA the next start knows to wait."""
    words = (sys.executable, "-c", f"raise SystemExit({end})")
    alone = [replace(cluster.ranks[0], command=words)]
    its = replace(cluster, backend=backend, ranks=alone, log_dir=None)
    sh(launch.background(its, alone, Run("abc", "me", 0.0)))
    wait_for(lambda: [rank.exit for rank in ranks(sh, cluster, "abc")] == [int(end)])
    assert (read(sh, cluster).sigkill is not None) == has_stamp


def test_an_action_is_noted(sh: Sh, cluster: Any) -> None:
    entry = audit_log.AuditEntry("2026-11-24T18:01:25Z", "me\\n", "tp.stop", "done")
    sh(audit_log.script(cluster.state_dir, entry))
    assert audit_log.parse(sh(audit_log.fact(cluster.state_dir, 5).command), 0) == [entry]


def test_the_lock_ends_with_its_stdin(sh: Sh, cluster: Any, tmp_path: Path) -> None:
    assert sh(lock.script(cluster, "tp.start", Run("abc", "me", 0.0))).split() == ["held", "1"]
    assert [each.name for each in (tmp_path / ".mlx-tp" / "default").iterdir()] == ["fence"]


def read(sh: Sh, cluster: Any) -> Any:
    return state.parse(sh(state.fact(cluster.state_dir, cluster.name).command), 0)


def ranks(sh: Sh, cluster: Any, run: str) -> list[Any]:
    return [rank for rank in read(sh, cluster).ranks.values() if rank.record.run == run]


def told(home: Path) -> Any:
    return json.loads((home / "logs" / "tp_server.rank1.log").read_text().splitlines()[-1])
