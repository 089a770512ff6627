"""The checks by name: what each asks of nodes, and how it judges the answers. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from ..facts import Fact, Key, UnknownFactError, as_key, old
from ..facts.server import state as record
from ..facts.snapshot import Snapshot
from .expected import Expected
from .finding import FAIL, Finding

if TYPE_CHECKING:
    from ..cluster import Cluster
    from ..ssh.node import Node

T = TypeVar("T")
Judge = Callable[[Expected, Snapshot], "list[Finding]"]
Facts = Callable[["Cluster", "Node"], Iterable[Fact[object]]]


@dataclass(frozen=True)
class Check:
    """What preflight asks of each node, and how it judges all that they told.

    `remedy` is what to do where a fact is unknown, `what` what it looks at, in few words.
    """

    name: str
    facts: Facts
    judge: Judge
    remedy: str
    what: str = ""

    def findings(self, expected: Expected, snapshot: Snapshot) -> list[Finding]:
        """Judge; what the judge takes for known, and is not, fails."""
        try:
            return self.judge(expected, snapshot)
        except UnknownFactError as error:
            return [unknown(self.name, error)]

    def __call__(self, expected: Expected, snapshot: Snapshot) -> list[Finding]:
        old("a check as a function", "its `judge`")
        return self.judge(expected, snapshot)


RUN_IT = "run it on the node to see why"
CHECKS: dict[str, Check] = {}


def check(
    name: str, *facts: Fact[object] | Facts, remedy: str = "", what: str = ""
) -> Callable[[Judge], Judge]:
    """Make a function preflight's check `name`: a new one, or in place of that of this name.

    It wants these `facts` of every node, or those that a function of (cluster, node) gives, and in
    place of another also what that one wants. All are read in one round trip. `--skip name` leaves
    it out.
    """
    before = CHECKS.get(name)
    asked = [*((before.facts,) if before else ()), *facts]

    def wanted(cluster: Cluster, node: Node) -> Iterator[Fact[object]]:
        for each in asked:
            yield from [each] if isinstance(each, Fact) else each(cluster, node)

    def add(judge: Judge) -> Judge:
        why = remedy or (before.remedy if before else RUN_IT)
        CHECKS[name] = Check(name, wanted, judge, why, what or (before.what if before else ""))
        return judge

    return add


def recorded_state(cluster: Cluster, node: Node) -> list[Fact[object]]:
    return [record.fact(cluster.state_dir, cluster.name)]


def each(
    check: str, snapshot: Snapshot, key: Key[T], judge: Callable[[str, T], Finding | None]
) -> list[Finding]:
    """`judge` every node's value of a fact; an unknown one fails with what it said."""
    key = as_key(key)
    findings = []
    for node, values in snapshot.nodes.items():
        error = values.lacks(key)
        found = unknown(check, error) if error else judge(node, values[key])
        findings += [found] if found else []
    return findings


def unknown(check: str, error: UnknownFactError) -> Finding:
    """The finding for a fact that a check needs and has not."""
    remedy = CHECKS[check].remedy if check in CHECKS else RUN_IT
    return Finding(check, FAIL, error.node, f"unknown: {error.why}", remedy)
