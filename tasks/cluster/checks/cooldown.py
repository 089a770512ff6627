"""Preflight's check "cooldown": a rank that ended without clean-up lately. Pure."""

from ..facts.server import state as record
from ..facts.server.state import State
from ..facts.snapshot import Snapshot
from .expected import Expected
from .finding import OK, WARN, Finding
from .registry import check, each, recorded_state


@check("cooldown", recorded_state, what="a rank that ended without clean-up lately")
def cooldown(expected: Expected, snapshot: Snapshot) -> list[Finding]:
    """A rank that ended without clean-up lately: the kernel needs time to reclaim its RDMA."""

    def judge(node: str, value: State) -> Finding:
        left = cooling(value, expected.cooldown) if expected.is_rdma else 0
        if left > 0:
            what = f"{left:.0f} s left: a rank has ended without clean-up"
            return Finding("cooldown", WARN, node, what, "waits")
        return Finding("cooldown", OK, node, "nothing to wait for")

    return each("cooldown", snapshot, record.KEY, judge)


def cooling(state: State, cooldown_s: float) -> float:
    """Seconds that a start still has to wait after the last unclean end of a rank on this node."""
    if state.sigkill is None:
        return 0.0
    # A clock that was set back must not make anyone wait longer than the whole cooldown.
    return min(max(state.sigkill + cooldown_s - state.now, 0.0), cooldown_s)
