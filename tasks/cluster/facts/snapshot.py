"""What the nodes of a cluster have told at one time, and the query that asked them. Pure."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .. import facts
from . import Fact, Key, NodeFacts, known
from .server import state
from .server.state import RankState, State

if TYPE_CHECKING:
    from ..ssh.node import CommandResult, Node

    Wants = Callable[[Node], Iterable[Fact[object]]]


class _AsMapping:
    """A snapshot as version 0.1 had it, a mapping of nodes, for a version more."""

    if not TYPE_CHECKING:

        @property
        def facts(self):
            facts.old("a snapshot's `facts`", "the snapshot itself")
            return self

        def _old(self):
            facts.old("a snapshot as a mapping", "its `nodes`, or `on(node)`")
            return self.nodes

        def __iter__(self):
            return iter(self._old())

        def __getitem__(self, node):
            return self._old()[node]

        def __getattr__(self, name):
            if name not in ("get", "items", "keys", "values"):
                raise AttributeError(name)
            return getattr(self._old(), name)


@dataclass(frozen=True)
class Snapshot(_AsMapping):
    """The facts of each node that answered, and why a node did not, as (what, what to do)."""

    nodes: Mapping[str, NodeFacts]
    unreachable: Mapping[str, tuple[str, str]]

    def on(self, node: str) -> NodeFacts:
        """The facts of a node; none where it did not answer."""
        return self.nodes.get(node) or NodeFacts(node, {})

    def state(self, node: str) -> State | None:
        return known(self.on(node), state.KEY)

    @property
    def ranks(self) -> list[tuple[str, RankState]]:
        """(node, rank) for every rank recorded on any node, by rank."""
        states = {node: self.state(node) for node in self.nodes}
        found = [(node, rank) for node, s in states.items() if s for rank in s.ranks.values()]
        return sorted(found, key=lambda pair: pair[1].rank)


@dataclass(frozen=True)
class FactQuery:
    """Facts that are wanted of each node, and the scripts that read them."""

    facts: Mapping[str, Sequence[Fact[object]]]
    nonce: str

    @classmethod
    def of(cls, targets: Sequence[Node], wanted: Wants) -> FactQuery:
        found = {node.name: _once(wanted(node)) for node in targets}
        return cls(found, secrets.token_hex(8))

    @property
    def scripts(self) -> dict[str, str]:
        return {name: facts.script(each, self.nonce) for name, each in self.facts.items()}

    def snapshot(self, answers: Mapping[str, CommandResult]) -> Snapshot:
        found: dict[str, NodeFacts] = {}
        lost: dict[str, tuple[str, str]] = {}
        for name, answer in answers.items():
            if self.nonce not in answer.out:
                # Of a login shell that is none (nologin), an account that has expired.
                see = "" if answer.failure else f"see it with: ssh {name} true"
                lost[name] = (answer.why, answer.remedy or see)
            else:
                found[name] = facts.read(self.facts[name], answer.out, self.nonce, name)
        return Snapshot(found, lost)


def _once(wanted: Iterable[Fact[object]]) -> list[Fact[object]]:
    """Several checks may want the same fact."""
    found: dict[Key[object], Fact[object]] = {}
    for fact in wanted:
        found.setdefault(fact.key, fact)
    return list(found.values())
