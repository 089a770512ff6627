"""Reading all nodes of a cluster at once: one script, one round trip per node."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from . import facts, nodes, state
from .checks import FACTS
from .cluster import Cluster
from .facts import Fact, known, logs, memory, model, ports, processes, rdma, versions
from .launch import log_path
from .nodes import SCRIPT_TIMEOUT, Answer, Node
from .state import RankState, State

Wants = Callable[[Node], Iterable[Fact]]


@dataclass(frozen=True)
class Reading:
    """Each node's facts by node and name, and why a node gave none, as (what, what to do)."""

    facts: Mapping[str, Mapping[str, Any]]
    unreachable: Mapping[str, tuple[str, str]]

    def state(self, node: str) -> State | None:
        found: State | None = known(self.facts.get(node, {}), "state")
        return found

    @property
    def ranks(self) -> list[tuple[str, RankState]]:
        """(node, rank) for every rank recorded on any node, by rank."""
        found = [
            (node, rank)
            for node in self.facts
            for rank in getattr(self.state(node), "ranks", {}).values()
        ]
        return sorted(found, key=lambda pair: pair[1].rank)


@dataclass(frozen=True)
class Query:
    """Facts that are wanted of each node, and the scripts that read them."""

    facts: Mapping[str, Sequence[Fact]]
    nonce: str

    @classmethod
    def of(cls, targets: Sequence[Node], wanted: Wants) -> Query:
        return cls({node.name: list(wanted(node)) for node in targets}, secrets.token_hex(8))

    @property
    def scripts(self) -> dict[str, str]:
        return {name: facts.script(each, self.nonce) for name, each in self.facts.items()}

    def reading(self, answers: Mapping[str, Answer]) -> Reading:
        found: dict[str, Mapping[str, Any]] = {}
        lost: dict[str, tuple[str, str]] = {}
        for name, answer in answers.items():
            if answer.failure and self.nonce not in answer.out:
                lost[name] = (answer.failure, answer.remedy or "")
            else:
                found[name] = facts.read(self.facts[name], answer.out, self.nonce)
        return Reading(found, lost)


def preflight(cluster: Cluster, skip: Iterable[str] = ()) -> Reading:
    """All facts that the checks need, but for those of skipped checks."""
    return read(cluster.nodes, lambda node: _preflight_facts(cluster, node, set(skip)))


def running(cluster: Cluster) -> Reading:
    """What runs: the record, the processes, the memory, the ports and, with RDMA, what it holds."""
    return read(cluster.nodes, running_facts(cluster))


def alive(cluster: Cluster, names: Container[str] | None = None) -> Reading:
    """What there is to tell of and to stop, on all nodes or those named: `running` without memory.

    A node whose memory can't be read (vm_stat hangs) is no reason to wait for that.
    """
    asked = [node for node in cluster.nodes if names is None or node.name in names]
    return read(asked, lambda node: _alive(cluster))


def running_facts(cluster: Cluster) -> Wants:
    """The facts of `running`."""
    wanted = [*_alive(cluster), memory.FACT]
    wanted += [rdma.DEVINFO, rdma.IN_USE] if cluster.backend.startswith("jaccl") else []
    return lambda node: wanted


def _alive(cluster: Cluster) -> list[Fact]:
    return [state.fact(cluster.state_dir), processes.FACT, ports.FACT]


def states(cluster: Cluster, more: Any = None) -> Reading:
    """Only the state directories; `more(node)` may name further facts."""
    base = state.fact(cluster.state_dir)
    return read(cluster.nodes, lambda node: [base, *(more(node) if more else [])])


def read(targets: Sequence[Node], wanted: Wants, timeout: float = SCRIPT_TIMEOUT) -> Reading:
    """The facts `wanted(node)` of each node."""
    query = Query.of(targets, wanted)
    return query.reading(nodes.sh(targets, query.scripts, timeout))


def _preflight_facts(cluster: Cluster, node: Node, skip: set[str]) -> list[Fact]:
    rank = cluster.on(node)[0]
    python, cwd = rank.command[0], rank.cwd
    paths = {rank.rank: log_path(cluster, rank) for rank in cluster.on(node)}
    wanted = [state.fact(cluster.state_dir), logs.fact(paths)]
    wanted += [memory.FACT] if "memory" not in skip else []
    wanted += [processes.FACT] if "processes" not in skip else []
    wanted += [ports.fact(cluster.wanted.ports_on(node.name))] if "ports" not in skip else []
    wanted += [versions.fact(python, cwd)] if "versions" not in skip else []
    if cluster.model and "model" not in skip:
        wanted.append(model.fact(cluster.model, cwd))
    if cluster.backend.startswith("jaccl") and "rdma" not in skip:
        wanted += [*rdma.FACTS, rdma.IN_USE]
    return [*wanted, *(fact for name in FACTS if name not in skip for fact in FACTS[name])]
