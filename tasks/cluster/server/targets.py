"""Which processes of a node are to be stopped, and how each is known to be the same still."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..checks.servers import servers, unrecorded
from ..cluster import Cluster
from ..facts import NodeFacts, known
from ..facts.machine import ports
from ..facts.machine import processes as listed_processes
from ..facts.machine.processes import Process, mark
from ..facts.server.state import RankState
from ..facts.snapshot import Snapshot


@dataclass(frozen=True)
class Target:
    """A process to stop; `same` is how it is known that it is still the one that was seen.

    `signal` is what it ends by in order, if it leads.

    That is ("start", its boot, its start), ("child", its boot, its command line) or ("command",
    "", its command line).
    """

    node: str
    pid: int
    label: str
    same: tuple[str, str, str]
    is_leader: bool = False
    has_rdma: bool = False
    signal: str = "TERM"


def targets(
    cluster: Cluster, read: Snapshot, run: str | None = None, everything: bool = False
) -> list[Target]:
    """What there is to stop: recorded ranks by pid and start, others by their command line.

    Others are ranks that are ours without a record; with `everything` all servers of the engine.
    """
    found = []
    met = frozenset(port for _, r in read.ranks if r.record for port in r.record.ports)
    for node, values in read.nodes.items():
        processes = known(values, listed_processes.KEY) or {}
        here = [rank for where, rank in read.ranks if where == node and _is_of(rank, run)]
        ours = {rank.pid: rank for rank in here if rank.pid}
        recorded = {pid: r for pid, r in ours.items() if r.alive}
        # A pid that is a process again is a stranger's, and so is its group.
        dead = {pid: r for pid, r in ours.items() if not r.alive and pid not in processes}
        listed = {} if run else unrecorded(cluster.expected, values, met)
        if everything:
            listed = {**servers(cluster.engine, values), **listed}
        for pid, label in {**dict.fromkeys(recorded, ""), **listed}.items():
            if pid in recorded:
                found.append(_recorded(cluster, node, recorded[pid]))
            else:
                same = _same_command(processes[pid].command)
                leads = _holds_port(values, pid, cluster.http_port)
                more = cluster.has_rdma, cluster.engine.stop_signal
                found.append(Target(node, pid, label, same, leads, *more))
        seen = {target.pid for target in found if target.node == node}
        children = _children(node, {**recorded, **dead}, processes)
        children += _marked(node, here, processes)
        found += {t.pid: t for t in reversed(children) if t.pid not in seen}.values()
    return found


def _is_of(rank: RankState, run: str | None) -> bool:
    return not run or (rank.record is not None and rank.record.run == run)


def _recorded(cluster: Cluster, node: str, rank: RankState) -> Target:
    same, record = ("start", rank.boot, rank.start), rank.record
    has_rdma = record.backend.startswith("jaccl") if record else cluster.has_rdma
    engine = cluster.engine_named(record.engine) if record else cluster.engine
    name = engine.stop_signal if engine else "TERM"
    return Target(node, rank.pid or 0, f"rank {rank.rank}", same, rank.rank == 0, has_rdma, name)


def _same_command(command: str) -> tuple[str, str, str]:
    return "command", "", " ".join(command.split())


def _children(
    node: str, recorded: Mapping[int, RankState], processes: Mapping[int, Process]
) -> list[Target]:
    """What a rank has started and left in its process group; the group's id is the rank's pid."""
    found = []
    for pid, process in processes.items():
        if pid != process.pgid and process.pgid in recorded:
            rank = recorded[process.pgid]
            same = ("child", rank.boot, _same_command(process.command)[2])
            found.append(Target(node, pid, f"child of rank {rank.rank}", same))
    return found


def _marked(
    node: str, ranks: Sequence[RankState], processes: Mapping[int, Process]
) -> list[Target]:
    """What has a rank's mark in its environment, whatever group or session it went to."""
    marks = {mark(rank.record.run, rank.rank): rank for rank in ranks if rank.record}
    return [
        Target(
            node, pid, f"child of rank {marks[process.mark].rank}", _same_command(process.command)
        )
        for pid, process in processes.items()
        if process.mark in marks
    ]


def _holds_port(values: NodeFacts, pid: int, port: int) -> bool:
    holders = known(values, ports.KEY) or {}
    return any(holder.pid == pid for holder in holders.get(port, ()))
