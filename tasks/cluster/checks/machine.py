"""Facts of hosts -> findings of hosts.check. Pure, and unknown is never ok."""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from ..facts import Key, NodeFacts, known
from ..facts.links import reach as reach_facts
from ..facts.links.reach import Reach
from ..facts.machine import clock as clock_facts
from ..facts.machine import firewall as firewall_facts
from ..facts.machine import power as power_facts
from ..facts.machine import restarts
from ..facts.machine import sudo as sudo_facts
from ..facts.machine import versions as version_facts
from ..facts.machine.firewall import BLOCKS_ALL, PROGRAM
from ..facts.machine.power import Power
from ..facts.machine.restarts import FileVault, Updates
from . import FAIL, OK, WARN, Finding
from .registry import RUN_IT

SKEW = 5.0  # seconds that a clock may differ from ours
NO_MAC = "no macOS: not asked"

T = TypeVar("T")
Judged = tuple[str, str, str]  # level, what, fix


def judge(facts: Mapping[str, NodeFacts], begun: float, ended: float) -> list[Finding]:
    """A finding per node and fact of hosts.check but versions; read from `begun` to `ended`."""

    def clock(now: float) -> Judged:
        off = clock_facts.skew(now, begun, ended)
        if abs(off) <= SKEW:
            return OK, "as here", ""
        what = f"{abs(off):.0f} s {'ahead of' if off > 0 else 'behind'} the clock here"
        return WARN, what, "set the time by network: sudo sntp -sS time.apple.com"

    return [
        *_each(facts, sudo_facts.KEY, sudo),
        *_each(facts, clock_facts.KEY, clock),
        *_each(facts, power_facts.KEY, power),
        *_each(facts, restarts.FILEVAULT_KEY, filevault),
        *_each(facts, restarts.UPDATES_KEY, updates),
        *_each(facts, firewall_facts.KEY, firewall),
        *_each(facts, reach_facts.KEY, reach),
    ]


def _each(
    facts: Mapping[str, NodeFacts], key: Key[T], judge: Callable[[T], Judged]
) -> list[Finding]:
    """A finding for each node that was asked."""
    found = []
    for node, values in facts.items():
        if key in values:
            error = values.lacks(key)
            judged = (FAIL, f"unknown: {error.why}", RUN_IT) if error else judge(values[key])
            found.append(Finding(key.name, judged[0], node, *judged[1:]))
    return found


def sudo(value: bool) -> Judged:
    """Only the links' settings need it."""
    if value:
        return OK, "sudo without password", ""
    return WARN, "sudo wants a password", "rdma.setup needs --ask-sudo, and tells a sudoers line"


def power(value: Power | None) -> Judged:
    """A node that sleeps, saves power under a server that waits for requests, or stays off."""
    if value is None:
        return OK, NO_MAC, ""
    wrong = {}
    if value.sleep:
        by = f" (now kept awake by {', '.join(value.prevented)})" if value.prevented else ""
        wrong["sleep 0"] = f"sleeps after {value.sleep} min without use{by}"
    if value.is_low:
        wrong["lowpowermode 0"] = "low power mode"
    if value.comes_back is False:
        wrong["autorestart 1"] = "stays off after a power failure"
    if wrong:
        settings = " ".join(wrong)
        return WARN, ", ".join(wrong.values()), f"sudo pmset -a {settings}"
    return OK, f"never sleeps{', starts again after a power failure' * bool(value.comes_back)}", ""


def filevault(value: FileVault | None) -> Judged:
    """The keys of a user that come in by ssh lie on the volume that is locked."""
    if value is None or not value.is_on:
        return OK, NO_MAC if value is None else "FileVault is off", ""
    fix = "before a restart that is planned: sudo fdesetup authrestart; or sudo fdesetup disable"
    if value.unlocks:
        what = "FileVault is on: after a restart no key comes in until a password has, over ssh too"
        return WARN, what, f"unlock it by ssh -o PubkeyAuthentication=no, once; {fix}"
    return WARN, "FileVault is on: after a restart no ssh before a login at its screen", fix


def updates(value: Updates | None) -> Judged:
    """An update of macOS restarts it, and nodes of different versions are left."""
    if value is None or not value.are_installed:
        return OK, NO_MAC if value is None else "installs no update of macOS by itself", ""
    what = "installs updates of macOS by itself, and restarts"
    if value.is_managed:
        return WARN, what, "a profile says so: ask who manages it"
    return WARN, what, f"sudo defaults write {PREFERENCES} {INSTALL} -bool FALSE"


PREFERENCES = "/Library/Preferences/com.apple.SoftwareUpdate"
INSTALL = "AutomaticallyInstallMacOSUpdates"


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


def versions(facts: Mapping[str, NodeFacts]) -> list[tuple[str, str, Sequence[str]]]:
    """(level, name, value per node): the same name's values side by side."""
    each = [known(values, version_facts.KEY) or {} for values in facts.values()]
    names = dict.fromkeys(name for value in each for name in value)
    rows = [(name, [value.get(name, "unknown") for value in each]) for name in names]
    return [(OK if len(set(row)) == 1 else FAIL, name, row) for name, row in rows]
