"""Preflight's check "model": on all nodes, the same, whole, divisible, not too large. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..config.engine import option
from ..facts import Fact, Key, known
from ..facts.machine import gpu
from ..facts.machine import memory as memory_facts
from ..facts.models import model as model_facts
from ..facts.models import split
from ..facts.models.model import Model
from ..facts.snapshot import Snapshot
from .expected import Expected
from .finding import FAIL, OK, WARN, Finding, more
from .models import divide, fit, whole
from .registry import check, each

if TYPE_CHECKING:
    from ..cluster import Cluster
    from ..ssh.node import Node


def of_model(
    cluster: Cluster, node: Node, path: str, ranks: Sequence[int] = ()
) -> list[Fact[object]]:
    """What there is to know of a model on a node, for the cluster's number of ranks or others."""
    rank, expected = cluster.on(node)[0], cluster.expected
    how = expected.mode, ranks or [len(cluster.ranks)]
    python, env = rank.command[0], rank.env
    asked = split.fact(path, rank.cwd, python, cluster.state_dir, *how, env)
    return [model_facts.fact(path, rank.cwd, python, env), asked, memory_facts.FACT, gpu.FACT]


def _model(cluster: Cluster, node: Node) -> list[Fact[object]]:
    if not cluster.model:
        return []
    wanted = of_model(cluster, node, cluster.model)
    rank = cluster.on(node)[0]
    parts = [
        model_facts.fact(path, rank.cwd, rank.command[0], rank.env, _part(name))
        for name in PARTS
        if (path := option(cluster.args, name))
    ]
    return [*(wanted if cluster.engine.has_mlx_lm else wanted[:1]), *parts]


PARTS = ("--adapter-path", "--draft-model")  # what a server loads beside its model


def _part(name: str) -> Key[Model]:
    return Key[Model](name[2:])


@check(
    "model",
    _model,
    remedy="check --cwd and the model's permissions on that node",
    what="the same files on all nodes, whole, divisible by the ranks, not too large",
)
def model(expected: Expected, snapshot: Snapshot) -> list[Finding]:
    """The model is on every node, the same, whole, and each rank's share fits."""
    if not expected.model:
        node = expected.ranks[0].host.ssh
        return [Finding("model", WARN, node, "no model is named", "-- --model PATH")]
    found = [*refused(expected), *same_files(expected, snapshot), *parts(expected, snapshot)]
    return [*found, *one_path(expected, snapshot), *shares(expected, snapshot)]


def refused(expected: Expected) -> list[Finding]:
    """Arguments that the engine refuses, or takes for something else, once it has started."""
    words, node = expected.ranks[0].command, expected.ranks[0].host.ssh
    found = expected.engine.refuses(words, len(expected.ranks))
    return [Finding("model", FAIL, node, f"{each.option}: {each.why}", each.fix) for each in found]


def parts(expected: Expected, snapshot: Snapshot) -> list[Finding]:
    """An adapter and a draft model are on every node, where the engine takes them."""
    given = {name: option(expected.ranks[0].command, name) for name in PARTS}
    return [
        Finding("model", FAIL, node, f"{name} {path} {part.lack}", "copy it to that node")
        for name, path in given.items()
        for node, facts in snapshot.nodes.items()
        if path and (part := known(facts, _part(name))) and part.path is None
    ]


def one_path(expected: Expected, snapshot: Snapshot) -> list[Finding]:
    """Where the server is not kept to its model all ranks find it by rank 0's path.

    That is its id, by which clients ask; a rank that finds nothing there would hang all.
    """
    if expected.engine.keeps_to_model or len(expected.ranks) < 2:
        return []
    nodes = dict.fromkeys(rank.host.ssh for rank in expected.ranks)
    models = {node: known(snapshot.on(node), model_facts.KEY) for node in nodes}
    paths = {node: each.path for node, each in models.items() if each and each.path}
    first = paths.get(next(iter(nodes)), "")
    fix = "give all nodes the same path (a link will do)"
    what = f"not {first}, by which clients would ask for it"
    return [
        Finding("model", FAIL, node, f"{path}, {what}", fix)
        for node, path in paths.items()
        if first and path != first and "/models--" not in path
    ]


def shares(expected: Expected, snapshot: Snapshot, tokens: int | None = None) -> list[Finding]:
    """The model is whole, divides over the ranks, and each share fits, with a cache of `tokens`."""
    count, mode = len(expected.ranks), expected.mode
    facts = snapshot.nodes
    numbers = {r.host.ssh: [each.rank for each in expected.on(r.host.ssh)] for r in expected.ranks}
    engine = expected.engine
    foreign = "" if engine.divides_by_mlx_lm else engine.name
    if not engine.has_mlx_lm and not any(split.KEY in values for values in facts.values()):
        what = f"unknown: {engine.name} does not divide by mlx-lm"
        return [Finding("divides", WARN, node, what) for node in facts if count > 1]
    return [
        *whole.complete(facts),
        *whole.tokenizers(facts),
        *divide.divides(facts, count, mode, foreign, len(numbers)),
        *fit.fits(facts, numbers, mode, tokens),
        *divide.asked(facts),
    ]


def same_files(expected: Expected, snapshot: Snapshot) -> list[Finding]:
    """The model is on every node, and the same."""
    found = (known(values, model_facts.KEY) for values in snapshot.nodes.values())
    there = [model for model in found if model and model.path]

    def judge(node: str, value: Model) -> Finding:
        if value.path is None:
            what = f"{expected.model} {value.lack}"
            return Finding("model", FAIL, node, what, _remedy(expected, value))
        if wrong := _wrong(value, there[0]):
            return Finding("model", FAIL, node, *wrong)
        return Finding("model", OK, node, f"{value.path}, {len(value.files)} files")

    return each("model", snapshot, model_facts.KEY, judge)


def _remedy(expected: Expected, value: Model) -> str:
    """What to do where no model is, by what was named for it."""
    if page := re.match(r"https?://[^/]+/([^/]+/[^/?]+)", expected.model or ""):
        return f"name its repository: {page[1]}"
    if value.is_file:
        return "name the folder that has its config.json"
    if home := expected.model_at_home:
        at_home = f"copy it there, or write '{home}', in quotes"
        return f"{at_home}: without them the shell made ~ this machine's home"
    return "copy or download it to that node"


def _wrong(value: Model, first: Model) -> tuple[str, str] | None:
    """How a model differs from the first node's, or what it lacks; and what to do."""
    names = {*value.files, *first.files}
    if other := sorted(name for name in names if value.files.get(name) != first.files.get(name)):
        how = "differs from the first node's" if other[0] in value.files else "is missing"
        return f"{other[0]} {how}{more(other)}", "copy the model to all nodes again"
    if not value.is_model:
        return f"{value.path} has no config.json", "is it a model?"
    if not any(name.endswith(".safetensors") for name in value.files):
        return f"{value.path} has no weights (*.safetensors)", "copy the model to that node again"
    return None
