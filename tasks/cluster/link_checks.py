"""Facts of a link -> findings. Pure; preflight's own RDMA check is in checks.py."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from .checks import FAIL, OK, WARN, Finding, device_wrong, matrix_wrong, rdma_off
from .facts import NodeFacts, known, ping
from .facts.rdma import DEVINFO_KEY, INTERFACES_KEY, MATRIX_KEY
from .links import End, Wiring
from .setup import matrix_text

SETUP = "inv rdma.setup"


def judge(wiring: Wiring, facts: Mapping[str, NodeFacts]) -> list[Finding]:
    """A finding per node for what is the node's, and one per end of a link."""
    found = []
    for host, values in facts.items():
        found += _node(wiring, host, values)
        found += [_link(wiring, end, values) for end in wiring.on(host)]
    return found


def nameless(wiring: Wiring, facts: Mapping[str, NodeFacts]) -> list[Finding]:
    """A finding per interface of a link that has no address and is told none."""
    found = []
    for host, name in wiring.bare:
        what, fix = _absent(name, facts[host]) or (f"{name} has no IPv4 address", SETUP)
        if fix == SETUP:
            what, fix = f"{what}, and {wiring.source} tells none", f"{wiring.discover} gives it one"
        found.append(Finding("link", FAIL, host, what, fix))
    return found


def self_assigned(wiring: Wiring) -> list[Finding]:
    """One finding for all addresses of links that the interfaces took by themselves (169.254)."""
    found = [end for end in wiring.ends if end.address.ip.is_link_local]
    addresses = [str(end.address.ip) for end in found]
    return [passing(found[0].host, addresses, wiring.discover)] if found else []


def passing(host: str, addresses: Sequence[str], discover: str) -> Finding:
    """The finding that addresses are self-assigned; `discover` is the command that mends it."""
    more = f" (and {len(addresses) - 1} more)" if len(addresses) > 1 else ""
    what = f"{addresses[0]}{more}: self-assigned, will change with the next replug"
    return Finding("address", WARN, host, what, f"{discover} gives links fixed ones")


def _node(wiring: Wiring, host: str, values: NodeFacts) -> list[Finding]:
    if not wiring.rdma:
        return []
    error = values.lacks(MATRIX_KEY)
    unread = (f"unknown: {error.why}", "try it on the node (matrix)") if error else None
    wrong = rdma_off(values) or unread or matrix_wrong(values, json.loads(matrix_text(wiring)))
    if wrong:
        return [Finding("rdma", FAIL, host, *wrong)]
    return [Finding("rdma", OK, host, "enabled, the matrix is right")]


def _link(wiring: Wiring, end: End, values: NodeFacts) -> Finding:
    wrong = _wrong(wiring, end, values)
    if wrong:
        return Finding("link", FAIL, end.host, *wrong)
    seen = known(values, DEVINFO_KEY) or {}
    info = seen.get(end.device) if wiring.rdma else None
    port = f", {end.device} {info.state}" if info else ""
    if info and not info.gids:
        what = f"{end.interface} {end.address}{port}; its GID table can't be seen"
        return Finding("link", WARN, end.host, what, "ibv_devinfo -v on the node")
    return Finding("link", OK, end.host, f"{end.interface} {end.address}{port}")


def _wrong(wiring: Wiring, end: End, values: NodeFacts) -> tuple[str, str] | None:
    wrong = _absent(end.interface, values)
    if wrong:
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
    error = values.lacks(INTERFACES_KEY)
    if error:
        return f"{name}: unknown ({error.why})", "run ifconfig on the node"
    interfaces = values[INTERFACES_KEY]
    interface = interfaces.get(name)
    if interface is None:
        return f"{name} is not there", "names change: inv rdma.discover --diff"
    bridges = [each.name for each in interfaces.values() if name in each.members]
    if bridges:
        return f"{name} is in {bridges[0]}", SETUP
    if interface.status != "active":
        return f"{name} is {interface.status or 'of unknown status'}", "check the cable"
    return None


def pings(wiring: Wiring, facts: Mapping[str, NodeFacts]) -> list[Finding]:
    """A finding per direction of every link, with the round trip in milliseconds."""
    ends = [(one, two) for link in wiring.links for one, two in (link, link[::-1])]
    return [
        _ping(one, two, known(facts[one.host], ping.KEY)) for one, two in ends if one.host in facts
    ]


def _ping(one: End, two: End, value: Mapping[str, ping.Ping] | None) -> Finding:
    what = f"{one.interface} -> {two.host} {two.address.ip}"
    found = value.get(str(two.address.ip)) if value else None
    if found is None:
        return Finding("ping", FAIL, one.host, f"{what}: unknown", "run ping on the node")
    if not found.answered:
        return Finding("ping", FAIL, one.host, f"{what}: no answer", "inv rdma.status")
    times = [found.least, found.mean, found.most]
    if None in times:
        return Finding("ping", OK, one.host, f"{what}: answered")
    least, mean, most = (f"{each:.2f}" for each in times if each is not None)
    return Finding("ping", OK, one.host, f"{what}: {mean} ms ({least} to {most})")
