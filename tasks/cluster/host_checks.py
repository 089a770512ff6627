"""Facts of hosts -> findings of hosts.check. Pure, and unknown is never ok."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .checks import FAIL, OK, WARN, Facts, Finding
from .facts import Unknown
from .facts.clock import skew
from .facts.firewall import BLOCKS_ALL, PROGRAM
from .facts.power import Power
from .facts.reach import Reach

SKEW = 5.0  # seconds that a clock may differ from ours
NO_MAC = "no macOS: not asked"

Judged = tuple[str, str, str]  # level, what, fix


def judge(facts: Mapping[str, Facts], begun: float, ended: float) -> list[Finding]:
    """A finding per node and fact of hosts.check, but for its versions.

    `begun` and `ended` are when the nodes were read, by our clock.
    """

    def clock(now: float) -> Judged:
        off = skew(now, begun, ended)
        if abs(off) <= SKEW:
            return OK, "as here", ""
        what = f"{abs(off):.0f} s {'ahead of' if off > 0 else 'behind'} the clock here"
        return WARN, what, "set the time by network: sudo sntp -sS time.apple.com"

    judges: dict[str, Callable[[Any], Judged]]
    judges = {"sudo": sudo, "clock": clock, "power": power, "firewall": firewall, "reach": reach}
    return [
        finding
        for name, each in judges.items()
        for node, values in facts.items()
        for finding in _of(name, node, values, each)
    ]


def _of(name: str, node: str, values: Facts, each: Callable[[Any], Judged]) -> list[Finding]:
    if name not in values:
        return []
    value = values[name]
    if isinstance(value, Unknown):
        return [Finding(name, FAIL, node, f"unknown: {value.why}", "run it on the node to see why")]
    level, what, fix = each(value)
    return [Finding(name, level, node, what, fix)]


def sudo(value: bool) -> Judged:
    """Only the links' settings need it."""
    if value:
        return OK, "sudo without password", ""
    return WARN, "sudo wants a password", "rdma.setup needs --ask-sudo, and tells a sudoers line"


def power(value: Power | None) -> Judged:
    """A node that sleeps, or saves power, under a server that waits for requests."""
    if value is None:
        return OK, NO_MAC, ""
    if value.sleep:
        by = f" (now kept awake by {', '.join(value.prevented)})" if value.prevented else ""
        what = f"sleeps after {value.sleep} min without use{by}"
        return WARN, what, "sudo pmset -a sleep 0"
    if value.is_low:
        return WARN, "low power mode", "sudo pmset -a lowpowermode 0"
    return OK, "never sleeps", ""


def firewall(value: int | None) -> Judged:
    """Ranks listen for each other, and rank 0 for its users."""
    if value is None:
        return OK, NO_MAC, ""
    if value == BLOCKS_ALL:
        return FAIL, "the firewall blocks all that comes in", f"sudo {PROGRAM} --setblockall off"
    if value:
        fix = f"if others can't reach a rank: sudo {PROGRAM} --add PYTHON, --unblockapp PYTHON"
        return WARN, "the firewall is on", fix
    return OK, "the firewall is off", ""


def reach(value: Reach) -> Judged:
    """The python against nc, to the next node's sshd."""
    if value.python in ("connected", "ECONNREFUSED"):
        return OK, f"python reaches {value.peer}", ""
    if value.is_refused:
        what = f"Local Network privacy refuses python: {value.python} to {value.peer}, nc connects"
        fix = "allow it: System Settings, Privacy & Security, Local Network; or log in by sshd"
        return FAIL, what, fix
    what = f"python gets {value.python} from {value.peer}{', nc connects' * value.nc}"
    return FAIL, what, "do both nodes have these addresses? inv hosts.list, inv rdma.ping"


def versions(facts: Mapping[str, Facts]) -> list[tuple[str, str, Sequence[str]]]:
    """(level, name, value per node): the same name's values side by side."""
    found = [values.get("versions") for values in facts.values()]
    each = [value if isinstance(value, Mapping) else {} for value in found]
    names = dict.fromkeys(name for value in each for name in value)
    rows = [(name, [value.get(name, "unknown") for value in each]) for name in names]
    return [(OK if len(set(row)) == 1 else FAIL, name, row) for name, row in rows]
