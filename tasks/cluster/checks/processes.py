"""Preflight's check "processes": whose ranks and servers run already. Pure."""

from collections.abc import Mapping, Sequence

from ..facts.machine import processes as process_facts
from ..facts.machine.processes import Process
from ..facts.server import state as record
from ..facts.snapshot import Snapshot
from .expected import Expected
from .finding import FAIL, OK, WARN, Finding, more
from .registry import check, each, recorded_state
from .servers import recorded, servers, strange_ranks, unrecorded


@check("processes", recorded_state, process_facts.FACT, what="ranks and servers that run already")
def processes(expected: Expected, snapshot: Snapshot) -> list[Finding]:
    """Ranks of ours, ranks that no record knows, and servers that someone else started."""

    def judge(node: str, values: Mapping[int, Process]) -> Finding:
        facts = snapshot.on(node)
        if found := {**recorded(facts), **unrecorded(expected, facts)}:
            names = ", ".join(f"{label} (pid {pid})" for pid, label in sorted(found.items()))
            return Finding(
                "processes", FAIL, node, f"already runs: {names}", "stop it: inv tp.stop"
            )
        ranks = strange_ranks(values, facts)
        blocking = [each for each in ranks if not each.mark or (each.is_rdma and expected.is_rdma)]
        if blocking:
            return Finding("processes", FAIL, node, *_blocked(expected, blocking))
        if single := servers(expected.engine, facts):
            fix = "it shares the memory; inv tp.stop leaves it, --all ends it"
            return Finding("processes", WARN, node, f"also runs: {_named(single)}", fix)
        return Finding("processes", OK, node, "no server runs")

    unknown = each("processes", snapshot, record.KEY, lambda node, value: None)
    return unknown + each("processes", snapshot, process_facts.KEY, judge)


def _named(found: Mapping[int, str]) -> str:
    return ", ".join(f"{label} (pid {pid})" for pid, label in sorted(found.items()))


def _blocked(expected: Expected, found: Sequence[Process]) -> tuple[str, str]:
    """What and fix for ranks that are not ours, and in our way."""
    first = found[0]
    whose = "of another cluster" if first.mark else "that no record knows"
    what = f"rank {first.rank} {whose} runs (pid {first.pid}, {first.user or 'user unknown'})"
    what += more(found)
    skip = "or --skip processes"
    if not first.is_own:
        return what, f"ask {first.user or 'its user'}, {skip}"
    if expected.engine.is_server(first.program, first.command):
        return what, f"inv tp.stop --all, {skip}"
    return what, f"end it on that node, {skip}"
