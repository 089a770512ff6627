"""Reading and telling for inv dev.model. Nothing here changes a node."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import asdict, replace

from . import screen, show
from .cli import envelope
from .cluster import checks, fit, reading
from .cluster.checks import FAIL
from .cluster.cluster import Cluster
from .cluster.errors import BadInput, CheckFailed
from .cluster.facts import Fact, gpu, memory, model, weights
from .cluster.nodes import Node


def weigh(cluster: Cluster, path: str, tokens: int | None, as_json: bool) -> None:
    """Is the model on all nodes, the same, whole, and does a rank's share fit? Raise if not."""
    if not path or not path.isprintable():
        raise BadInput(f"{path!r}: give a model's folder or its Hugging Face name")

    def facts(node: Node) -> list[Fact[object]]:
        cwd = cluster.on(node)[0].cwd
        of_model = [each(path, cwd) for each in (model.fact, weights.config, weights.fact)]
        return [*of_model, memory.FACT, gpu.FACT]

    read = reading.read(cluster.nodes, facts)
    ranks = Counter(rank.host.ssh for rank in cluster.ranks)
    load = fit.load(read.nodes, len(cluster.ranks), tokens)
    findings = show.lost(read)
    findings += checks.model(replace(cluster.expected, model=path), read)
    findings += fit.complete(read.nodes)
    findings += fit.fits(read.nodes, load, ranks) if load else []
    failed = [finding for finding in findings if finding.level == FAIL]
    if as_json:
        envelope.give({"load": asdict(load) if load else None}, findings)
    else:
        rows = [(each.level, each.check, each.node, show.with_fix(each)) for each in findings]
        screen.table(rows, sys.stdout)
    show.unreachable(read)
    if failed:
        raise CheckFailed(f"{path}: {failed[0].node}: {failed[0].what}")
