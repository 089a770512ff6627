"""Preflight's check "versions": of python, MLX and the system. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ..facts import Fact, known
from ..facts.machine import versions as version_facts
from ..facts.snapshot import Snapshot
from .expected import Expected
from .finding import FAIL, OK, WARN, Finding
from .registry import check, each

if TYPE_CHECKING:
    from ..cluster import Cluster
    from ..ssh.node import Node


def _versions(cluster: Cluster, node: Node) -> list[Fact[object]]:
    rank = cluster.on(node)[0]
    # MLX for Linux, and old ones for macOS, have no jaccl; ring is in every one.
    backend = "jaccl" if cluster.backend.startswith("jaccl") else ""
    return [version_facts.fact(rank.command[0], rank.cwd, backend)]


@check(
    "versions",
    _versions,
    remedy="choose the right --python and --cwd for that node",
    what="of python, mlx and the system: starts each node's python",
)
def versions(expected: Expected, snapshot: Snapshot) -> list[Finding]:
    """python, mlx, mlx-lm and the system's build are the same on all nodes."""
    there = [v for f in snapshot.nodes.values() if (v := known(f, version_facts.KEY))]

    def judge(node: str, value: Mapping[str, str]) -> Finding:
        what = ", ".join(f"{name} {value[name]}" for name in value if name != "backend")
        needed = ["mlx", "mlx-lm"] if expected.engine.name == "mlx-lm" else ["mlx"]
        if missing := [name for name in needed if value.get(name) == "missing"]:
            fix = f"install {missing[0]} there (or choose --python)"
            return Finding("versions", FAIL, node, what, fix)
        if wrong := expected.engine.unfit(value):
            return Finding("versions", FAIL, node, *wrong)
        same = there[0]
        differ = [name for name in value if name != "backend" and value[name] != same.get(name)]
        if differ:
            what = ", ".join(f"{name} {value[name]}, not {same.get(name)}" for name in differ)
            return Finding("versions", FAIL, node, what, "bring the nodes to the same versions")
        if value.get("backend") == "no":
            fix = f"install another mlx there, or choose --backend ring (not {expected.backend})"
            return Finding("versions", FAIL, node, f"mlx {value['mlx']} has no jaccl", fix)
        if expected.engine.name == "vllm-mlx" and "vllm-mlx" not in value:
            # No failure: a PYTHONPATH of --env may still lead to it.
            fix = "install it there, or choose --python or --cwd"
            return Finding("versions", WARN, node, f"{what}, no vllm-mlx", fix)
        return Finding("versions", OK, node, what)

    return each("versions", snapshot, version_facts.KEY, judge)
