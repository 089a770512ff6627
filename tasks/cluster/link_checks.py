"""Facts of a link -> findings. Pure; preflight's own RDMA check is in checks.py."""

from __future__ import annotations

import json
from collections.abc import Mapping

from .checks import FAIL, OK, WARN, Finding, device_wrong, matrix_wrong, rdma_off
from .facts import NodeFacts, known, ping
from .facts.rdma import DEVINFO_KEY, INTERFACES_KEY
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


def _node(wiring: Wiring, host: str, values: NodeFacts) -> list[Finding]:
    if not wiring.rdma:
        return []
    wrong = rdma_off(values) or matrix_wrong(values, json.loads(matrix_text(wiring)))
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
    error = values.lacks(INTERFACES_KEY)
    if error:
        return f"{end.interface}: unknown ({error.why})", "run ifconfig on the node"
    interfaces = values[INTERFACES_KEY]
    interface = interfaces.get(end.interface)
    if interface is None:
        return f"{end.interface} is not there", "names change: inv rdma.discover --diff"
    bridges = [each.name for each in interfaces.values() if end.interface in each.members]
    if bridges:
        return f"{end.interface} is in {bridges[0]}", SETUP
    if interface.status != "active":
        return f"{end.interface} is {interface.status or 'of unknown status'}", "check the cable"
    if end.address not in interface.addresses:
        had = ", ".join(interface.ipv4) or "no IPv4 address"
        return f"{end.interface} has {had}, not {end.address}", SETUP
    if wiring.rdma and not rdma_off(values):
        return device_wrong(end.device, values)
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
