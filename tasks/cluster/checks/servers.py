"""Which processes of a node are servers and ranks, and whose: recorded, ours, strangers'. Pure."""

import os
from collections.abc import Mapping

from ..config.engine import Engine
from ..facts import NodeFacts, known
from ..facts.machine import ports as port_facts
from ..facts.machine import processes as process_facts
from ..facts.machine.processes import Process, mark
from ..facts.server import state as record
from ..facts.server.state import State
from .expected import Expected


def recorded(facts: NodeFacts) -> dict[int, str]:
    """Pid -> what it is, for each recorded rank of a node that lives."""
    state = known(facts, record.KEY)
    ranks = state.ranks.values() if state else ()
    return {rank.pid: f"rank {rank.rank}" for rank in ranks if rank.alive and rank.pid}


def marks(facts: NodeFacts) -> set[str]:
    """The marks in the environment of recorded ranks, and of what these have started."""
    state = known(facts, record.KEY)
    ranks = state.ranks.values() if state else ()
    return {mark(rank.record.run, rank.rank) for rank in ranks if rank.record}


def is_of_another(process: Process, facts: NodeFacts) -> bool:
    """Whether a process is a rank, or of one, that another cluster's record knows."""
    state = known(facts, record.KEY)
    return state is not None and process.mark.partition(".")[0] in state.others


def unrecorded(
    expected: Expected, facts: NodeFacts, ports: frozenset[int] = frozenset()
) -> dict[int, str]:
    """Pid -> what it is, for ranks of this user that no record knows and that are ours for sure.

    They meet at our ports (or at `ports`): so says their environment, or they listen there. Where a
    ring's file is gone its place tells, if that is in our state directory; else they are not ours.
    What another cluster's record knows is that one's, at whatever ports.
    """
    ours = expected.meeting_ports | ports
    holders = known(facts, port_facts.KEY) or {}
    listening = {holder.pid for port in ours for holder in holders.get(port, ())}
    state = known(facts, record.KEY)
    named, marked = recorded(facts), marks(facts)
    found = {}
    for process in (known(facts, process_facts.KEY) or {}).values():
        # What a recorded rank has started is known by its mark.
        is_known = process.pid in named or process.mark in marked or is_of_another(process, facts)
        if not process.is_own or is_known:
            continue
        is_rank = process.rank is not None
        meets = is_rank and (process.meets & ours or _is_in(process.lost_file, state))
        serves = process.pid in listening and expected.engine.is_server(
            process.program, process.command
        )
        if meets or serves:
            number = f"rank {process.rank}" if is_rank else f"a {expected.engine.name} rank"
            found[process.pid] = f"{number} without a record"
    return found


def _is_in(path: str, state: State | None) -> bool:
    """Whether a path is in the node's state directory, by the name that the node has for it."""
    if state is None or not state.folders:
        return False
    here, *old = state.folders
    return path.startswith(f"{here}/runs/") or os.path.dirname(path) in (here, *old)


def strange_ranks(values: Mapping[int, Process], facts: NodeFacts) -> list[Process]:
    """Ranks that no record here knows, without what they have started."""
    marked = marks(facts)
    found = {pid for pid, each in values.items() if each.rank is not None}
    return [
        values[pid]
        for pid in sorted(found - recorded(facts).keys())
        if values[pid].mark not in marked and values[pid].ppid not in found
    ]


def servers(engine: Engine, facts: NodeFacts) -> dict[int, str]:
    """Pid -> what it is, for each server process of a node: recorded ranks and the engine's."""
    found = {}
    for process in (known(facts, process_facts.KEY) or {}).values():
        if engine.is_server(process.program, process.command):
            found[process.pid] = f"a {engine.name} server"
    if state := known(facts, record.KEY):
        for rank in state.ranks.values():
            if rank.alive and rank.pid:
                found[rank.pid] = f"rank {rank.rank}"
    return found
