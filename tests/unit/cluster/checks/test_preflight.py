"""Checks as data: facts -> findings. Unknown is never ok."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from ipaddress import IPv4Interface
from pathlib import Path
from typing import Any

import pytest

from tasks.cluster.checks import CHECKS, FAIL, OK, WARN, Expected, Finding, servers
from tasks.cluster.checks import hosts as meeting_checks
from tasks.cluster.checks import memory as memory_check
from tasks.cluster.checks import ports as ports_checks
from tasks.cluster.checks import processes as processes_checks
from tasks.cluster.checks import rdma as rdma_checks
from tasks.cluster.checks.model import one_path, parts, refused
from tasks.cluster.config import ranks
from tasks.cluster.config.engine import MLX_LM, VLLM_MLX, Engine
from tasks.cluster.config.hostfile import Host
from tasks.cluster.facts import Key, NodeFacts, Unknown
from tasks.cluster.facts.links import rdma, reach
from tasks.cluster.facts.links.reach import MeetingReach
from tasks.cluster.facts.machine import hardware, memory, ports, processes, versions
from tasks.cluster.facts.machine.memory import GIB, Memory
from tasks.cluster.facts.machine.ports import PortHolder
from tasks.cluster.facts.machine.processes import Process
from tasks.cluster.facts.models import model
from tasks.cluster.facts.models.model import Model
from tasks.cluster.facts.server import state
from tasks.cluster.facts.server.state import Record
from tasks.cluster.facts.snapshot import Snapshot

DATA = Path(__file__).parents[3] / "data" / "macos"
MATRIX = [[None, "rdma_en5"], ["rdma_en4", None]]
HOSTS = [
    Host("mac1", ("10.254.0.5",), (None, "rdma_en5")),
    Host("mac2", ("10.254.0.9",), ("rdma_en4", None)),
]


def expected(backend: str = "jaccl", engine: Engine = MLX_LM, **more: Any) -> Expected:
    planned = ranks.plan(HOSTS, backend, engine)
    made = Expected(planned, backend, engine, 8000, "llama", 350 * GIB, 30.0)
    return replace(made, **more)


def found(check: str, mac1: Any, mac2: Any, **more: Any) -> list[Finding]:
    """The findings of one check; each node's value of the fact that the check reads."""
    read = told(mac1={KEYS[check]: mac1}, mac2={KEYS[check]: mac2})
    return CHECKS[check].findings(expected(**more), read)


def told(**nodes: Mapping[Key[Any], Any]) -> Snapshot:
    return Snapshot({node: NodeFacts(node, values) for node, values in nodes.items()}, {})


KEYS: dict[str, Key[Any]] = {
    "memory": memory.KEY,
    "ports": ports.KEY,
    "model": model.KEY,
    "versions": versions.KEY,
    "cooldown": state.KEY,
}


def levels(findings: list[Finding]) -> list[tuple[str, str]]:
    return [(finding.node, finding.level) for finding in findings]


def text(name: str, *swaps: tuple[str, str]) -> str:
    """A good output of a Mac, with some of it swapped for a fault."""
    good = (DATA / name).read_text()
    for old, new in swaps:
        bad = re.sub(old, new, good, flags=re.MULTILINE)
        assert bad != good, old
        good = bad
    return good


def idle(**more: Any) -> state.State:
    return replace(state.State(1000.0, {}, None, None), **more)


def ran(rank: int, alive: bool, pid: int | None = 4130) -> state.State:
    return idle(ranks={rank: state.RankState(rank, None, pid, alive=alive)})


WIRED = [
    (9.0, OK, "9.0 of 512 GiB wired"),
    (350.0, OK, "350.0 of 512 GiB wired"),
    (350.1, FAIL, "350.1 of 512 GiB wired (limit 350 GiB)"),
    (414.0, FAIL, "414.0 of 512 GiB wired (limit 350 GiB)"),
]


@pytest.mark.parametrize(("gib", "level", "what"), WIRED)
def test_memory(gib: float, level: str, what: str) -> None:
    value = Memory(512 * GIB, int(gib * GIB), 16384)
    one, two = found("memory", value, value)
    assert one == replace(two, node="mac1")
    assert (one.check, one.level, one.what) == ("memory", level, what)
    assert ("reboot" in one.fix) == (level == FAIL)


def test_memory_of_a_mac() -> None:
    value = memory.parse(text("memory.txt"), 0)
    assert levels(found("memory", value, value, wired_limit=20 * GIB)) == [
        ("mac1", OK),
        ("mac2", OK),
    ]
    assert levels(found("memory", value, value, wired_limit=20 * GIB - 1)) == [
        ("mac1", FAIL),
        ("mac2", FAIL),
    ]


def _node(listed: Any, kept: Any) -> dict[Key[Any], Any]:
    return {processes.KEY: listed, state.KEY: kept}


@pytest.mark.parametrize(
    ("gib", "level"), [(49, OK), (61, OK), (61.25, FAIL), (62, FAIL)], ids=lambda each: str(each)
)
def test_a_leak_is_a_tenth_of_the_memory(gib: float, level: str) -> None:
    """Above what was wired before this boot's first start: 51.2 of 512 GiB are none yet."""
    value = Memory(512 * GIB, int(gib * GIB), 16384)
    kept = {memory.KEY: value, **_node({}, idle(baseline=10 * GIB))}
    found = CHECKS["memory"].findings(expected(), told(mac1=kept))[0]
    assert found.level == level
    assert ("than before this boot's first start" in found.what) == (level == FAIL)


def test_what_is_no_leak() -> None:
    """What a server holds that runs; what is not known; less than before."""
    value, much = Memory(512 * GIB, 200 * GIB, 16384), idle(baseline=10 * GIB)

    def leak(**values: Any) -> int:
        facts = {memory.KEY: value, **_node({}, much)}
        facts.update({KEYS_OF[name]: each for name, each in values.items()})
        return memory_check.leaked(expected(), NodeFacts("mac1", facts))

    assert leak() == 190 * GIB
    assert leak(processes=SERVER) == 0
    assert leak(state=idle(baseline=None)) == 0
    assert leak(state=Unknown("no answer")) == 0
    assert leak(memory=Unknown("no answer")) == 0
    assert leak(state=idle(baseline=300 * GIB)) == 0


KEYS_OF: dict[str, Key[Any]] = {
    "memory": memory.KEY,
    "processes": processes.KEY,
    "state": state.KEY,
}


SERVER = processes.parse(text("processes.txt"), 0)
STRANGERS = {pid: each for pid, each in SERVER.items() if pid != 4130}
PROCESSES = [
    (_node(STRANGERS, idle()), [(OK, "no server runs")]),
    (_node({}, ran(0, alive=False)), [(OK, "no server runs")]),
    (_node(SERVER, idle()), [(WARN, "also runs: a mlx-lm server (pid 4130)")]),
    # Our own rank is called by its rank, also where ps shows it.
    (_node(SERVER, ran(1, alive=True)), [(FAIL, "already runs: rank 1 (pid 4130)")]),
    (
        _node(SERVER, ran(1, alive=True, pid=7)),
        [(FAIL, "already runs: rank 1 (pid 7)")],
    ),
    (_node({}, ran(1, alive=True, pid=7)), [(FAIL, "already runs: rank 1 (pid 7)")]),
    (_node(Unknown("x"), idle()), [(FAIL, "unknown: x")]),
    (_node({}, Unknown("y")), [(FAIL, "unknown: y"), (OK, "no server runs")]),
    (_node(Unknown("x"), Unknown("y")), [(FAIL, "unknown: y"), (FAIL, "unknown: x")]),
    ({state.KEY: idle()}, [(FAIL, "unknown: it was not asked")]),
]


@pytest.mark.parametrize(("node", "findings"), PROCESSES)
def test_processes(node: dict[Key[Any], Any], findings: list[tuple[str, str]]) -> None:
    judged = processes_checks.processes(expected(), told(mac1=node))
    assert [(each.level, each.what) for each in judged] == findings
    assert all(each.fix for each in judged if each.level == FAIL)


OWN = Process(7, 1, 7, 0, "python3", "python3 -m mlx_lm server", user="me", is_own=True, rank=1)
PLAIN = OWN._replace(rank=None)
MINE = "already runs: rank 1 without a record (pid 7)"
UNKNOWN = "rank 1 that no record knows runs (pid 7, me)"
FOLDERS = ("/h/.mlx-tp/default", "/h/.mlx-tp")
LEFT = "inv tp.stop --all, or --skip processes"
# What a process is, by its owner, environment and sockets: level, what, fix.
WHOSE: Any = [
    (OWN._replace(meets=frozenset({32323})), {}, (FAIL, MINE, "stop it: inv tp.stop")),
    (OWN._replace(meets=frozenset({1, 32323}), is_rdma=True), {},
     (FAIL, MINE, "stop it: inv tp.stop")),
    (OWN._replace(lost_file="/h/.mlx-tp/default/runs/1f/rank-1.f"), {},
     (FAIL, MINE, "stop it: inv tp.stop")),
    # A server that the layout before has started.
    (OWN._replace(lost_file="/h/.mlx-tp/rank1.f"), {}, (FAIL, MINE, "stop it: inv tp.stop")),
    # Of another cluster of ours.
    (OWN._replace(lost_file="/h/.mlx-tp/b/runs/1f/rank-1.f"), {}, (FAIL, UNKNOWN, LEFT)),
    # Of another home, with processes that we may see.
    (OWN._replace(lost_file="/other/.mlx-tp/rank1.f"), {}, (FAIL, UNKNOWN, LEFT)),
    (OWN._replace(program="sleep", command="sleep 9", meets=frozenset({32323})), {},
     (FAIL, MINE, "stop it: inv tp.stop")),
    (PLAIN, {32323: (PortHolder(7, "python3"),)},
     (FAIL, "already runs: a mlx-lm rank without a record (pid 7)", "stop it: inv tp.stop")),
    (OWN, {}, (FAIL, UNKNOWN, LEFT)),
    (OWN._replace(meets=frozenset({32324})), {}, (FAIL, UNKNOWN, LEFT)),
    (OWN._replace(lost_file="/tmp/tmp.x"), {}, (FAIL, UNKNOWN, LEFT)),
    (OWN._replace(program="sleep", command="sleep 9"), {},
     (FAIL, UNKNOWN, "end it on that node, or --skip processes")),
    (OWN._replace(meets=frozenset({32323}), is_own=False, user="eve"), {},
     (FAIL, UNKNOWN.replace("me", "eve"), "ask eve, or --skip processes")),
    # Of another cluster, whose record is elsewhere: only over the devices that we want.
    (OWN._replace(mark="abc.1"), {},
     (WARN, "also runs: a mlx-lm server (pid 7)",
      "it shares the memory; inv tp.stop leaves it, --all ends it")),
    (OWN._replace(mark="2b.1", meets=frozenset({32323})), {},
     (WARN, "also runs: a mlx-lm server (pid 7)",
      "it shares the memory; inv tp.stop leaves it, --all ends it")),
    (OWN._replace(mark="abc.1", is_rdma=True), {},
     (FAIL, "rank 1 of another cluster runs (pid 7, me)", LEFT)),
    (PLAIN, {8000: (PortHolder(7, "python3"),)},
     (WARN, "also runs: a mlx-lm server (pid 7)",
      "it shares the memory; inv tp.stop leaves it, --all ends it")),
]  # fmt: skip


@pytest.mark.parametrize(("process", "listening", "right"), WHOSE)
def test_whose_a_process_is(
    process: Process, listening: dict[int, Any], right: tuple[str, str, str]
) -> None:
    there = idle(folders=FOLDERS, others=frozenset({"2b"}))
    node = {processes.KEY: {7: process}, state.KEY: there, ports.KEY: listening}
    (judged,) = processes_checks.processes(expected(), told(mac1=node))
    assert (judged.level, judged.what, judged.fix) == right


def test_what_a_rank_has_started_is_not_told_beside_it() -> None:
    child = OWN._replace(pid=8, ppid=7)
    node = {processes.KEY: {7: OWN, 8: child}, state.KEY: idle(), ports.KEY: {}}
    assert processes_checks.processes(expected(), told(mac1=node))[0].what == UNKNOWN


def test_a_recorded_ranks_own_are_known_by_its_mark() -> None:
    """They are no ranks without a record, whoever listens; what comes after them is looked at."""
    where: Any = dict.fromkeys(("host", "backend", "engine", "ready", "model", "bind", "by"), "")
    record = Record("1f", 1, 2, command=[], env=[], port=0, ports=[], log=None, started=0, **where)
    alive = state.RankState(1, record, 6, alive=True)
    ours = OWN._replace(mark=processes.mark("1f", 1), meets=frozenset({32323}))
    child = ours._replace(pid=8, ppid=7)
    left = OWN._replace(pid=9, ppid=1, meets=frozenset({32323}))
    holders = {8000: (PortHolder(8, "x"),)}
    node = {state.KEY: idle(ranks={1: alive}), processes.KEY: {7: ours, 8: child, 9: left}}
    facts = NodeFacts("mac1", {**node, ports.KEY: holders})
    assert servers.marks(facts) == {processes.mark("1f", 1)}
    assert servers.unrecorded(expected(), facts) == {9: "rank 1 without a record"}
    (judged,) = ports_checks.ports(expected(), Snapshot({"mac1": facts}, {}))
    assert judged.fix == "inv tp.stop"
    stranger = NodeFacts("mac1", {**node, ports.KEY: {8000: (PortHolder(77, "x"),)}})
    (judged,) = ports_checks.ports(expected(), Snapshot({"mac1": stranger}, {}))
    assert judged.fix.startswith("it is none of ours")


@pytest.mark.parametrize(
    ("user", "words", "fix"),
    [("eve", "eve", "ask eve, or"), ("", "user unknown", "ask its user, or")],
)
def test_another_users_rank(user: str, words: str, fix: str) -> None:
    process = OWN._replace(is_own=False, user=user)
    node = {processes.KEY: {7: process}, state.KEY: idle(), ports.KEY: {}}
    (judged,) = processes_checks.processes(expected(), told(mac1=node))
    assert f"(pid 7, {words})" in judged.what
    assert judged.fix.startswith(fix)


def test_all_that_runs_is_named() -> None:
    both = {7: PLAIN, 8: PLAIN._replace(pid=8)}
    node = {processes.KEY: both, state.KEY: idle(), ports.KEY: {}}
    (judged,) = processes_checks.processes(expected(), told(mac1=node))
    assert judged.what == "also runs: a mlx-lm server (pid 7), a mlx-lm server (pid 8)"


def test_mlxs_matrix_on_a_node() -> None:
    def wrong(matrix: Any) -> Any:
        return rdma_checks.matrix_wrong(NodeFacts("mac1", mac({"matrix": matrix})), MATRIX)

    assert wrong(MATRIX) is None
    missing, other = wrong(None), wrong([[None]])
    assert missing == (f"{rdma.MATRIX} is missing", "inv rdma.setup")
    assert other == (f"{rdma.MATRIX} is not the hostfile's matrix", "inv rdma.setup")


@pytest.mark.parametrize(
    ("process", "fix"),
    [
        (OWN._replace(meets=frozenset({32323})), "inv tp.stop"),
        (OWN, "it is no rank of this cluster: inv tp.stop --all, or choose -- --port N"),
        (PLAIN._replace(program="python3", command="python3 -m http.server"),
         "it is none of ours: end it there, or choose -- --port N"),
    ],
)  # fmt: skip
def test_what_frees_a_port(process: Process, fix: str) -> None:
    """The remedy is one that helps: tp.stop is not told for what it leaves."""
    node = {
        processes.KEY: {7: process},
        state.KEY: idle(),
        ports.KEY: {8000: (PortHolder(7, "x"),)},
    }
    (judged,) = ports_checks.ports(expected(), told(mac1=node))
    assert (judged.level, judged.fix) == (FAIL, fix)


LISTENING = ports.parse(text("ports.txt"), 0)
FREE = {22: (PortHolder(1, "sshd"),)}
PORTS: list[tuple[str, Any, Any, list[str]]] = [
    ("jaccl", FREE, FREE, ["free: 8000, 32323", "free: none needed"]),
    ("jaccl", {}, {}, ["free: 8000, 32323", "free: none needed"]),
    (
        "jaccl",
        LISTENING,
        LISTENING,
        [
            "! port 8000 (HTTP) is taken by Python (pid 4130), Python (pid 4131)",
            "free: none needed",
        ],
    ),
    (
        "jaccl",
        {32323: (PortHolder(0, ""),)},
        {32323: (PortHolder(0, ""),)},
        ["! port 32323 (rank) is taken by another user's process", "free: none needed"],
    ),
    ("ring", FREE, FREE, ["free: 8000, 32323", "free: 32324"]),
    # Rank 1's own port counts on its node only.
    (
        "ring",
        {32324: (PortHolder(5, "x"),)},
        {32324: (PortHolder(5, "x"),), 8000: (PortHolder(6, "y"),)},
        ["free: 8000, 32323", "! port 32324 (rank) is taken by x (pid 5)"],
    ),
    ("ring", Unknown("z"), FREE, ["! unknown: z", "free: 32324"]),
]


@pytest.mark.parametrize(("backend", "mac1", "mac2", "expected"), PORTS)
def test_ports(backend: str, mac1: Any, mac2: Any, expected: list[str]) -> None:
    judged = found("ports", mac1, mac2, backend=backend)
    assert [("! " if each.level == FAIL else "") + each.what for each in judged] == expected
    assert all(each.fix for each in judged if each.level == FAIL)


def test_the_coordinator_port_must_not_be_probed() -> None:
    judged = found("ports", {32323: (PortHolder(7, "x"),)}, FREE)[0]
    other = "set tp.starting_port; never test it with nc or curl"
    what = "inv tp.stop if it is of a server of yours; else end it there"
    assert judged.fix == f"{what}, or {other}"


FILES = {"config.json": "1084 17", "model.safetensors": "9446744"}
WHOLE = Model("/m/llama", FILES)
MODELS = [
    (WHOLE, WHOLE, ["/m/llama, 2 files", "/m/llama, 2 files"]),
    (WHOLE, Model(None), ["/m/llama, 2 files", "! llama is not there"]),
    (Model(None), WHOLE, ["! llama is not there", "/m/llama, 2 files"]),
    (Model(None), Model(None), ["! llama is not there", "! llama is not there"]),
    (
        Model(None, is_file=True),
        WHOLE,
        ["! llama is a file, not a model's folder", "/m/llama, 2 files"],
    ),
    (
        WHOLE,
        replace(WHOLE, files={**FILES, "config.json": "1084 18"}),
        ["/m/llama, 2 files", "! config.json differs from the first node's"],
    ),
    (
        WHOLE,
        replace(WHOLE, files={"config.json": "1084 17"}),
        ["/m/llama, 2 files", "! model.safetensors is missing"],
    ),
    (
        WHOLE,
        replace(WHOLE, files={"config.json": "1 1", "more": "2"}),
        ["/m/llama, 2 files", "! config.json differs from the first node's (and 2 more)"],
    ),
    (
        Model("/m", {"x": "1"}),
        Model("/m", {"x": "1"}),
        ["! /m has no config.json", "! /m has no config.json"],
    ),
    (
        Model("/m", {"config.json": "1 1", "model.safetensors.index.json": "2"}),
        Model("/m", {"config.json": "1 1", "model.safetensors.index.json": "2"}),
        ["! /m has no weights (*.safetensors)"] * 2,
    ),
    (Unknown("w"), WHOLE, ["! unknown: w", "/m/llama, 2 files"]),
]


@pytest.mark.parametrize(("mac1", "mac2", "expected"), MODELS)
def test_model(mac1: Any, mac2: Any, expected: list[str]) -> None:
    judged = [each for each in found("model", mac1, mac2) if each.check == "model"]
    assert [("! " if each.level == FAIL else "") + each.what for each in judged] == expected
    assert [each.node for each in judged] == ["mac1", "mac2"]
    assert all(each.fix or each.level == OK for each in judged)


REMEDIES = [
    ({}, Model(None), "copy or download it to that node"),
    ({"model": "https://huggingface.co/a/b?x=1"}, Model(None), "name its repository: a/b"),
    ({}, Model(None, is_file=True), "name the folder that has its config.json"),
    (
        {"model_at_home": "~/m"},
        Model(None),
        "copy it there, or write '~/m', in quotes: without them the shell made ~ this machine's"
        " home",
    ),
    ({}, replace(WHOLE, files={}), "copy the model to all nodes again"),
]


@pytest.mark.parametrize(("more", "there", "fix"), REMEDIES)
def test_what_brings_a_model(more: dict[str, str], there: Model, fix: str) -> None:
    assert found("model", WHOLE, there, **more)[1].fix == fix


@pytest.mark.parametrize(
    ("files", "fix"),
    [({}, "is it a model?"), ({"config.json": "1 1"}, "copy the model to that node again")],
)
def test_what_is_no_model(files: dict[str, str], fix: str) -> None:
    assert {each.fix for each in found("model", *[Model("/m", files)] * 2)[:2]} == {fix}


def test_what_is_loaded_beside_a_model() -> None:
    """Refused before a rank starts, and looked for where the engine takes it."""
    planned = ranks.plan(HOSTS, "ring", MLX_LM, args=["--adapter-path", "~/lora"])
    (finding,) = refused(expected(ranks=planned))
    assert finding.what == "--adapter-path: not supported on more than one rank"
    fix = "fuse it: mlx_lm.fuse (or -n 1)"
    assert finding == Finding("model", FAIL, "mac1", finding.what, fix)
    lora = Key[Model]("adapter-path")
    read = told(mac1={lora: Model("/Users/a/lora", FILES)}, mac2={lora: Model(None)})
    (finding,) = parts(expected(ranks=planned), read)
    missing = "--adapter-path ~/lora is not there"
    assert finding == Finding("model", FAIL, "mac2", missing, "copy it to that node")
    assert parts(expected(), read) == refused(expected()) == []
    alone = expected(ranks=planned[:1])
    assert (refused(alone), parts(alone, read)) == ([], [finding])


@pytest.mark.parametrize(
    ("engine", "path", "levels"),
    [
        (MLX_LM, "/Users/b/m", []),
        (replace(MLX_LM, entry="none"), "/Users/b/m", ["mac2"]),
        (replace(MLX_LM, entry="none"), "/Users/a/m", []),
        (replace(MLX_LM, entry="none"), "/h/hub/models--a--b/snapshots/1", []),
    ],
)
def test_one_path_where_requests_name_it(engine: Engine, path: str, levels: list[str]) -> None:
    """Field case 92, for an engine that would load what a request names."""
    models = [{model.KEY: Model(each, FILES)} for each in ("/Users/a/m", path)]
    read = told(**dict(zip(("mac1", "mac2"), models, strict=True)))
    found = one_path(expected(engine=engine), read)
    what = f"{path}, not /Users/a/m, by which clients would ask for it"
    fix = "give all nodes the same path (a link will do)"
    assert found == [Finding("model", FAIL, node, what, fix) for node in levels]
    assert one_path(expected(engine=engine), told(mac1={}, mac2=models[1])) == []


def test_no_model_is_said() -> None:
    (finding,) = found("model", WHOLE, Model(None), model=None)
    assert (finding.level, finding.what) == (WARN, "no model is named")


SAME = {"python": "3.14.0", "mlx": "0.32.4", "mlx-lm": "0.32.2", "os": "25E253"}
NO_LM = {**SAME, "mlx-lm": "missing"}
VERSIONS: list[tuple[Any, Any, list[str]]] = [
    (SAME, SAME, [OK, OK]),
    (SAME, {**SAME, "os": "25E246"}, [OK, "os 25E246, not 25E253"]),
    (
        SAME,
        {**SAME, "mlx": "0.32.1", "python": "3.13.1"},
        [OK, "python 3.13.1, not 3.14.0, mlx 0.32.1, not 0.32.4"],
    ),
    (SAME, {**SAME, "mlx": "missing"}, [OK, "mlx missing"]),
    ({**SAME, "mlx": "missing"}, {**SAME, "mlx": "missing"}, ["mlx missing", "mlx missing"]),
    (NO_LM, NO_LM, ["mlx-lm missing", "mlx-lm missing"]),
    (Unknown("no python"), SAME, ["unknown: no python", OK]),
    (SAME, Unknown("no python"), [OK, "unknown: no python"]),
]


@pytest.mark.parametrize(("mac1", "mac2", "expected"), VERSIONS)
def test_versions(mac1: Any, mac2: Any, expected: list[str]) -> None:
    judged = found("versions", mac1, mac2)
    for finding, says in zip(judged, expected, strict=True):
        assert finding.level == (OK if says == OK else FAIL)
        assert says == OK or says in finding.what
        assert bool(finding.fix) == (says != OK)


def test_another_engine_needs_no_mlx_lm() -> None:
    bare = {**NO_LM, "mlx": "0.31.2"}
    whole = {**bare, "vllm-mlx": "0.2.6"}
    levels = [each.level for each in found("versions", whole, whole, engine=VLLM_MLX)]
    assert levels == [OK, OK]
    levels = [each.level for each in found("versions", bare, bare, engine=VLLM_MLX)]
    assert levels == [WARN, WARN]


def test_versions_that_an_engine_does_not_run_with() -> None:
    fit = {**SAME, "mlx": "0.31.2", "mlx-lm": "0.30.7", "vllm-mlx": "0.2.6"}
    fine, wrong = found("versions", fit, {**fit, "mlx": "0.32.4"}, engine=VLLM_MLX)
    assert fine.level == OK
    assert (wrong.level, wrong.what) == (FAIL, "vllm-mlx runs with mlx 0.30 or 0.31, not 0.32.4")
    assert wrong.fix == "install mlx 0.30 or 0.31.x there, or choose --python"


def test_an_mlx_without_jaccl() -> None:
    """It is told before anything starts: N worlds of one came of it."""
    fine, wrong = found("versions", {**SAME, "backend": "yes"}, {**SAME, "backend": "no"})
    assert fine.level == OK
    assert "backend" not in fine.what
    assert (wrong.level, wrong.what) == (FAIL, "mlx 0.32.4 has no jaccl")


UNCLEAN = "s left: a rank has ended without clean-up"
COOLDOWN = [
    (idle(), OK, "nothing to wait for"),
    (idle(sigkill=999.0), WARN, f"29 {UNCLEAN}"),
    (idle(sigkill=971.0), WARN, f"1 {UNCLEAN}"),
    (idle(sigkill=970.0), OK, "nothing to wait for"),
    (idle(sigkill=5000.0), WARN, f"30 {UNCLEAN}"),  # the clock was set back
    (Unknown("v"), FAIL, "unknown: v"),
]


@pytest.mark.parametrize(("value", "level", "what"), COOLDOWN)
def test_cooldown(value: Any, level: str, what: str) -> None:
    judged = found("cooldown", value, idle())
    assert (judged[0].level, judged[0].what) == (level, what)
    assert judged[1].level == OK
    # A ring has nothing that the kernel must reclaim.
    assert found("cooldown", idle(sigkill=999.0), idle(), backend="ring")[0].level == OK


# RDMA: a good Mac, and one fault each on mac1 as (outputs in which something is swapped, or facts
# given as they are), the level, what is said, and what is to be done.

GIDS = r"^\t\t\tGID.*\n"
RDMA: dict[str, tuple[Mapping[str, Any], str, str, str]] = {
    "good": ({}, OK, "devices up, links have IPv4", ""),
    "disabled": (
        {"rdma_enabled": False},
        FAIL,
        "RDMA is disabled",
        "in Recovery (hold the power button at boot): rdma_ctl enable",
    ),
    "no devices": (
        {"ibv_devices": ()},
        FAIL,
        "RDMA is enabled, but there are no devices",
        "Thunderbolt 4 can't do RDMA: use ring",
    ),
    "device missing": (
        {"ibv_devices": ("rdma_en2", "rdma_en3")},
        FAIL,
        "rdma_en5 is not among the devices (rdma_en2, rdma_en3)",
        "names change after a reboot or replug: inv rdma.discover --diff",
    ),
    "port down": (
        {"ibv_devinfo": [(r"(rdma_en5(?s:.*?)state:\s*)PORT_ACTIVE \(4\)", r"\1PORT_DOWN (1)")]},
        FAIL,
        "rdma_en5: its port is PORT_DOWN",
        "check the cable, and that RDMA is on at its other end",
    ),
    "port state not told": (
        {"ibv_devinfo": [(r"(rdma_en5(?s:.*?))\t\t\tstate:.*\n", r"\1")]},
        FAIL,
        "rdma_en5: its port is None",
        "check the cable, and that RDMA is on at its other end",
    ),
    "not in ibv_devinfo": (
        {"ibv_devinfo": [(r"^hca_id:\trdma_en5(?s:.*)", "")]},
        FAIL,
        "rdma_en5: its port is unknown",
        "check the cable, and that RDMA is on at its other end",
    ),
    "no IPv4": (
        {"interfaces": [(r"^\tinet 10\.254\.0\.5 .*\n", "")]},
        FAIL,
        "rdma_en5: its interface has no IPv4 address",
        "inv rdma.setup",
    ),
    "no interface": (
        {"interfaces": [(r"^en5: flags(.*\n)((\t.*\n)*)", "")]},
        FAIL,
        "rdma_en5: its interface has no IPv4 address",
        "inv rdma.setup",
    ),
    "in a bridge": (
        {"interfaces": [(r"member: en3 ", "member: en5 ")]},
        FAIL,
        "rdma_en5: its interface is in bridge0",
        "inv rdma.setup",
    ),
    "no IPv4-mapped GID": (
        {"ibv_devinfo": [(r"::ffff:10\.254\.0\.5", "fe80::5")]},
        FAIL,
        "rdma_en5: no IPv4-mapped GID in its table",
        "inv rdma.setup, else reboot that node",
    ),
    "no GID table": (
        {"ibv_devinfo": [(GIDS, "")]},
        WARN,
        "rdma_en5: its GID table can't be seen",
        "ibv_devinfo -v on the node",
    ),
    # Ranks get a matrix of their own: what is in /tmp is for other tools.
    "no matrix": ({"matrix": None}, OK, "devices up, links have IPv4", ""),
    "old macOS": (
        {"machine": {"macos": "26.2 25C56"}},
        FAIL,
        "macOS 26.2: its RDMA corrupts data silently (mlx#3456)",
        "update it to 26.3 or later, or --backend ring",
    ),
    "first right macOS": ({"machine": {"macos": "26.3 x"}}, OK, "devices up, links have IPv4", ""),
    "two digits": ({"machine": {"macos": "26.10 x"}}, OK, "devices up, links have IPv4", ""),
    "Thunderbolt 4": (
        {"machine": {"model": "Mac16,10"}},
        FAIL,
        "Mac16,10 has Thunderbolt 4: it can't do RDMA",
        "--backend ring",
    ),
    "a Mac to come": ({"machine": {"model": "Mac19,1"}}, OK, "devices up, links have IPv4", ""),
    **{
        f"{name} unknown": (
            {name: Unknown("it hangs")},
            FAIL,
            "unknown: it hangs",
            f"try it on the node ({name})",
        )
        for name in ("rdma_enabled", "ibv_devices", "ibv_devinfo", "interfaces")
    },
}
OUTPUTS = {
    "rdma_enabled": (rdma.parse_enabled, "enabled\n"),
    "ibv_devices": (rdma.parse_devices, text("ibv_devices.txt")),
    "ibv_devinfo": (rdma.parse_devinfo, text("ibv_devinfo.txt")),
    "interfaces": (rdma.parse_interfaces, text("ifconfig.txt")),
    "matrix": (rdma.parse_matrix, json.dumps(MATRIX)),
    "machine": (hardware.parse, "system Darwin\nmodel Mac15,14\nmacos 26.4.1 25E253\n"),
}
ASKED = (*rdma.FACTS, rdma.MATRIX_FACT, hardware.FACT)
FILE = {"ibv_devinfo": "ibv_devinfo.txt", "interfaces": "ifconfig.txt"}
# The other ends of the links: mac2's en4 faces mac1's en5, and its en5 mac1's en4.
FACING = {"interfaces": [(r"10\.254\.0\.9 ", "10.254.0.6 "), (r"10\.254\.0\.5 ", "10.254.0.10 ")]}


def mac(fault: Mapping[str, Any]) -> dict[Key[Any], Any]:
    facts = {name: parse(output, 0) for name, (parse, output) in OUTPUTS.items()}
    for name, change in fault.items():
        is_swap = name in FILE and isinstance(change, list)
        facts[name] = OUTPUTS[name][0](text(FILE[name], *change), 0) if is_swap else change
    return {fact.key: facts[fact.name] for fact in ASKED}


@pytest.mark.parametrize(("fault", "level", "what", "fix"), RDMA.values(), ids=RDMA)
def test_rdma(fault: Mapping[str, Any], level: str, what: str, fix: str) -> None:
    one, two = rdma_checks.rdma(expected(), told(mac1=mac(fault), mac2=mac(FACING)))
    assert (one.check, one.node, one.level, one.what) == ("rdma", "mac1", level, what)
    assert one.fix == fix
    assert bool(one.fix) == (level != OK)
    assert (two.level, two.node) == (OK, "mac2")


@pytest.mark.parametrize("key", [*(fact.key for fact in rdma.FACTS), hardware.KEY])
def test_rdma_that_was_not_asked_is_unknown(key: Key[Any]) -> None:
    partial = mac({})
    del partial[key]
    assert (
        rdma_checks.rdma(expected(), told(mac1=partial, mac2=mac({})))[0].what
        == "unknown: it was not asked"
    )


@pytest.mark.parametrize(
    ("backend", "count"), [("jaccl", 2), ("jaccl-ring", 2), ("ring", 0), ("any", 0)]
)
def test_rdma_is_for_jaccl(backend: str, count: int) -> None:
    made = replace(expected(), backend=backend)
    assert len(rdma_checks.rdma(made, told(mac1=mac({}), mac2=mac({})))) == count


def test_two_cables() -> None:
    """Both devices of a list are judged; the matrix has lists where the hostfile has them."""
    hosts = [
        replace(HOSTS[0], rdma=(None, ("rdma_en5", "rdma_en4"))),
        replace(HOSTS[1], rdma=(("rdma_en4", "rdma_en5"), None)),
    ]
    made = replace(expected(), ranks=ranks.plan(hosts, "jaccl", MLX_LM))
    matrix = {"matrix": [[None, ["rdma_en5", "rdma_en4"]], [["rdma_en4", "rdma_en5"], None]]}
    down = [(r"::ffff:10\.254\.0\.9", "fe80::9")]
    read = told(mac1=mac(matrix), mac2=mac({**matrix, **FACING, "ibv_devinfo": down}))
    judged = rdma_checks.rdma(made, read)
    assert levels(judged) == [("mac1", OK), ("mac2", FAIL)]
    assert judged[1].what == "rdma_en4: no IPv4-mapped GID in its table"


@pytest.mark.parametrize(
    ("rows", "level", "what"),
    [
        # Of two cables the wrong ones were written to each other.
        (
            [[None, "rdma_en5"], ["rdma_en5", None]],
            FAIL,
            "en5 10.254.0.4/30 and en5 10.254.0.8/30 of mac2 are in two networks: they are no ends"
            " of one cable",
        ),
        ([[None, ["rdma_en4", "rdma_en5"]], [["rdma_en5", "rdma_en4"], None]], OK, ""),
    ],
    ids=["exchanged", "right"],
)
@pytest.mark.parametrize("backend", ["jaccl", "jaccl-ring"])
def test_devices_that_are_no_ends_of_one_cable(
    rows: list[Any], level: str, what: str, backend: str
) -> None:
    """Each is up and has an address: only both together tell."""
    cells = [[tuple(c) if isinstance(c, list) else c for c in row] for row in rows]
    # Each has the other cable, too.
    if level == FAIL:
        cells = [[c and (c, "rdma_en4") for c in row] for row in cells]
    hosts = [replace(h, rdma=tuple(c)) for h, c in zip(HOSTS, cells, strict=True)]
    made = replace(expected(backend), ranks=ranks.plan(hosts, backend, MLX_LM))
    one, _ = rdma_checks.rdma(made, told(mac1=mac({}), mac2=mac(FACING)))
    assert (one.level, one.what if what else "") == (level, what)
    assert not what or one.fix.startswith("inv rdma.discover --hosts mac1,mac2 --write FILE")


def test_ends_in_other_networks_are_not_ok() -> None:
    """No other link is in that network: nobody knows whether RDMA goes from one to the other."""
    apart = {"interfaces": [(r"10\.254\.0\.9 ", "10.9.0.9 ")]}
    one, two = rdma_checks.rdma(expected(), told(mac1=mac({}), mac2=mac(apart)))
    assert (one.level, two.level) == (WARN, WARN)
    assert "en4 10.9.0.8/30 of mac2 are in two networks" in one.what
    assert one.fix == "inv rdma.setup"  # the file tells their addresses


@pytest.mark.parametrize("check", CHECKS)
def test_unknown_is_never_ok(check: str) -> None:
    """Neither what can't be read nor what was not asked is ok, for any check."""
    keys = [*KEYS.values(), processes.KEY, *(fact.key for fact in rdma.FACTS), hardware.KEY]
    for facts in ({}, dict.fromkeys(keys, Unknown("it hangs"))):
        judged = CHECKS[check].findings(expected(), told(mac1=facts, mac2=facts))
        assert {each.node for each in judged} == {"mac1", "mac2"}
        assert all(each.level == FAIL and each.fix for each in judged), judged


# Hosts: a ring of two with an address each, and one fault each of mac1.

BOUND = MeetingReach(
    {"10.254.0.5": "bound"}, {"10.254.0.9:22": "connected"}, "192.0.2.7", "192.0.2.1"
)
TOWARD = MeetingReach({"10.254.0.9": "bound"}, {"10.254.0.5:22": "ECONNREFUSED"}, "192.0.2.7")
MEETINGS: dict[str, tuple[Any, Any, str, str]] = {
    "good": (BOUND, OK, "reaches mac2", ""),
    "not its own": (
        replace(BOUND, own={"10.254.0.5": "EADDRNOTAVAIL"}),
        FAIL,
        "10.254.0.5 is on no interface of mac1",
        "correct the ips of mac1 (ifconfig on it tells), or does its name lead elsewhere?",
    ),
    "not reached": (
        replace(BOUND, peers={"10.254.0.9:22": "ETIMEDOUT"}),
        FAIL,
        "10.254.0.9 of mac2 is not reached (ETIMEDOUT)",
        "inv hosts.check tells why, or --hosts mac1,mac2 goes over their own network",
    ),
    "unknown": (Unknown("no python"), FAIL, "unknown: no python", "run it on the node to see why"),
}


def met(one: Any, two: Any = TOWARD, hosts: Any = HOSTS, ids: Any = ("A", "B")) -> Any:
    """The check `hosts` on a ring of mac1 and mac2 (or these)."""
    made = replace(expected("ring"), ranks=ranks.plan(hosts, "ring", MLX_LM))
    values = [
        {reach.MEETING_KEY: m, hardware.IDENTITY_KEY: i}
        for m, i in zip((one, two), ids, strict=True)
    ]
    names = [host.ssh for host in hosts]
    return meeting_checks.hosts(made, told(**dict(zip(names, values, strict=True))))


@pytest.mark.parametrize(("meeting", "level", "what", "fix"), MEETINGS.values(), ids=MEETINGS)
def test_hosts(meeting: Any, level: str, what: str, fix: str) -> None:
    one, two = met(meeting)
    assert (one.node, one.level, one.what) == ("mac1", level, what)
    assert one.fix == fix
    assert (two.level, two.what) == (OK, "reaches mac1")


def test_an_address_of_a_link_is_set_up_or_pinged() -> None:
    linked = [
        replace(HOSTS[0], links=(("en5", "10.254.0.5/30"),)),
        replace(HOSTS[1], links=(("en4", "10.254.0.9/30"),)),
    ]
    (one, _) = met(replace(BOUND, own={"10.254.0.5": "EADDRNOTAVAIL"}), hosts=linked)
    assert one.fix == "inv rdma.setup"
    assert met(replace(BOUND, own={}), hosts=linked)[0].level == OK


@pytest.mark.parametrize(
    ("links", "fix"),
    [
        ({"en4": "10.254.0.9/30", "en5": "10.254.0.6/30"}, "inv rdma.ping"),
        ({"en4": "10.254.0.9/30"}, "inv rdma.ping"),
        # As of a file whose hosts were put in another order.
        ({"en4": "10.254.0.9/30", "en5": "10.254.0.6/30"}, "its link to mac1 has 10.254.0.6: "),
        ({"en4": "10.254.0.9/30"}, "it is of another link: write an address in the ips of mac2"),
    ],
)
def test_an_address_of_a_link_is_pinged_or_another_links(links: dict[str, str], fix: str) -> None:
    is_shared = fix == "inv rdma.ping"
    near = "10.254.0.10/30" if is_shared else "10.254.0.5/30"
    linked = [
        replace(HOSTS[0], links=(("en5", near),)),
        replace(HOSTS[1], links=tuple(links.items())),
    ]
    (one, _) = met(replace(BOUND, peers={"10.254.0.9:22": "EHOSTUNREACH"}), hosts=linked)
    assert one.what == "10.254.0.9 of mac2 is not reached (EHOSTUNREACH)"
    assert one.fix.startswith(fix)


@pytest.mark.parametrize(
    ("said", "given", "what"),
    [
        ("connected", True, ""),
        ("ECONNREFUSED", True, ""),
        ("ETIMEDOUT", True, "10.254.0.6 of mac2 is not reached over their link (ETIMEDOUT)"),
        # It is for the check of RDMA to say so.
        ("ETIMEDOUT", False, ""),
    ],
)
@pytest.mark.parametrize("backend", ["jaccl", "jaccl-ring"])
def test_a_link_that_leads_elsewhere(said: str, given: bool, what: str, backend: str) -> None:
    """As where a cable was moved: all devices are up, and have their addresses."""
    ends = {"mac1": ("en5", "10.254.0.5/30"), "mac2": ("en4", "10.254.0.6/30")}
    hosts = [
        replace(h, ips=(f"192.0.2.{i}",), links=(ends[h.ssh],)) for i, h in enumerate(HOSTS, 1)
    ]
    made = replace(expected(backend), ranks=ranks.plan(hosts, backend, MLX_LM))
    meetings = {
        "mac1": MeetingReach({"192.0.2.1": "bound"}, {"10.254.0.6:22": said}),
        "mac2": MeetingReach({}, {"192.0.2.1:22": "connected", "10.254.0.5:22": "connected"}),
    }
    values: dict[str, Any] = {}
    for name, (port, address) in ends.items():
        there = (IPv4Interface(address),) if given else ()
        interfaces = {port: rdma.Interface(port, "active", there, ())}
        more = {hardware.IDENTITY_KEY: name, rdma.INTERFACES_KEY: interfaces}
        values[name] = {reach.MEETING_KEY: meetings[name], **more}
    one, two = meeting_checks.hosts(made, told(**values))
    assert (one.level, one.what) == ((FAIL, what) if what else (OK, "has its addresses"))
    assert not what or one.fix.startswith("was a cable moved? inv rdma.discover --diff")
    assert (two.level, two.what) == (OK, "reaches mac1")


def test_one_machine_by_two_names() -> None:
    one, two = met(BOUND, ids=("A", "A"))
    assert (one.level, two.level, two.what) == (OK, FAIL, "mac1 and mac2 are the same machine")
    assert two.fix == "name it once; -n runs several ranks on it"
    assert [each.level for each in met(BOUND, ids=(Unknown("?"), Unknown("?")))] == [FAIL, FAIL]


def test_a_loopback_address_that_others_must_reach() -> None:
    """This machine's is the one that the other sees us come from; a host's the one we came to."""
    here = [Host("127.0.0.1", ("127.0.0.1",)), HOSTS[1]]
    found = met(MeetingReach({}, {}), MeetingReach({}, {}, "192.0.2.7", "192.0.2.2"), here)
    assert (found[0].level, found[0].what) == (
        FAIL,
        "127.0.0.1 is no address that mac2 can reach",
    )
    assert found[0].fix == (
        'give this machine\'s address: {"ssh": "127.0.0.1", "ips": ["192.0.2.7"]} in a hostfile'
    )
    there = [replace(HOSTS[0], ips=("127.0.1.1",)), HOSTS[1]]
    found = met(MeetingReach({}, {}, "192.0.2.7", "192.0.2.1"), TOWARD, there)
    assert found[0].what == "127.0.1.1 is no address that mac2 can reach"
    assert '{"ssh": "mac1", "ips": ["192.0.2.1"]}' in found[0].fix
    for nobodys in ("127.0.0.2", "0.0.0.0", "224.0.0.1", "255.255.255.255"):
        found = met(BOUND, TOWARD, [replace(HOSTS[0], ips=(nobodys,)), HOSTS[1]])
        assert found[0].what == f"{nobodys} is no address that mac2 can reach"
    # What the session came to helps nobody where it is of IPv6 or of one machine alone.
    for server in ("", "fe80::1", "127.0.0.1"):
        found = met(MeetingReach({}, {}, "192.0.2.7", server), TOWARD, there)
        assert found[0].fix == (
            'give mac1\'s address on the network of mac2 as its "ips" in a hostfile'
        )


def test_self_assigned_addresses_are_told_once() -> None:
    own = [replace(HOSTS[0], ips=("169.254.1.1",)), replace(HOSTS[1], ips=("169.254.2.2",))]
    *rest, last = met(MeetingReach({"169.254.1.1": "bound"}, {}), hosts=own)
    assert levels(rest) == [("mac1", OK), ("mac2", OK)]
    what = "169.254.1.1 (and 1 more): self-assigned, will change with the next replug"
    fix = "inv rdma.discover --hosts mac1,mac2 --write FILE gives links fixed ones"
    assert last == Finding("address", WARN, "mac1", what, fix)


def test_hosts_of_one_node_are_not_asked() -> None:
    alone = [Host("127.0.0.1", ("127.0.0.1",))] * 2
    made = replace(expected("ring"), ranks=ranks.plan(alone, "ring", MLX_LM))
    assert meeting_checks.hosts(made, told(**{"127.0.0.1": {}})) == []


def test_swap_before_a_load() -> None:
    full = Memory(512 * GIB, 9 * GIB, 16384, swap=3 * GIB)
    one, two = found("memory", full, replace(full, swap=GIB // 8))
    assert (one.level, two.level) == (WARN, OK)
    assert "3.0 GiB swapped out before the load" in one.what


DOMAINS = [
    (0, [9], []),
    (8, [9, 11], ["warn: 8 protection domains are in use (a device has 9)"]),
    (9, [11, 9], ["fail: 9 protection domains are in use (a device has 9)"]),
    (10, [None], ["warn: 10 protection domains are in use (a device has 11)"]),
    (11, [], ["fail: 11 protection domains are in use (a device has 11)"]),
]


@pytest.mark.parametrize(("used", "limits", "words"), DOMAINS)
def test_protection_domains(used: int, limits: list[int | None], words: list[str]) -> None:
    """What no server has is lost until a reboot; at a device's most no start can work."""
    infos = {f"rdma_en{n}": rdma.Device(f"rdma_en{n}", None, (), most, None)
             for n, most in enumerate(limits)}  # fmt: skip
    values: dict[Key[Any], Any] = {rdma.IN_USE_KEY: used, rdma.DEVINFO_KEY: infos}
    server = OWN._replace(rank=None)
    of_a_server = {**values, state.KEY: ran(0, alive=True), processes.KEY: {7: server}}
    nodes = told(mac1={rdma.IN_USE_KEY: Unknown("why")}, mac2=of_a_server, mac3=values)
    judged = rdma_checks.domains(expected(), nodes)
    assert [f"{each.level}: {each.what}" for each in judged] == words
    for each in judged:
        assert (each.check, each.node, each.fix) == ("rdma", "mac3", memory_check.REBOOT)
