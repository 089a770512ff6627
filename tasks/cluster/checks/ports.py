"""Preflight's check "ports": those of HTTP and of the ranks are free. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ..facts import Fact, NodeFacts, known
from ..facts.machine import ports as port_facts
from ..facts.machine import processes as process_facts
from ..facts.machine.ports import PortHolder
from ..facts.snapshot import Snapshot
from .expected import Expected
from .finding import FAIL, OK, Finding
from .registry import check, each
from .servers import marks, recorded, servers, unrecorded

if TYPE_CHECKING:
    from ..cluster import Cluster
    from ..ssh.node import Node


def _ports(cluster: Cluster, node: Node) -> list[Fact[object]]:
    return [port_facts.fact(cluster.expected.ports_on(node.name))]


@check("ports", _ports, what="those of HTTP and of the ranks")
def ports(expected: Expected, snapshot: Snapshot) -> list[Finding]:
    """The HTTP port on rank 0's node, and those by which the ranks meet."""

    def judge(node: str, taken: Mapping[int, Sequence[PortHolder]]) -> Finding:
        needed = expected.ports_on(node)
        if not (bound := [port for port in sorted(needed) if port in taken]):
            free = ", ".join(map(str, sorted(needed))) or "none needed"
            return Finding("ports", OK, node, f"free: {free}")
        port = bound[0]
        what = f"port {port} ({needed[port]}) is taken by {', '.join(map(str, taken[port]))}"
        fix = _free(expected, snapshot.on(node), port, needed[port])
        return Finding("ports", FAIL, node, what, fix)

    return each("ports", snapshot, port_facts.KEY, judge)


def _free(expected: Expected, facts: NodeFacts, port: int, use: str) -> str:
    """What frees a port that is taken, or goes round it."""
    other = "set tp.starting_port; never test it with nc or curl"
    if use == "HTTP":
        other = "choose -- --port N"
    values = known(facts, process_facts.KEY)
    if values is None:
        return f"inv tp.stop if it is of a server of yours; else end it there, or {other}"
    pids = {holder.pid for holder in (known(facts, port_facts.KEY) or {})[port]}
    found = {**recorded(facts), **unrecorded(expected, facts)}
    marked = marks(facts)
    if all(pid in found or (pid in values and values[pid].mark in marked) for pid in pids):
        return "inv tp.stop"
    if pids <= servers(expected.engine, facts).keys():
        return f"it is no rank of this cluster: inv tp.stop --all, or {other}"
    return f"it is none of ours: end it there, or {other}"
