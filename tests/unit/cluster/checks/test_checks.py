"""The registry: a user's check is asked, judged, skipped and explained like ours."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from invoke.tasks import Task

from tasks import tp
from tasks.cluster import cluster as clusters
from tasks.cluster import facts
from tasks.cluster.checks import CHECKS, FAIL, OK, WARN, Check, Finding, check, each
from tasks.cluster.cluster import Cluster
from tasks.cluster.errors import BadInput
from tasks.cluster.facts import NodeFacts, Unknown
from tasks.cluster.facts.machine import memory, ports, processes, versions
from tasks.cluster.facts.machine.memory import GIB, Memory
from tasks.cluster.facts.snapshot import Snapshot
from tasks.cluster.server import snapshots
from tasks.commands.tp import preflight

PAGE = Path(__file__).parents[4] / "docs" / "composing.md"
OURS = ["memory", "processes", "ports", "rdma", "hosts", "model", "versions", "cooldown"]

# The page's check as version 0.1 had it.
BEFORE = r"""
from tasks.cluster import checks
from tasks.cluster.checks import FAIL, OK, Finding
from tasks.cluster.facts import Fact

def uptime(text, status):
    return int(text)

DAYS = Fact(
    "days_up",
    r"uptime | sed -n -e 's/.*up *\([0-9]*\) day.*/\1/p' -e t -e 's/.*/0/p'",
    uptime,
)

@checks.check("uptime", DAYS)
def young(wanted, facts):
    assert [node for node in facts] == list(facts) == [node for node, _ in facts.items()]
    def judge(node, days):
        if days > 30:
            return Finding("uptime", FAIL, node, f"up for {days} days", "reboot it")
        return Finding("uptime", OK, node, f"up for {days} days")
    return checks.each("uptime", facts, "days_up", judge)
"""


@pytest.fixture(autouse=True)
def registry() -> Iterator[None]:
    """Ours, whatever a test adds."""
    ours = dict(CHECKS)
    yield
    CHECKS.clear()
    CHECKS.update(ours)


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    hosts = [{"ssh": n, "ips": [f"192.0.2.{n[-1]}"], "rdma": row} for n, row in ROWS.items()]
    path = tmp_path / "hosts.json"
    path.write_text(json.dumps({"backend": "jaccl", "engine": "mlx-lm", "hosts": hosts}))
    return clusters.build({"hostfile": str(path)}, ["--model", "llama"])


ROWS = {"mac1": [None, "rdma_en5"], "mac2": ["rdma_en5", None]}


def asked(cluster: Cluster, *skip: str) -> list[str]:
    return [fact.name for fact in snapshots.preflight_facts(cluster, skip)(cluster.leader)]


def pieces() -> str:
    """The page's section on checks: one of its own, and one in place of ours."""
    section = PAGE.read_text().partition("## A check of your own")[2].partition("\n## ")[0]
    return "\n".join(re.findall(r"```python\n(.*?)```", section, re.DOTALL))


def test_which_checks_there_are_and_what_each_reads(cluster: Cluster) -> None:
    assert list(CHECKS) == OURS
    alone = {name: [f.name for f in CHECKS[name].facts(cluster, cluster.leader)] for name in OURS}
    of_rdma = ["rdma_enabled", "ibv_devices", "ibv_devinfo", "interfaces"]
    assert alone == {
        "memory": ["state", "memory"],
        "processes": ["state", "processes"],
        "ports": ["ports"],
        "rdma": [*of_rdma, "domains_in_use", "machine"],
        "hosts": ["meeting", "identity"],
        "model": ["model", "split", "memory", "gpu"],
        "versions": ["versions"],
        "cooldown": ["state"],
    }
    everywhere = {"state", "rates"}  # whatever is checked
    assert {*asked(cluster)} == {name for names in alone.values() for name in names} | everywhere
    assert {*asked(cluster, *OURS)} == everywhere
    for name in ("memory", "processes", "ports", "rdma", "hosts", "model", "versions"):
        shared = {"state", "memory"}  # that other checks read, too
        assert {*alone[name]} - shared == {*asked(cluster)} - {*asked(cluster, name)} - shared
    assert "rdma_enabled" not in asked(replace(cluster, backend="ring"))
    assert "model" not in asked(replace(cluster, model=None))


@pytest.mark.parametrize("text", [pieces(), BEFORE], ids=["docs/composing.md", "version 0.1"])
def test_a_check_of_a_users_own(cluster: Cluster, text: str) -> None:
    exec(text, {})
    assert "days_up" in asked(cluster)
    assert "days_up" not in asked(cluster, "uptime")

    def judged(answer: str, *skip: str) -> list[Finding]:
        asked = [*CHECKS["uptime"].facts(cluster, cluster.leader)]
        script = facts.script(asked, "x").replace("uptime |", f"echo '{answer}' |")
        done = subprocess.run(["/bin/sh", "-s"], input=script, capture_output=True, text=True)
        read = Snapshot({"mac1": facts.read(asked, done.stdout, "x", "mac1")}, {})
        return [f for f in preflight.judge(cluster, read, skip) if f.check == "uptime"]

    assert judged("9:41 up 3 days,") == [Finding("uptime", OK, "mac1", "up for 3 days")]
    assert judged("9:41 up 31 days,")[0].fix == "reboot it"
    assert judged("9:41 up 31 days,", "uptime") == []
    (lost,) = preflight.judge(cluster, Snapshot({"mac1": NodeFacts("mac1", {})}, {}), OURS)
    assert (lost.check, lost.level, lost.what) == ("uptime", FAIL, "unknown: it was not asked")
    assert lost.fix == CHECKS["uptime"].remedy != ""


def test_a_check_in_place_of_ours(cluster: Cluster) -> None:
    """The page's: it reads what ours reads, and calls ours."""
    exec(pieces(), {})
    assert list(CHECKS) == [*OURS, "uptime"]
    assert "versions" in asked(cluster)
    told = {"mac1": {"mlx": "1"}, "mac2": {"mlx": "2"}}
    key = versions.KEY
    read = Snapshot({node: NodeFacts(node, {key: value}) for node, value in told.items()}, {})
    found = CHECKS["versions"].findings(cluster.expected, read)
    assert [each.level for each in found] == [OK, WARN]
    unknown = Snapshot({"mac1": NodeFacts("mac1", {key: Unknown("why")})}, {})
    assert CHECKS["versions"].findings(cluster.expected, unknown)[0].fix.startswith("choose the")


def test_facts_of_a_check_may_be_each_nodes_own(cluster: Cluster) -> None:
    def of_node(cluster: Cluster, node: object) -> list[facts.Fact[object]]:
        return [ports.fact([cluster.http_port])]

    check("mine", memory.FACT, of_node)(lambda expected, snapshot: [])
    found = CHECKS["mine"].facts(cluster, cluster.leader)
    assert [fact.name for fact in found] == ["memory", "ports"]


def test_a_judge_that_needs_what_is_unknown_fails(cluster: Cluster) -> None:
    """No traceback: the node, why, and the check's remedy."""

    @check("mine", memory.FACT, remedy="look there")
    def mine(expected: object, snapshot: Snapshot) -> list[Finding]:
        return [Finding("mine", OK, node, str(f[memory.KEY])) for node, f in snapshot.nodes.items()]

    read = Snapshot({"mac1": NodeFacts("mac1", {memory.KEY: Unknown("no vm_stat")})}, {})
    found = CHECKS["mine"].findings(cluster.expected, read)
    assert found == [Finding("mine", FAIL, "mac1", "unknown: no vm_stat", "look there")]


def test_the_words_of_skip(cluster: Cluster) -> None:
    def help_of(task: Task[Any]) -> str:
        return {each.name: str(each.help) for each in task.get_arguments()}["skip"]

    assert all(re.search(rf"[ ,]{name} \(\S", help_of(tp.preflight)) for name in OURS)
    with pytest.raises(BadInput, match="choose from memory, processes"):
        tp.preflight.check({"skip": ["uptime"]})
    exec(pieces(), {})
    assert help_of(tp.preflight).endswith(", uptime (days since the boot)")
    tp.preflight.check({"skip": ["uptime,memory"]})


def test_each_takes_what_is_known() -> None:
    values = {"mac1": 1 * GIB, "mac2": 2 * GIB}
    nodes = {n: NodeFacts(n, {memory.KEY: Memory(size, 0, 1)}) for n, size in values.items()}
    nodes["mac3"] = NodeFacts("mac3", {memory.KEY: Unknown("why"), processes.KEY: {}})

    def judge(node: str, value: Memory) -> Finding | None:
        return Finding("x", OK, node, "large") if value.total > GIB else None

    assert [(f.node, f.what) for f in each("x", Snapshot(nodes, {}), memory.KEY, judge)] == [
        ("mac2", "large"),
        ("mac3", "unknown: why"),
    ]


def test_old_names_work_for_a_version_more(cluster: Cluster) -> None:
    from tasks.cluster import checks

    read = Snapshot({}, {})
    with pytest.warns(DeprecationWarning, match="Expected"):
        assert checks.Wanted is checks.Expected  # type: ignore[attr-defined]
    with pytest.warns(DeprecationWarning, match="its `expected`"):
        assert cluster.wanted == cluster.expected
    with pytest.warns(DeprecationWarning, match="its `judge`"):
        assert CHECKS["memory"](cluster.expected, read.facts) == []  # type: ignore[attr-defined]
    assert isinstance(CHECKS["memory"], Check)
    with pytest.raises(AttributeError):
        checks.nothing  # type: ignore[attr-defined]  # noqa: B018


def test_whose_python_is_asked_for_which_backend(cluster: Cluster) -> None:
    """That of the node's rank, where it is started; jaccl only where it is wanted."""

    def text(backend: str) -> str:
        wanted = replace(cluster, backend=backend)
        (fact,) = CHECKS["versions"].facts(wanted, cluster.leader)
        return fact.command

    rank = replace(cluster.ranks[0], cwd="/code", command=("/py", "-m", "x"))
    cluster = replace(cluster, ranks=[rank, *cluster.ranks[1:]])
    assert text("jaccl") == text("jaccl-ring") == versions.fact("/py", "/code", "jaccl").command
    assert text("ring") == versions.fact("/py", "/code").command
