"""Clusters by name on one machine, what is wanted of each, and servers of the layout before."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import layout
import pytest
from conftest import DEADLINE, Inv, free_ports

from tasks.cluster.facts.server import state
from tasks.cluster.facts.server.state import Record
from tasks.cluster.server import launch
from tasks.cluster.version import VERSION, WRITER

BOOT = Path("/proc/sys/kernel/random/boot_id")


def configure(inv: Inv, **tp: Any) -> None:
    assert inv.config is not None
    config = json.loads(inv.config.read_text())
    config["tp"].update(tp)
    inv.config.write_text(json.dumps(config))


# Of the layout before.


@pytest.fixture
def older(light: Inv, home: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A rank as version 0.1 has started it, with all the files that it left."""
    server = subprocess.Popen(["sleep", "600"], start_new_session=True)
    state, log = home / layout.STATE, home / "logs" / "tp_server.rank0.log"
    state.mkdir(mode=0o700)
    log.write_text(f"{launch.HEADER}12ab rank=0 host=127.0.0.1 by=me\nit serves\n")
    record = Record(
        run="12ab", rank=0, size=1, host="127.0.0.1", backend="ring", engine="light",
        ready="/v1/models", model="", command=["sleep", "600"], env=[], bind="127.0.0.1",
        port=light.port, ports=[light.ring], log=str(log), started=1.0, by="me@desk",
    )  # fmt: skip
    begun = Path(f"/proc/{server.pid}/stat").read_text().rpartition(")")[2].split()[19]
    for name in ("rank0.json", "last.json"):
        (state / name).write_text(json.dumps(asdict(record)))
    (state / "rank0.pid").write_text(f"{server.pid}\n{begun}\n{BOOT.read_text()}")
    (state / "ready").write_text("12ab\n")
    yield server
    server.kill()
    server.wait(DEADLINE)


def test_a_server_of_the_layout_before(
    light: Inv, home: Path, older: subprocess.Popen[bytes]
) -> None:
    """It is seen, refused, its log shown, and it is stopped; then nothing of it is left."""
    (row,) = light("tp.status", "--json", code=3).json()["ranks"]
    assert (row["pid"], row["state"]) == (older.pid, "running")
    assert "already runs: rank 0" in light("tp.start", code=3).err
    again = light("tp.launch", code=3).err
    assert f"rank 0 already runs (pid {older.pid}): inv tp.stop" in again
    assert light("tp.logs").out.splitlines()[-1] == "rank 0 | it serves"
    assert re.search(r"^stopped +127.0.0.1 +rank 0", light("tp.stop").out, re.MULTILINE)
    assert older.wait(DEADLINE)
    assert not list((home / layout.STATE).glob("rank0*"))
    light("tp.start")
    assert "it serves" in light("tp.logs", "--previous", "1").out
    assert not (home / layout.STATE / "last.json").exists()


# What is wanted.


def wanted(home: Path) -> list[str]:
    return (home / layout.CLUSTER / "wanted").read_text().split()


def test_what_is_wanted_is_written_down(light: Inv, home: Path) -> None:
    """By whom, too: what starts a server again by itself must know that it was stopped."""
    light.env["LOGNAME"] = "ada"
    light("tp.start")
    run = layout.newest(home / layout.STATE).name
    state, of, since, by = wanted(home)
    assert (state, of, by.partition("@")[0]) == ("running", run, "ada")
    assert int(since) > 1_000_000_000
    light.env["LOGNAME"] = "bob"
    light("tp.stop")
    assert wanted(home)[:2] == ["stopped", run]
    assert wanted(home)[3].startswith("bob@")
    assert (layout.newest(home / layout.STATE) / "ended").exists()
    (home / "light" / "load.1.py").write_text("os._exit(3)")
    light("tp.start", code=4)
    failed = layout.newest(home / layout.STATE).name
    assert failed > run
    assert wanted(home)[:2] == ["stopped", failed]


# Clusters by name.


@pytest.fixture
def two(light: Inv, home: Path) -> Iterator[Inv]:
    """The clusters a and b on this machine; their logs lie with their runs."""
    names = [f"{name}{os.getpid()}" for name in "ab"]
    first = json.loads(Path(light.env["INVOKE_TP_HOSTFILE"]).read_text())
    clusters = {}
    for name in names:
        port = free_ports(3)
        (home / name).mkdir()
        shutil.copytree(home / "model", home / name / "model")
        given = {
            "args": ["--port", str(port)],
            "model": str(home / name / "model"),
            "envs": [f"LIGHT_RANK={home / name}"],
        }
        file = home / f"{name}.json"
        file.write_text(json.dumps({**first, **given}))
        clusters[name] = {"hostfile": str(file), "starting_port": port + 1}
    configure(light, clusters=clusters)
    light.env["INVOKE_TP_LOG_DIR"] = ""
    yield light
    for name in names:
        for path in Path(launch.LINKS).glob(f"tp_server.{name}.*"):
            path.unlink()


def test_clusters_by_name_leave_each_other_alone(two: Inv, home: Path) -> None:
    assert two.config is not None
    a, b = json.loads(two.config.read_text())["tp"]["clusters"]

    def pids(name: str) -> list[int]:
        return [row["pid"] for row in two("tp.status", "--cluster", name, "--json").json()["ranks"]]

    two("tp.start", "--cluster", a)
    two("tp.start", "--cluster", b)
    of_b = pids(b)
    assert len({*pids(a), *of_b}) == 4
    known = Path(launch.LINKS) / f"tp_server.{b}.rank1.log"
    assert known.readlink() == layout.of_rank(home / layout.STATE, 1, "log", b)
    assert (Path(launch.LINKS) / f"tp_server.{b}.log").is_symlink()
    stopped = two("tp.stop", "--cluster", a).out
    assert re.search(r"^stopped .*rank 0, rank 1", stopped, re.MULTILINE)
    assert two("tp.status", "--cluster", a).out.startswith("stopped")
    assert pids(b) == of_b
    assert two("tp.status").out.startswith("stopped")
    assert "serving" in two("tp.logs", "--cluster", b).out
    two("tp.stop", "--cluster", b)


def test_a_cluster_of_another_name_at_the_same_ports_is_left_alone(light: Inv) -> None:
    """A slip in a name: what runs under another one is not "without a record"."""
    light("tp.start")
    other = ("--cluster", "defualt")
    assert light("tp.status", *other).out.splitlines() == ["stopped  no server is recorded"]
    assert "not ours, left alone" in light("tp.stop", *other, code=3).err
    light("tp.health")
    light("tp.stop")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("aa", "--cluster aa: no such cluster: choose one of a, default"),
        ("../x", "--cluster ../x: give letters, digits, - and _"),
        ("lock", "--cluster lock: give letters, digits, - and _"),
    ],
)
def test_no_such_cluster(light: Inv, home: Path, name: str, says: str) -> None:
    configure(light, clusters={"a": {"timeout": 5}})
    refused = light("tp.start", "--cluster", name, code=2)
    assert refused.one_line().startswith(says)
    assert not (home / layout.STATE).exists()


# Of a layout that is still to come.


def test_a_server_of_a_later_version(light: Inv, home: Path) -> None:
    """What we know of it is read, what we do not is said, and none of its files are touched."""
    light("tp.start")
    run = layout.newest(home / layout.STATE)
    data = json.loads((run / "record.json").read_text())
    assert (data["version"], data["writer"]) == (state.LAYOUT, WRITER)
    data |= {"version": 9, "writer": "mlx-tp-tasks 9.1", "quorum": {"of": 3}}
    for each in data["ranks"]:
        each |= {"backend": "warp", "lanes": [[1, 2]]}
    (run / "record.json").write_text(json.dumps(data))
    (run / "rank-0.marks").open("a").write("warmed 1.5 lanes=2 of=4\njoined later\n")
    others = [home / layout.STATE / "index", home / layout.CLUSTER / "peers", run / "lanes"]
    for each in others:
        each.write_text("of a later version\n")
    found = light("tp.status")
    assert found.out.startswith("ready")
    assert (
        f"127.0.0.1: run {run.name} was started by mlx-tp-tasks 9.1, a later version: what it says"
        in found.err
    )
    assert [row["state"] for row in light("tp.status", "--json").json()["ranks"]] == ["running"] * 2
    assert "already runs: rank 0" in light("tp.start", code=3).err
    assert re.search(r"^stopped +127.0.0.1 +rank 0, rank 1", light("tp.stop").out, re.MULTILINE)
    assert all(each.exists() for each in others)
    assert json.loads((run / "record.json").read_text()) == data


def test_what_is_written_says_by_which_version(light: Inv, home: Path) -> None:
    project = (Path(__file__).parents[1] / "pyproject.toml").read_text()
    assert f'version = "{VERSION}"' in project
    dry = light("tp.launch", "--dry-run", "--engine", "mlx-lm").out
    assert f'"writer": "{WRITER}"' in dry
    assert f"entry='# {WRITER}\n" in dry
