"""What a node tells of a model, as data."""

from __future__ import annotations

from typing import Any

from tasks.cluster.checks.finding import Finding
from tasks.cluster.facts import NodeFacts
from tasks.cluster.facts.machine import gpu, memory
from tasks.cluster.facts.machine.memory import GIB, Memory
from tasks.cluster.facts.models import split
from tasks.cluster.facts.models.model import KEY as MODEL
from tasks.cluster.facts.models.model import Model
from tasks.cluster.facts.models.split import TENSOR, Split, SplitRow, Weights

# 200 GiB over 2 ranks, and 160 KiB of cache per token on each.
HALF = SplitRow(2, TENSOR, "yes", "", (100 * GIB,) * 2, (4,), ((None, 160 * 1024),))
WHOLE = Weights(None, {"model.safetensors": 200 * GIB})
SAID = Split("0.32.2", "llama", 80, (), 131072, (HALF,), WHOLE, kept=True)

FILES = {"config.json": "9 1", "tokenizer.json": "9 2", "model.safetensors": str(200 * GIB)}


def facts_of(node: str = "n", **values: Any) -> NodeFacts:
    """By the names of the facts."""
    whole = {
        "model": Model("/m", FILES),
        "split": SAID,
        "memory": Memory(512 * GIB, 9 * GIB, 16384),
        "gpu": 0,
    }
    given = {**whole, **values}
    return NodeFacts(node, {k: given[k.name] for k in (MODEL, split.KEY, memory.KEY, gpu.KEY)})


def told(findings: list[Finding]) -> list[str]:
    return [f"{each.level} {each.node}: {each.what}: {each.fix}" for each in findings]
