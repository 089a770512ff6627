"""What gives back what rdma.setup and rdma.persist changed: only what links name. Pure."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from ..checks import FAIL, Finding
from ..facts import Fact, Key, NodeFacts
from ..facts.links.rdma import INTERFACES_KEY, MATRIX, MATRIX_KEY
from ..facts.links.thunderbolt import HARDWARE_PORTS
from ..facts.machine import processes
from ..ssh import scripts
from . import launchd
from .links import LinkEnd, LinkPlan
from .setup import IFCONFIG, Change, matrix_text, no_port, unreadable

BRIDGE = "bridge0"  # macOS has all Thunderbolt ports in it


@dataclass(frozen=True)
class OurTraces:
    """Whether the daemon's draft and log are there, and the node's address that ssh came in by."""

    draft: bool
    log: bool
    came_in_by: str


def parse(text: str, status: int) -> OurTraces:
    """The output of `FACT`."""
    found = re.fullmatch(r"came in by (\S*)\n(draft\n)?(log\n)?end\s*", text)
    if status != 0 or not found:
        raise ValueError("our files can't be read")
    return OurTraces(bool(found[2]), bool(found[3]), found[1])


KEY = Key[OurTraces]("files")
FACT = Fact(KEY, scripts.script("rdma/ours.sh", draft=launchd.DRAFT, log=launchd.LOG), parse)


def refusals(wiring: LinkPlan, facts: Mapping[str, NodeFacts]) -> list[Finding]:
    """Why nothing may be touched: unknown facts, a rank, an interface that is not a link's."""
    found = []
    for host, values in facts.items():
        found += unreadable(host, values) or [*_ranks(host, values), *_ends(wiring, host, values)]
    return found


def _ranks(host: str, facts: NodeFacts) -> list[Finding]:
    live = [each for each in facts[processes.KEY].values() if each.rank is not None]
    return [
        Finding("rank", FAIL, host, f"rank {each.rank} lives (pid {each.pid})", "inv tp.stop")
        for each in live
    ]


def _ends(wiring: LinkPlan, host: str, facts: NodeFacts) -> list[Finding]:
    found = []
    for end in wiring.on(host):
        if end.interface in facts[INTERFACES_KEY]:
            found += no_port(end, facts[HARDWARE_PORTS])
        if str(end.address.ip) == facts[KEY].came_in_by:
            what = f"ssh came in by {end.address.ip}, which would be taken away"
            found.append(Finding("ssh", FAIL, host, what, "name that host by another address"))
    return found


def changes(wiring: LinkPlan, host: str, facts: NodeFacts, home: str) -> list[Change]:
    """All that is to be given back; the daemon first, which would mend it again."""
    found = launchd.changes(host, home, facts[launchd.KEY], None)
    # The daemon may write its first line after we have looked.
    if found or facts[KEY].log:
        found.append(_by_root(host, f"remove {launchd.LOG}", "/bin/rm", "-f", launchd.LOG))
    for end in wiring.on(host):
        found += [*_address(end, facts), *_bridge(end, facts)]
    if _is_ours(wiring, facts):
        found.append(_remove(host, MATRIX))
    if facts[KEY].draft:
        found.append(_remove(host, f"{home}/{launchd.DRAFT}"))
    return found


def _by_root(host: str, what: str, *command: str) -> Change:
    return Change("undo", host, what, command)


def _remove(host: str, path: str) -> Change:
    script = scripts.script("rdma/remove.sh", [path])
    return Change("undo", host, f"remove {path}", script=script)


def _address(end: LinkEnd, facts: NodeFacts) -> list[Change]:
    interface, ip = facts[INTERFACES_KEY].get(end.interface), str(end.address.ip)
    if interface is None or ip not in interface.ipv4:
        return []
    words = (IFCONFIG, end.interface, "inet", ip, "-alias")
    return [_by_root(end.host, f"take {ip} from {end.interface}", *words)]


def _bridge(end: LinkEnd, facts: NodeFacts) -> list[Change]:
    interfaces = facts[INTERFACES_KEY]
    is_in = any(end.interface in each.members for each in interfaces.values())
    if is_in or BRIDGE not in interfaces or end.interface not in interfaces:
        return []
    what = f"put {end.interface} into {BRIDGE}"
    return [_by_root(end.host, what, IFCONFIG, BRIDGE, "addm", end.interface)]


def _is_ours(wiring: LinkPlan, facts: NodeFacts) -> bool:
    return wiring.rdma and facts[MATRIX_KEY] == json.loads(matrix_text(wiring))


def kept(wiring: LinkPlan, host: str, facts: NodeFacts) -> list[str]:
    """What is there and is not given back or taken away, in words."""
    found = []
    interfaces, ours = facts[INTERFACES_KEY], {str(end.address.ip) for end in wiring.on(host)}
    for end in wiring.on(host):
        if end.interface not in interfaces:
            found.append(f"there is no {end.interface}")
            continue
        others = [ip for ip in interfaces[end.interface].ipv4 if ip not in ours]
        found += [f"{end.interface} has {ip}, an address of none of these links" for ip in others]
    if BRIDGE not in interfaces:
        found.append(f"there is no {BRIDGE} to put ports into")
    if facts[MATRIX_KEY] is not None and not _is_ours(wiring, facts):
        found.append(f"{MATRIX} is of other links")
    return found
