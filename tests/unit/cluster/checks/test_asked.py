"""What checks ask of each node: of which paths, addresses and ports, and how."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tasks.cluster import cluster as clusters
from tasks.cluster.checks import CHECKS
from tasks.cluster.checks.hosts import called
from tasks.cluster.checks.model import of_model
from tasks.cluster.cluster import Cluster
from tasks.cluster.facts import Fact, Key
from tasks.cluster.facts.links import reach
from tasks.cluster.facts.machine import gpu, hardware, memory, ports
from tasks.cluster.facts.models import model, split
from tasks.cluster.facts.models.model import Model
from tasks.cluster.facts.server import state
from tasks.cluster.ssh.node import Node

ADDRESSES = {
    "mac1": ["192.0.2.1", "192.0.2.11"],
    "mac2": ["192.0.2.2", "192.0.2.12"],
    "mac3": ["192.0.2.3", "192.0.2.13"],
}
ROWS = (
    [None, "rdma_en4", "rdma_en5"],
    ["rdma_en4", None, "rdma_en5"],
    ["rdma_en5", "rdma_en4", None],
)
LIGHT = {"command": ["/light.py"], "ready": "/", "process": "light"}


def built(folder: Path, *args: str, backend: str = "ring", **more: Any) -> Cluster:
    rows = zip(ADDRESSES.items(), ROWS, strict=True)
    hosts = [{"ssh": name, "ips": ips, "rdma": row} for (name, ips), row in rows]
    path = folder / "hosts.json"
    path.write_text(json.dumps({"backend": backend, "hosts": hosts, "engine": "mlx-lm"}))
    config = {"hostfile": str(path), "python": "/venv/python", "cwd": "/work", "state_dir": "/s"}
    return clusters.build({**config, "env": ["HF_HOME=/hub", "OTHER=1"], **more}, args)


def asked(check: str, cluster: Cluster, rank: int = 0) -> list[Fact[object]]:
    return list(CHECKS[check].facts(cluster, cluster.nodes[rank]))


def test_of_a_model(tmp_path: Path) -> None:
    """As its ranks would look for it, with what they would load beside it."""
    words = ["--model", "a/b", "--pipeline", "--draft-model", "small"]
    cluster = built(tmp_path, *words)
    env = cluster.ranks[0].env
    here = ("/work", "/venv/python")
    assert env["HF_HOME"] == "/hub"
    whole = [
        model.fact("a/b", *here, env),
        split.fact("a/b", *here, "/s", split.PIPELINE, [3], env),
        memory.FACT,
        gpu.FACT,
    ]
    draft = model.fact("small", *here, env, Key[Model]("draft-model"))
    assert asked("model", cluster) == [*whole, draft]
    assert asked("model", built(tmp_path)) == []
    several = of_model(cluster, cluster.leader, "/m", [2, 4])
    assert several[1] == split.fact("/m", *here, "/s", split.PIPELINE, [2, 4], env)


def test_of_a_model_where_no_mlx_lm_is(tmp_path: Path) -> None:
    cluster = built(tmp_path, "--model", "/m", engine="light", engines={"light": LIGHT})
    assert not cluster.engine.has_mlx_lm
    assert [fact.name for fact in asked("model", cluster)] == ["model"]


def test_of_this_clusters_records(tmp_path: Path) -> None:
    cluster = built(tmp_path, cluster="night")
    assert asked("cooldown", cluster) == [state.fact("/s", "night")]


def test_of_ports(tmp_path: Path) -> None:
    cluster = built(tmp_path)
    assert asked("ports", cluster) == [ports.fact([8000, 32323, 32324])]
    assert asked("ports", cluster, 2) == [ports.fact([32327, 32328])]


@pytest.mark.parametrize(
    ("backend", "rank", "own", "peers"),
    [
        # Each is called by the one before it, at all its addresses.
        ("ring", 0, ["192.0.2.1", "192.0.2.11"], ["192.0.2.2", "192.0.2.12"]),
        ("ring", 1, ["192.0.2.2", "192.0.2.12"], ["192.0.2.3", "192.0.2.13"]),
        ("ring", 2, ["192.0.2.3", "192.0.2.13"], ["192.0.2.1", "192.0.2.11"]),
        # All call the coordinator, at its first.
        ("jaccl", 0, ["192.0.2.1"], []),
        ("jaccl", 2, [], ["192.0.2.1"]),
    ],
)
def test_of_addresses(
    tmp_path: Path, backend: str, rank: int, own: list[str], peers: list[str]
) -> None:
    cluster = built(tmp_path, backend=backend)
    at = [(ip, 22) for ip in peers]
    meeting = reach.meeting("/venv/python", "/work", own, at)
    assert asked("hosts", cluster, rank) == [meeting, hardware.IDENTITY]


def test_of_the_port_of_sshd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As ssh's configuration has it; of this machine, which is asked by no ssh, the usual one."""
    monkeypatch.setattr(Node, "login", ("me", "name", 2222))
    monkeypatch.setitem(ADDRESSES, "127.0.0.1", ADDRESSES["mac3"])
    monkeypatch.delitem(ADDRESSES, "mac3")
    cluster = built(tmp_path)
    own = [ADDRESSES[host.ssh] for host in (rank.host for rank in cluster.ranks)]
    for rank, (peer, port) in enumerate(((1, 2222), (2, 22), (0, 2222))):
        at = [(ip, port) for ip in own[peer]]
        meeting = reach.meeting("/venv/python", "/work", own[rank], at)
        assert asked("hosts", cluster, rank)[0] == meeting


def test_who_calls_whom() -> None:
    assert called("ring", 3) == [(0, 2), (1, 0), (2, 1)]
    assert called("ring", 1) == called("jaccl", 1) == []
    assert called("jaccl", 3) == [(0, 1), (0, 2)]
