"""remote/big/node.py, run on the nodes by the ranks' python."""

import json
from collections.abc import Mapping, Sequence
from typing import TypedDict

from tasks.cluster.cluster import Cluster
from tasks.cluster.errors import ActionFailed
from tasks.cluster.ssh import nodes, scripts


class About(TypedDict, total=False):
    """What remote/big/node.py prints: of its machine, of the model made, of what it read."""

    folder: str
    kind: str
    machine: str
    cores: int
    memory: int
    mlx: str
    mlx_lm: str
    python: str
    name: str
    bytes: int
    files: int
    seconds: float
    was_there: bool


def on_node(
    cluster: Cluster,
    folder: str,
    words: Sequence[str],
    limit: float = 120,
    plan: Mapping[str, object] | None = None,
    everywhere: bool = False,
) -> About:
    """What remote/big/node.py says to these words, on rank 0's node or on all."""
    script = scripts.script(
        "big/node.sh",
        words,
        program=scripts.text("big/node.py"),
        python=cluster.ranks[0].command[0],
        folder=folder,
        plan=json.dumps(plan) if plan else "",
        rank=scripts.text("big/sitecustomize.py") if plan else "",
    )
    found: About = {}
    asked = cluster.nodes if everywhere else cluster.nodes[:1]
    for name, answer in nodes.sh(asked, script, limit).items():
        if not answer.ok:
            why = answer.failure or answer.err.strip().rpartition("\n")[2] or "no reason given"
            raise ActionFailed(f"maintain.big: {name}: {why}")
        said = json.loads(answer.out.strip().rpartition("\n")[2])
        if found and said["folder"] != found["folder"]:
            raise ActionFailed(f"--folder {folder} is not the same on all nodes: give a full path")
        found = said
    return found
