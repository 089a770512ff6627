"""Ranks: held against the installed mlx.launch, on paper and by running what both would run."""

from __future__ import annotations

import contextlib
import io
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

import layout
import pytest
from conftest import wait_for
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from mlx._distributed_utils import launch as mlx_launch

from tasks.cluster import cluster as clusters
from tasks.cluster.config import hostfile, ranks
from tasks.cluster.config.engine import MLX_LM, VLLM_MLX, Engine
from tasks.cluster.config.hostfile import Host
from tasks.cluster.errors import BadInput
from tasks.cluster.server import launch

BACKENDS = ("ring", "jaccl", "jaccl-ring")
SERVER = ("-m", "mlx_lm", "server")


@dataclass(frozen=True)
class Started:
    """One rank as it would be started."""

    rank: int
    host: str
    env: dict[str, str]
    files: dict[str, str]
    command: list[str]
    cwd: str | None


class Recorder:
    """In place of mlx.launch's process class: it records a rank instead of starting it."""

    seen: list[tuple[Any, ...]]

    def __init__(self, *arguments: Any) -> None:
        self.seen.append(arguments)


def oracle(*words: str) -> list[tuple[Any, ...]] | None:
    """What `mlx.launch WORDS` would start, as arguments of its process class; None: it refuses."""
    Recorder.seen = []

    def each(process: Any, arguments: Any, verbose: bool) -> None:
        for positional, keywords in arguments:
            process(*positional, **keywords)

    def no_terminal(fallback: tuple[int, int] = (80, 24)) -> os.terminal_size:
        return os.terminal_size(fallback)

    with (
        mock.patch.object(mlx_launch, "RemoteProcess", Recorder),
        mock.patch.object(mlx_launch, "_launch_with_io", each),
        mock.patch.object(mlx_launch.shutil, "get_terminal_size", no_terminal),
        mock.patch.object(sys, "argv", ["mlx.launch", *words]),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        try:
            mlx_launch.main()
        except SystemExit as end:
            if end.code != 2:  # argparse's own
                raise
            return None
    return Recorder.seen


def theirs(*words: str) -> list[Started] | None:
    seen = oracle(*words)
    if seen is None:
        return None
    return [
        Started(
            rank=rank,
            host=host,
            # As its script exports them: one after the other, the rank last.
            env={**dict(pair.split("=", 1) for pair in env), "MLX_RANK": str(rank)},
            # One host is no ring: MLX fails on the empty file that mlx.launch gives it (see below).
            files={variable: text for variable, text in files.items() if text},
            command=[python, *command],
            cwd=cwd,
        )
        for rank, host, python, cwd, files, env, command in seen
    ]


def ours(file: hostfile.Hostfile, backend: str, **more: Any) -> list[Started] | None:
    """The same of `ranks.plan`; None: it refuses."""
    try:
        planned = ranks.plan(file.hosts, backend, MLX_LM, **more)
    except ValueError:
        return None
    return [
        Started(
            rank=rank.rank,
            host=rank.host.ssh,
            env=dict(rank.env),
            files=dict(rank.files),
            command=list(rank.command),
            cwd=rank.cwd,
        )
        for rank in planned
    ]


def seen_by_process(started: list[Started] | None) -> list[Started] | None:
    """A file's variable hides one of `--env` with its name: both set it later."""
    return started and [
        replace(each, env={k: v for k, v in each.env.items() if k not in each.files})
        for each in started
    ]


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
MLX_OWN = ["MLX_RANK", "MLX_HOSTFILE", "MLX_IBV_DEVICES", "MLX_JACCL_COORDINATOR"]
VARIABLES = st.from_regex(r"[A-Z_][A-Za-z0-9_]{0,8}", fullmatch=True) | st.sampled_from(
    [*MLX_OWN, "MLX_METAL_FAST_SYNCH", "MLX_JACCL_RING", "JACCL_RING", "COLUMNS", "LINES"]
)
ENVS = st.lists(st.builds("{}={}".format, VARIABLES, TEXT), max_size=4)
IPS = st.lists(st.ip_addresses(v=4).map(str), min_size=1, max_size=3)
DEVICES = st.from_regex(r"rdma_en[0-9]{1,2}", fullmatch=True)
# A device that is twice in a list is refused (STRICTER).
CELLS = DEVICES | st.lists(DEVICES, min_size=1, max_size=3, unique=True)
# Not "--": whether argparse keeps a second one differs between versions of Python.
ARGS = st.lists(TEXT.filter(lambda word: word != "--") | st.just("--port"), max_size=4)


@st.composite
def good(draw: st.DrawFn, backend: str) -> list[dict[str, Any]]:
    """Hosts that have what the backend needs, and often more."""
    size = draw(st.integers(1, 6))
    is_local = draw(st.booleans())
    hosts = []
    seen: set[str] = set()
    for i in range(size):
        host: dict[str, Any] = {"ssh": "127.0.0.1" if is_local else f"me@mac{i}"}
        if backend == "ring" or i == 0 or draw(st.booleans()):
            # An address of two hosts is refused (STRICTER).
            fresh = IPS if is_local else IPS.filter(seen.isdisjoint)
            if not is_local:
                fresh = fresh.filter(lambda ips: not any(map(ranks.is_for_itself, ips)))
            host["ips"] = draw(fresh)
            seen |= {*host["ips"]}
        hosts.append(host)
    if backend == "ring" and draw(st.booleans()):
        return hosts
    for i, host in enumerate(hosts):
        near = {(i - 1) % size, (i + 1) % size}
        needed = {"ring": set(), "jaccl": set(range(size)), "jaccl-ring": near}[backend]
        host["rdma"] = [
            None if i == j else draw(CELLS if j in needed else CELLS | st.none())
            for j in range(size)
        ]
    return hosts


@st.composite
def lacking(draw: st.DrawFn, backend: str) -> list[dict[str, Any]]:
    """Hosts that lack one thing that the backend needs."""
    hosts = draw(good(backend))
    i = draw(st.integers(0, len(hosts) - 1))
    if backend == "ring":
        hosts[i].pop("ips")
        return hosts
    broken = draw(st.sampled_from(["ips", "row", "length", "self", "link"]))
    if broken == "ips":
        hosts[0]["ips"] = []
    elif broken == "row":
        hosts[i].pop("rdma")
    elif broken == "length":
        hosts[i]["rdma"].append(None)
    elif broken == "self" or len(hosts) == 1:
        hosts[i]["rdma"][i] = "rdma_en5"
    else:
        hosts[i]["rdma"][(i + 1) % len(hosts)] = None
    return hosts


@st.composite
def case(draw: st.DrawFn, kind: Any) -> tuple[str, Any, dict[str, Any]]:
    """(backend, hostfile's data, what else is given on the command line)."""
    backend = draw(st.sampled_from(BACKENDS))
    data = draw(kind(backend))
    if draw(st.booleans()):
        data = {"hosts": data, "envs": draw(ENVS), "backend": draw(st.sampled_from(BACKENDS))}
    more = {
        "envs": draw(ENVS),
        "args": draw(ARGS),
        "python": draw(st.sampled_from(["python3", "/opt/home brew/bin/python3.14"])),
        "cwd": draw(st.sampled_from([None, "/tmp", "/a b"])),
        "port": draw(st.integers(1, 65000)),
    }
    return backend, data, more


def both(backend: str, data: Any, more: dict[str, Any]) -> tuple[Any, Any]:
    """What mlx.launch, and what we would start."""
    words = [f"--backend={backend}", f"--python={more['python']}", f"-p={more['port']}"]
    words += [f"--env={pair}" for pair in more["envs"]]
    words += [f"--cwd={more['cwd']}"] if more["cwd"] else []
    text = json.dumps(data)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "hosts.json")
        path.write_text(text)
        expected = theirs(f"--hostfile={path}", *words, "--", *SERVER, *more["args"])
    try:
        file = hostfile.parse(text, "F")
    except BadInput:
        return expected, None
    found = ours(file, backend, **{**more, "envs": [*file.envs, *more["envs"]]})
    return seen_by_process(expected), seen_by_process(found)


@settings(max_examples=100)
@given(case(good))
def test_same_as_mlx_launch(case: tuple[str, Any, dict[str, Any]]) -> None:
    expected, found = both(*case)
    assert expected is not None
    assert found == expected


@settings(max_examples=50)
@given(case(lacking))
def test_refused_as_by_mlx_launch(case: tuple[str, Any, dict[str, Any]]) -> None:
    assert both(*case) == (None, None)


@settings(max_examples=50)
@given(st.lists(st.ip_addresses(v=4).map(str), min_size=1, max_size=6, unique=True), st.data())
def test_repeated_as_by_mlx_launch(names: list[str], draw: st.DataObject) -> None:
    """`mlx.launch --hosts a,b -n 2` is our `--hosts a,b -n 4`: theirs counts ranks of a host."""
    times = draw.draw(st.integers(1, 4))
    expected = theirs(f"--hosts={','.join(names)}", f"-n={times}", "--python=P", "--", *SERVER)
    file = hostfile.repeat(hostfile.from_names(names), times * len(names))
    assert expected is not None
    assert ours(file, "ring", python="P") == expected
    # Names alone tell no devices.
    for backend in ("jaccl", "jaccl-ring"):
        words = [f"--hosts={','.join(names)}", f"-n={times}", f"--backend={backend}"]
        assert theirs(*words, "--", *SERVER) is None
        assert ours(file, backend) is None


# A server that only tells how it was started.
PROBE = """
import json, os, sys
names = [name for name in ("MLX_HOSTFILE", "MLX_IBV_DEVICES") if name in os.environ]
told = {
    "argv": sys.argv[1:],
    "cwd": os.getcwd(),
    "files": {n: open(os.environ[n]).read() for n in names if os.path.isfile(os.environ[n])},
    "env": dict(os.environ),
}
print(json.dumps(told))
"""
SHELLS_OWN = {"PWD", "OLDPWD", "SHLVL", "_"}
CONFIG = {"engines": {"probe": {"command": ["-c", PROBE]}}}


def told(output: str) -> dict[str, Any]:
    """What a probe said, without what its shell adds; a file's path is its process's own."""
    said: dict[str, Any] = json.loads(output.splitlines()[-1])
    said["env"] = {
        name: value
        for name, value in said["env"].items()
        if name not in SHELLS_OWN and name not in said["files"]
    }
    return said


def run(shell: list[str], folder: Path, script: str | None = None, **env: str) -> str:
    """A script's output, in an environment of its own; what it writes goes to `folder`."""
    base = {"PATH": os.environ["PATH"], "HOME": str(folder), "TMPDIR": str(folder)}
    done = subprocess.run(
        shell,
        input=script,
        env={**base, "PYTHONUTF8": "1", "LC_ALL": "C.UTF-8", **env},
        cwd=folder,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def cluster_of(
    folder: Path, data: Any, args: Sequence[str] = (), **options: Any
) -> clusters.Cluster:
    """The cluster of a hostfile's data, with a probe for its server; it keeps to `folder`."""
    path = folder / "hosts.json"
    path.write_text(json.dumps(data))
    config = {**CONFIG, "state_dir": str(folder / "state"), "log_dir": str(folder / "logs")}
    options = {"engine": "probe", "python": sys.executable, **options}
    return clusters.build(config, args, hostfile=str(path), **options)


RUN = launch.Run("run1", "me@here", 0.0)
LIVE_ENVS = st.lists(
    st.builds(
        "{}={}".format,
        # Names that a script of ours might use itself, and MLX's.
        st.from_regex(r"X[A-Za-z0-9_]{0,6}", fullmatch=True)
        | st.sampled_from(["S", "LOG", "P", "T", "B", "n", "v", "pid", "code", "name", "line"])
        | st.sampled_from([*MLX_OWN, "JACCL_RING"]),
        TEXT,
    ),
    max_size=5,
)


@settings(max_examples=25)
@given(st.sampled_from(BACKENDS).flatmap(lambda b: st.tuples(st.just(b), good(b))), LIVE_ENVS, ARGS)
def test_runs_as_with_mlx_launch(
    case: tuple[str, list[dict[str, Any]]], envs: list[str], args: list[str]
) -> None:
    """The scripts of both, run: the server gets the same environment, files, words and folder."""
    backend, hosts = case
    args = [word for word in args if word != "--port"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cwd = folder / "a b"
        cwd.mkdir()
        file = hostfile.parse(json.dumps(hosts), "F")
        assume(ranks.impossible(backend, file.hosts) is None)
        cluster = cluster_of(folder, hosts, args, backend=backend, env=envs, cwd=str(cwd))
        words = [f"--backend={backend}", f"--hostfile={folder}/hosts.json", f"--cwd={cwd}"]
        words += [f"--env={pair}" for pair in envs] + [f"--python={sys.executable}"]
        expected = oracle(*words, "--", "-c", PROBE, *args)
        assert expected is not None
        assert len(cluster.ranks) == len(expected)
        for rank, arguments in list(zip(cluster.ranks, expected, strict=True))[:2]:
            number, _, *rest = arguments
            script = mlx_launch.RemoteProcess.make_launch_script(number, *rest, True)
            launched = told(run(["/bin/bash", "-c", script], folder))
            launched["files"] = {
                name: text for name, text in launched["files"].items() if text.strip()
            }
            ours = told(run(["/bin/sh", "-s"], folder, launch.foreground(cluster, rank, RUN)))
            # By which what a rank starts is known.
            assert ours["env"].pop("MLX_TP_RANK_OF") == f"run1.{rank.rank}"
            # mlx.launch gives a ring of one an empty file there, and we none.
            if backend == "ring" and len(cluster.ranks) == 1:
                ours["env"].pop("MLX_HOSTFILE", None)
            assert ours == launched


def test_runs_in_the_background(tmp_path: Path) -> None:
    """All ranks of a node, detached: each has its own log, files and end, whatever --env says."""
    hosts = [{"ssh": "127.0.0.1", "ips": ["127.0.0.1"]}] * 3
    envs = ["S=/nowhere", "LOG=/nowhere/log", "P=1", "tp=2"]
    cluster = cluster_of(tmp_path, hosts, ["a b", "$(id)", "`id`\\\nEND"], env=envs)
    assert run(["/bin/sh", "-s"], tmp_path, launch.background(cluster, cluster.ranks, RUN)) == ""
    for rank in cluster.ranks:
        end = layout.of_rank(tmp_path / "state", rank.rank, "exit")
        wait_for(end.exists)
        assert end.read_text() == "0\n"
        record = layout.record(tmp_path / "state", rank.rank)
        assert record["command"] == list(rank.command)
        log = Path(launch.log_path(cluster, rank, RUN.id)).read_text()
        assert log.startswith(launch.header(RUN, rank) + "\n")
        said = told(log)
        assert said["argv"] == list(rank.command[3:])
        assert said["files"] == {"MLX_HOSTFILE": rank.files["MLX_HOSTFILE"] + "\n"}
        assert said["env"].items() >= rank.env.items()


# Where ours differs on purpose: (why, hostfile's data, words for mlx.launch, our options).
PAIR = [{"ssh": "m0", "ips": ["10.0.0.1"]}, {"ssh": "m1", "ips": ["10.0.0.2"]}]
ROWS = [[None, "rdma_en5"], ["rdma_en5", None]]
LINKED = [{**host, "rdma": row} for host, row in zip(PAIR, ROWS, strict=True)]


def mesh_of(size: int, device: str = "") -> list[dict[str, Any]]:
    """A full mesh as mlx.distributed_config writes it; `device`: each host has that one alone."""
    return [
        {
            "ssh": f"m{i}",
            "ips": [f"192.0.2.{i + 1}"],
            "rdma": [None if i == j else device or f"rdma_en{j + 2}" for j in range(size)],
        }
        for i in range(size)
    ]


STRICTER: list[tuple[str, Any, list[str], dict[str, Any]]] = [
    ("a variable without = is a slip; mlx sets it empty", PAIR, ["--env=A"], {"env": ["A"]}),
    ("mlx warns of an odd name and ignores it", PAIR, ["--env=A B=c"], {"env": ["A B=c"]}),
    ("mlx's bash refuses it later, on the node", PAIR, ["--env=1A=b"], {"env": ["1A=b"]}),
    (
        "a wrong row is wrong, also where ring has no use for it",
        [{**PAIR[0], "rdma": ["r"]}],
        [],
        {},
    ),
    ("a host twice is a slip of the pen; -n says it", [PAIR[0], PAIR[0]], [], {}),
    ("an address of two hosts", [PAIR[0], {**PAIR[1], "ips": ["10.0.0.1"]}], [], {}),
    ("one machine by two names", [PAIR[0], {**PAIR[1], "ssh": "me@m0"}], [], {}),
    (
        "a ring of sides that differ",
        [PAIR[0], {**PAIR[1], "ips": ["10.0.0.2", "10.0.1.2"]}],
        [],
        {},
    ),
    ("a mesh of nine", mesh_of(9), ["--backend=jaccl"], {}),
    ("a cable with three ends", mesh_of(3, "rdma_en3"), ["--backend=jaccl"], {}),
    ("MLX's ring takes IPv4 addresses only", [{"ssh": "a", "ips": ["::1"]}], [], {}),
    (
        "a device twice in a list",
        [{**LINKED[0], "rdma": [None, ["r", "r"]]}, LINKED[1]],
        ["--backend=jaccl"],
        {},
    ),
    ("[] is no device", [{**LINKED[0], "rdma": [None, []]}, LINKED[1]], ["--backend=jaccl"], {}),
    ("no shell would take this name for a host", [{"ssh": "a b", "ips": ["10.0.0.1"]}], [], {}),
]


@pytest.mark.parametrize(
    ("why", "data", "words", "options"), STRICTER, ids=[r[0] for r in STRICTER]
)
def test_stricter(
    tmp_path: Path, why: str, data: Any, words: list[str], options: dict[str, Any]
) -> None:
    with pytest.raises(BadInput):
        cluster_of(
            tmp_path, data, backend="jaccl" if "--backend=jaccl" in words else "ring", **options
        )
    backend = [] if "--backend=jaccl" in words else ["--backend=ring"]
    assert oracle(f"--hostfile={tmp_path}/hosts.json", *backend, *words, "--", *SERVER)


@pytest.mark.parametrize(
    ("backend", "hosts", "says"),
    [
        ("jaccl", mesh_of(8), None),
        (
            "jaccl",
            mesh_of(9),
            "a mesh has at most 8 ranks, and these are 9: jaccl-ring takes more: --backend,",
        ),
        ("jaccl-ring", mesh_of(9), None),
        (
            "jaccl",
            mesh_of(3, "rdma_en3"),
            "hosts[0].rdma: rdma_en3 of m0 leads to m1 and to m2, and a cable has one other end:"
            " correct the row, or inv rdma.discover --hosts m0,m1,m2 --write FILE",
        ),
        (
            "jaccl-ring",
            [
                {"ssh": "a", "ips": ["10.0.0.1"], "rdma": [None, ["x1", "x2"], "x3"]},
                {"ssh": "b", "rdma": [["y1", "y2"], None, "y3"]},
                {"ssh": "c", "rdma": ["z1", "z2", None]},
            ],
            "hosts[0].rdma has 2 devices to a neighbour, others have 1: a ring wants the same",
        ),
        (
            "ring",
            [{"ssh": "a", "ips": ["10.0.0.1", "10.0.1.1"]}, {"ssh": "b", "ips": ["10.0.0.2"]}],
            "hosts[0] has 2 ips, hosts[1] has 1: a ring wants the same number of each: write 1",
        ),
        (
            "jaccl-ring",
            [
                {"ssh": "a", "ips": ["10.0.0.1"], "rdma": [None, [f"x{n}" for n in range(6)]]},
                {"ssh": "b", "rdma": [[f"y{n}" for n in range(6)], None]},
            ],
            "hosts[0].rdma has 6 devices to a neighbour: jaccl-ring takes 4 at most, leave out 2",
        ),
        # mlx.distributed_config with --hosts of addresses names each twice.
        (
            "ring",
            [{"ssh": n, "ips": [f"10.0.0.{n}"] * 2} for n in "12"],
            None,
        ),
    ],
)
def test_what_can_not_work(backend: str, hosts: list[dict[str, Any]], says: str | None) -> None:
    file = hostfile.parse(json.dumps(hosts), "F")
    found = ranks.impossible(backend, file.hosts)
    assert found is None if says is None else found and found.startswith(says)


# a, b and c in a mesh of cables, each link a subnet; a ring's ips face the host before.
LINKS = {
    "a": {"en3": "10.254.0.1/30", "en4": "10.254.0.5/30"},
    "b": {"en3": "10.254.0.2/30", "en4": "10.254.0.9/30"},
    "c": {"en3": "10.254.0.6/30", "en4": "10.254.0.10"},
}
FACING = {"a": "10.254.0.5", "b": "10.254.0.2", "c": "10.254.0.10"}


def ring_of(names: str, ips: dict[str, str] = FACING) -> list[dict[str, Any]]:
    return [{"ssh": name, "ips": [ips[name]], "links": LINKS[name]} for name in names]


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (3, ["10.254.0.5", "10.254.0.2", "10.254.0.10"]),
        (2, ["10.254.0.1", "10.254.0.2"]),
        (1, ["10.254.0.5"]),
        # Several ranks on each host: as the file has it.
        (6, ["10.254.0.5"] * 2 + ["10.254.0.2"] * 2 + ["10.254.0.10"] * 2),
    ],
)
def test_fewer_ranks_of_a_ring(tmp_path: Path, count: int, expected: list[str]) -> None:
    """Each rank's address is the one on its link to the rank before it."""
    cluster = cluster_of(tmp_path, ring_of("abc"), backend="ring", num_ranks=count)
    assert [rank.host.ips[0] for rank in cluster.ranks] == expected


def test_fewer_ranks_without_a_link_to_close_the_ring(tmp_path: Path) -> None:
    data = [*ring_of("abc"), {"ssh": "d", "ips": ["10.254.0.13"], "links": {"en3": "10.254.0.13"}}]
    data[0]["links"] = {"en3": "10.254.0.1/30", "en4": "10.254.0.14"}
    data[0]["ips"] = ["10.254.0.14"]
    data[2]["links"] = {"en4": "10.254.0.10/30"}
    with pytest.raises(
        BadInput, match=r"-n 3: no link between c and a, .*: --hosts a,b,c goes over"
    ):
        cluster_of(tmp_path, data, backend="ring", num_ranks=3)
    found = cluster_of(tmp_path, data, backend="ring", num_ranks=2)
    assert [rank.host.ips[0] for rank in found.ranks] == ["10.254.0.1", "10.254.0.2"]


def test_fewer_ranks_over_their_own_network(tmp_path: Path) -> None:
    """Addresses of no link are reached by all: they stay."""
    own = {"a": "192.0.2.1", "b": "192.0.2.2", "c": "192.0.2.3"}
    cluster = cluster_of(tmp_path, ring_of("abc", own), backend="ring", num_ranks=2)
    assert [rank.host.ips[0] for rank in cluster.ranks] == ["192.0.2.1", "192.0.2.2"]


def test_loopback_beside_a_real_address(tmp_path: Path) -> None:
    """What mlx.distributed_config finds for 127.0.0.1: others can't reach the first."""
    data = [
        {"ssh": "127.0.0.1", "ips": ["127.0.0.1", "192.0.2.1"]},
        {"ssh": "b", "ips": ["192.0.2.2"]},
    ]
    cluster = cluster_of(tmp_path, data, backend="ring")
    assert [rank.host.ips for rank in cluster.ranks] == [("192.0.2.1",), ("192.0.2.2",)]
    assert cluster.notes == ["127.0.0.1: using 192.0.2.1: others can't reach 127.0.0.1"]


def test_no_addresses(tmp_path: Path) -> None:
    """mlx.launch refuses ring without ips; here the control machine looks them up and says so."""
    data = [{"ssh": "127.0.0.1"}, {"ssh": "127.0.0.1"}]
    cluster = cluster_of(tmp_path, data, backend="ring")
    assert oracle(f"--hostfile={tmp_path}/hosts.json", "--backend=ring", "--", *SERVER) is None
    assert cluster.notes == ["127.0.0.1: no ips given, using 127.0.0.1"]
    assert json.loads(cluster.ranks[0].files["MLX_HOSTFILE"]) == [
        ["127.0.0.1:32323"],
        ["127.0.0.1:32324"],
    ]
    assert [rank.ports for rank in cluster.ranks] == [(32323,), (32324,)]


def test_a_lookup_keeps_nobody_from_ctrl_c(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """C code can't be interrupted: the main thread, which is, only waits for it."""
    threads = []

    def look(name: str, *_: object) -> list[tuple[object, ...]]:
        threads.append(threading.current_thread())
        return [(0, 0, 0, "", ("192.0.2.1", 0))]

    monkeypatch.setattr(socket, "getaddrinfo", look)
    cluster_of(tmp_path, [{"ssh": "a"}, {"ssh": "b"}], backend="ring")
    assert len(threads) == 2
    assert threading.main_thread() not in threads


def test_one_rank(tmp_path: Path) -> None:
    """mlx.launch gives a ring of one an empty file, on which MLX fails; ours gives it none."""
    cluster = cluster_of(tmp_path, [{"ssh": "127.0.0.1", "ips": ["127.0.0.1"]}], backend="ring")
    expected = oracle(f"--hostfile={tmp_path}/hosts.json", "--backend=ring", "--", *SERVER)
    assert expected is not None
    assert expected[0][4] == {"MLX_HOSTFILE": ""}
    assert [rank.files for rank in cluster.ranks] == [{}]


def test_no_backend(tmp_path: Path) -> None:
    """mlx.launch takes ring where nothing is said (nccl with CUDA); here that means `any`."""
    assert cluster_of(tmp_path, LINKED).backend == "jaccl"
    expected = oracle(f"--hostfile={tmp_path}/hosts.json", "--", *SERVER)
    assert expected is not None
    assert "MLX_HOSTFILE" in expected[0][4]


def test_repeated_hostfile(tmp_path: Path) -> None:
    """mlx.launch ignores -n with a hostfile; here it counts ranks, and rows go with the cut."""
    data = [{**PAIR[0], "rdma": []}, PAIR[1]]
    names = [rank.host.ssh for rank in cluster_of(tmp_path, data, num_ranks="4").ranks]
    assert names == ["m0", "m0", "m1", "m1"]
    expected = oracle(f"--hostfile={tmp_path}/hosts.json", "-n=2", "--", *SERVER)
    assert expected is not None
    assert [arguments[1] for arguments in expected] == ["m0", "m1"]
    assert [rank.host.rdma for rank in cluster_of(tmp_path, LINKED, num_ranks="1").ranks] == [
        (None,)
    ]


def test_engine_has_the_last_word(tmp_path: Path) -> None:
    """vllm-mlx reads its backend from a variable, which mlx.launch does not set."""
    for backend in BACKENDS:
        planned = ranks.plan(
            hostfile.parse(json.dumps(LINKED), "F").hosts,
            backend,
            VLLM_MLX,
            envs=["MLX_DISTRIBUTED_BACKEND=user's"],
        )
        # To MLX a jaccl ring is jaccl: it has no backend of the other name.
        name = "ring" if backend == "ring" else "jaccl"
        assert {rank.env["MLX_DISTRIBUTED_BACKEND"] for rank in planned} == {name}
        assert planned[1].command == ("python3", "-m", "vllm_mlx.distributed_launcher")


def test_one_rank_of_vllm_mlx() -> None:
    """Its launcher refuses to be alone."""
    (rank,) = ranks.plan([Host("a", ("10.0.0.1",))], "ring", VLLM_MLX, args=["--model", "m"])
    assert rank.command == ("python3", "-m", "vllm_mlx.server", "--model", "m")


@pytest.mark.parametrize(
    ("choice", "envs", "value", "called"),
    [
        ("unset", [], None, "unset"),
        ("on", [], "1", "on"),
        ("off", [], "0", "off"),
        # A hostfile's own envs win.
        ("off", ["MLX_METAL_FAST_SYNCH=1"], "1", "on"),
        ("on", ["MLX_METAL_FAST_SYNCH=0"], "0", "off"),
        ("on", ["MLX_METAL_FAST_SYNCH="], "", "off"),
        ("unset", ["MLX_METAL_FAST_SYNCH=2"], "2", "on"),
    ],
)
def test_fast_synch(choice: str, envs: list[str], value: str | None, called: str) -> None:
    hosts = [Host("a", ("10.0.0.1",))]
    (rank,) = ranks.plan(hosts, "ring", MLX_LM, envs=envs, fast_synch=choice)
    assert rank.env.get("MLX_METAL_FAST_SYNCH") == value
    assert ranks.fast_synch_of(rank.env) == called


def test_engine_env_is_text() -> None:
    """Only {backend} has a meaning in it; other braces are the engine's own."""
    engine = Engine("mine", ("x",), "/", "x", env={"A": '{"b": {backend}, {}}'})
    (rank,) = ranks.plan([Host("a", ("10.0.0.1",))], "ring", engine)
    assert rank.env["A"] == '{"b": ring, {}}'


def test_stale_variables(tmp_path: Path) -> None:
    """What an earlier life left in a node's environment would win over ours: it is cleared."""
    stale = {"JACCL_RING": "1", "MLX_JACCL_RING": "1", "MLX_IBV_DEVICES": "/x", "MLX_RANK": "7"}
    cluster = cluster_of(tmp_path, LINKED, backend="ring", env=["JACCL_MINE=kept"])
    script = launch.foreground(cluster, cluster.ranks[0], RUN)
    said = told(run(["/bin/sh", "-s"], tmp_path, script, OTHER="kept", **stale))
    assert "JACCL_RING" not in said["env"]
    assert "MLX_JACCL_RING" not in said["env"]
    assert "MLX_IBV_DEVICES" not in said["env"]
    assert said["env"]["MLX_RANK"] == "0"
    assert (said["env"]["OTHER"], said["env"]["JACCL_MINE"]) == ("kept", "kept")


def test_folder(tmp_path: Path) -> None:
    """`~` is the home on the node, and a folder that is not there is an error; mlx.launch has
    neither: it quotes `~`, and goes on in another folder."""
    (tmp_path / "work").mkdir()
    cluster = cluster_of(tmp_path, LINKED, backend="ring", cwd="~/work")
    script = launch.foreground(cluster, cluster.ranks[0], RUN)
    assert told(run(["/bin/sh", "-s"], tmp_path, script))["cwd"] == str(tmp_path / "work")
    (tmp_path / "work").rmdir()
    with pytest.raises(AssertionError, match="work"):
        run(["/bin/sh", "-s"], tmp_path, script)


def rows(*all_rows: list[Any]) -> list[Host]:
    return [Host(f"m{i}", ("10.0.0.1",), tuple(row)) for i, row in enumerate(all_rows)]


MESH = rows([None, "a", "b"], ["a", None, "c"], ["b", ("c", "d"), None])
LINE = rows([None, "a", None], ["a", None, "c"], [None, "c", None])
RING4 = rows(
    [None, "a", None, "d"], ["a", None, "b", None], [None, "b", None, "c"], ["d", None, "c", None]
)


@pytest.mark.parametrize("wanted", ["", "any"])
@pytest.mark.parametrize(
    ("hosts", "backend"),
    [
        (MESH, "jaccl"),
        (MESH[:2], "ring"),  # rows of three for two hosts
        (rows([None, "a"], ["a", None]), "jaccl"),
        (LINE, "ring"),
        (RING4, "ring"),  # good for jaccl-ring, which must be asked for
        ([*MESH[:2], Host("m2")], "ring"),
        ([Host("a"), Host("b")], "ring"),
        (rows([None]), "ring"),
        ([Host("a")], "ring"),
    ],
)
def test_any(wanted: str, hosts: list[Host], backend: str) -> None:
    assert ranks.resolve(wanted, hosts) == backend
    for said in BACKENDS:
        assert ranks.resolve(said, hosts) == said


@pytest.mark.parametrize(
    ("backend", "hosts", "missing"),
    [
        ("jaccl", MESH, []),
        ("jaccl-ring", MESH, []),
        ("jaccl", LINE, [(0, 2), (2, 0)]),
        ("jaccl-ring", LINE, [(0, 2), (2, 0)]),
        ("jaccl", RING4, [(0, 2), (1, 3), (2, 0), (3, 1)]),
        ("jaccl-ring", RING4, []),
        ("jaccl", rows([None, "a"], [None, None]), [(1, 0)]),
        ("jaccl-ring", rows([None, "a"], [None, None]), [(1, 0)]),
        ("jaccl", rows([None]), []),
        ("jaccl-ring", rows([None]), []),
    ],
)
def test_missing_links(backend: str, hosts: list[Host], missing: list[tuple[int, int]]) -> None:
    assert ranks.missing_links(backend, hosts) == missing


def test_several_ranks_on_a_host() -> None:
    """The file has rows, and the ranks of one host have none between them: no row would help."""
    each = hostfile.repeat(hostfile.Hostfile("F", tuple(MESH[:2])), 4).hosts
    wrong = ranks.check("jaccl", each)
    assert wrong == (
        'jaccl runs one rank on a host: -n 2 at most, or --backend ring ("backend" in the file)'
    )


@pytest.mark.parametrize("backend", ["jaccl", "jaccl-ring"])
def test_a_host_twice_with_rows(backend: str) -> None:
    """As of a file that was written to try it on one Mac: no cable leads from it to itself."""
    row = {"ssh": "localhost", "ips": ["127.0.0.1"]}
    data = [{**row, "rdma": [None, "rdma_en5"]}, {**row, "rdma": ["rdma_en5", None]}]
    wrong = ranks.impossible(backend, hostfile.parse(json.dumps(data), "F").hosts)
    assert wrong
    assert wrong.startswith(f"{backend} runs one rank on a host: -n 1 at most, or --backend ring")


@pytest.mark.parametrize(
    ("backend", "hosts", "says"),
    [
        ("ring", [Host("a", ("10.0.0.1",)), Host("b")], 'hosts[1] has no "ips": ring needs'),
        ("jaccl", [Host("a", (), (None,))], 'hosts[0] has no "ips": jaccl needs the address'),
        ("jaccl", MESH[:2], 'hosts[0] has no "rdma" row of 2: jaccl needs one, or --backend ring'),
        ("jaccl", LINE, "hosts[0].rdma[2] is null: jaccl needs a device from host 0 to host 2"),
        ("jaccl-ring", RING4[:3], 'hosts[0] has no "rdma" row of 3'),
    ],
)
def test_what_is_lacking(backend: str, hosts: list[Host], says: str) -> None:
    wrong = ranks.check(backend, hosts)
    assert wrong is not None
    assert wrong.startswith(says)
    with pytest.raises(ValueError, match=r"^hosts") as error:
        ranks.plan(hosts, backend, MLX_LM)
    assert str(error.value) == wrong


def test_ports_and_own_settings() -> None:
    """Ports count up over the addresses; a host's python and folder win over the rest."""
    hosts = [Host("a", ("10.0.0.1", "10.0.1.1"), python="/p", cwd="~/w"), Host("b", ("10.0.0.2",))]
    first, second = ranks.plan(hosts, "ring", MLX_LM, python="py", cwd="/c", port=9000)
    assert (first.ports, second.ports) == ((9000, 9001), (9002,))
    assert (first.command, first.cwd) == (("/p", *SERVER), "~/w")
    assert (second.command, second.cwd) == (("py", *SERVER), "/c")
    # Of jaccl only rank 0 listens, for the others.
    assert [rank.ports for rank in ranks.plan(MESH, "jaccl", MLX_LM)] == [(32323,), (), ()]
