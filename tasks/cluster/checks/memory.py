"""Preflight's check "memory": wired memory, and what a killed server left. Pure."""

from ..facts import NodeFacts, known
from ..facts.machine import memory as memory_facts
from ..facts.machine.memory import GIB, Memory
from ..facts.server import state as record
from ..facts.snapshot import Snapshot
from .expected import Expected
from .finding import FAIL, OK, WARN, Finding
from .registry import check, each, recorded_state
from .servers import servers

REBOOT = "reboot it: nothing else frees it"
LEAK = 0.1  # of a node's memory: more than a graceful exit leaves (5 GiB of 512, omlx#2184)
SWAP = GIB // 4  # bytes: macOS itself may swap out a little on a node that has nothing to do


@check(
    "memory", recorded_state, memory_facts.FACT, what="wired memory, and what a killed server left"
)
def memory(expected: Expected, snapshot: Snapshot) -> list[Finding]:
    """Wired memory that a killed server left behind; only a reboot frees it."""

    def judge(node: str, value: Memory) -> Finding:
        what = f"{value.wired / GIB:.1f} of {value.total / GIB:.0f} GiB wired"
        if value.wired > expected.wired_limit:
            limit = f" (limit {expected.wired_limit / GIB:.0f} GiB)"
            return Finding("memory", FAIL, node, what + limit, REBOOT)
        leak = leaked(expected, snapshot.on(node))
        if leak > LEAK * value.total:
            share = f"{leak / GIB:.1f} GiB ({leak / value.total:.0%}) more"
            what = f"{what}: {share} than before this boot's first start"
            return Finding("memory", FAIL, node, what, REBOOT)
        if (value.swap or 0) > SWAP:
            what = f"{what}, {(value.swap or 0) / GIB:.1f} GiB swapped out before the load"
            fix = "end what holds the memory, or reboot it: such loads have ended in kernel panics"
            return Finding("memory", WARN, node, what, fix)
        return Finding("memory", OK, node, what)

    return each("memory", snapshot, memory_facts.KEY, judge)


def leaked(expected: Expected, facts: NodeFacts) -> int:
    """Bytes wired now over the baseline; 0 while a server runs, or where it is unknown."""
    state, value = known(facts, record.KEY), known(facts, memory_facts.KEY)
    if not state or not value or state.baseline is None or servers(expected.engine, facts):
        return 0
    return max(value.wired - state.baseline, 0)
