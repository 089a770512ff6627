"""Facts of a link -> findings. Pure; preflight's own RDMA check is in checks/rdma.py."""

import json
from collections.abc import Mapping

from ..checks import FAIL, OK, WARN, Finding, hosts
from ..checks.rdma import apart, device_wrong, matrix_wrong, rdma_off
from ..facts import NodeFacts, known
from ..facts.links import ping
from ..facts.links.rdma import DEVINFO_KEY, INTERFACES_KEY, MATRIX_KEY
from ..facts.machine import hardware
from ..facts.machine.hardware import corrupts
from .cables import default_route
from .links import LinkEnd, LinkPlan
from .setup import matrix_text

SETUP = "inv rdma.setup"


def judge(wiring: LinkPlan, facts: Mapping[str, NodeFacts]) -> list[Finding]:
    """A finding per node for what is the node's, and one per end of a link."""
    found = []
    for host, values in facts.items():
        found += _node(wiring, host, values)
        over = default_route(values, [end.interface for end in wiring.on(host)])
        found += [Finding("route", WARN, host, *over)] if over else []
        found += [_link(wiring, end, values) for end in wiring.on(host)]
    return [*found, *_apart(wiring)]


def _apart(wiring: LinkPlan) -> list[Finding]:
    """A finding per cable whose ends are in two networks: then devices are not in their place."""
    return [
        Finding(
            "link",
            FAIL,
            one.host,
            apart(f"{one.interface} {one.address}", f"{two.interface} {two.address}", two.host),
            f"{wiring.discover} finds the cables",
        )
        for one, two in wiring.links
        if one.address.network != two.address.network
    ]


def nameless(wiring: LinkPlan, facts: Mapping[str, NodeFacts]) -> list[Finding]:
    """A finding per interface of a link that has no address and is told none."""
    found = []
    for host, name in wiring.bare:
        if host not in facts:
            continue  # it was not reached, which is told as such
        what, fix = _absent(name, facts[host]) or (f"{name} has no IPv4 address", SETUP)
        if fix == SETUP:
            what, fix = f"{what}, and {wiring.source} tells none", f"{wiring.discover} gives it one"
        found.append(Finding("link", FAIL, host, what, fix))
    return found


def self_assigned(wiring: LinkPlan) -> list[Finding]:
    """One finding for all addresses of links that the interfaces took by themselves (169.254)."""
    found = [end for end in wiring.ends if end.address.ip.is_link_local]
    addresses = [str(end.address.ip) for end in found]
    names = ",".join(host.ssh for host in wiring.hosts)
    return [hosts.self_assigned(found[0].host, addresses, names)] if found else []


def _node(wiring: LinkPlan, host: str, values: NodeFacts) -> list[Finding]:
    if not wiring.rdma:
        return []
    error = values.lacks(MATRIX_KEY)
    unread = (f"unknown: {error.why}", "try it on the node (matrix)") if error else None
    wrong = rdma_off(values) or unread or matrix_wrong(values, json.loads(matrix_text(wiring)))
    wrong = wrong or corrupts(known(values, hardware.KEY) or {})
    if wrong and wiring.bare and wrong[1] == SETUP:
        wrong = wrong[0], f"{wiring.discover} gives the links addresses, which setup needs"
    if wrong:
        return [Finding("rdma", FAIL, host, *wrong)]
    return [Finding("rdma", OK, host, "enabled, the matrix is right")]


def _link(wiring: LinkPlan, end: LinkEnd, values: NodeFacts) -> Finding:
    if wrong := _wrong(wiring, end, values):
        return Finding("link", FAIL, end.host, *wrong)
    seen = known(values, DEVINFO_KEY) or {}
    info = seen.get(end.device) if wiring.rdma else None
    port = f", {end.device} {info.state}" if info else ""
    if info and not info.gids:
        what = f"{end.interface} {end.address}{port}; its GID table can't be seen"
        return Finding("link", WARN, end.host, what, "ibv_devinfo -v on the node")
    return Finding("link", OK, end.host, f"{end.interface} {end.address}{port}")


def _wrong(wiring: LinkPlan, end: LinkEnd, values: NodeFacts) -> tuple[str, str] | None:
    if wrong := _absent(end.interface, values):
        return wrong
    interface = values[INTERFACES_KEY][end.interface]
    if end.address not in interface.addresses:
        had = ", ".join(interface.ipv4) or "no IPv4 address"
        return f"{end.interface} has {had}, not {end.address}", SETUP
    if wiring.rdma and not rdma_off(values):
        return device_wrong(end.device, values)
    return None


def _absent(name: str, values: NodeFacts) -> tuple[str, str] | None:
    """Why an interface can't be a link's, whatever its address is, as (what, fix), or None."""
    if error := values.lacks(INTERFACES_KEY):
        return f"{name}: unknown ({error.why})", "run ifconfig on the node"
    interfaces = values[INTERFACES_KEY]
    interface = interfaces.get(name)
    if interface is None:
        return f"{name} is not there", "names change: inv rdma.discover --diff"
    if bridges := [each.name for each in interfaces.values() if name in each.members]:
        return f"{name} is in {bridges[0]}", SETUP
    if interface.status != "active":
        return f"{name} is {interface.status or 'of unknown status'}", "check the cable"
    return None


def pings(wiring: LinkPlan, facts: Mapping[str, NodeFacts]) -> list[Finding]:
    """A finding per direction of every link, with the round trip in milliseconds."""
    ends = [(one, two) for link in wiring.links for one, two in (link, link[::-1])]
    return [_ping(one, two, facts) for one, two in ends if one.host in facts]


def _ping(one: LinkEnd, two: LinkEnd, facts: Mapping[str, NodeFacts]) -> Finding:
    what = f"{one.interface} -> {two.host} {two.address.ip}"
    found = (known(facts[one.host], ping.KEY) or {}).get(str(two.address.ip))
    if found is None:
        return Finding("ping", FAIL, one.host, f"{what}: unknown", "run ping on the node")
    if not found.answered:
        is_right = all(
            each.host in facts and _is_right(each, facts[each.host]) for each in (one, two)
        )
        is_right = is_right and one.address.network == two.address.network
        why, fix = _stale(two, facts) if is_right else ("no answer", "inv rdma.status")
        return Finding("ping", FAIL, one.host, f"{what}: {why}", fix)
    times = [found.least, found.mean, found.most]
    if None in times:
        return Finding("ping", OK, one.host, f"{what}: answered")
    least, mean, most = (f"{each:.2f}" for each in times if each is not None)
    return Finding("ping", OK, one.host, f"{what}: {mean} ms ({least} to {most})")


def _is_right(end: LinkEnd, values: NodeFacts) -> bool:
    """Whether an end's cable is in and its address is on its interface."""
    wrong = _absent(end.interface, values)
    return not wrong and end.address in values[INTERFACES_KEY][end.interface].addresses


def _stale(two: LinkEnd, facts: Mapping[str, NodeFacts]) -> tuple[str, str]:
    """What else keeps a right link from answering: an entry of the neighbour table that is old."""
    ip, ether = two.address.ip, facts[two.host][INTERFACES_KEY][two.interface].ether
    says = f"must say {ether}" if ether else f"must say what ifconfig on {two.host} does"
    why = "no answer, though address and cable are right: an old neighbour entry, here or there"
    return why, f"arp -n {ip} {says}; if it does not: sudo arp -d {ip}"
