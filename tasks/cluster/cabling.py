"""Cables: which port of which host is connected to which. Pure.

A port knows its peer by domain UUID, so a cable is found before either end has an address.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .checks import FAIL, WARN, Finding
from .facts import Key, NodeFacts, known
from .facts.thunderbolt import HARDWARE_PORTS, KEY, Port, is_thunderbolt5


@dataclass(frozen=True)
class Plug:
    """One end of a cable: `interface` is that of the port `receptacle` of `host`."""

    host: str
    interface: str
    receptacle: str
    domain: str


@dataclass(frozen=True)
class Cable:
    """Two hosts' ports that see each other, that of the earlier host first.

    `speed` is in Gb/s, that of the slower end, None where neither tells; a dock may be in between.
    """

    a: Plug
    b: Plug
    speed: int | None


@dataclass(frozen=True)
class _Socket:
    """A port and the host that has it; `interface` is None where networksetup names none."""

    host: str
    port: Port
    interface: str | None

    def __str__(self) -> str:
        return self.interface or f"Thunderbolt port {self.port.receptacle or '(number unknown)'}"


def cables(facts: Mapping[str, NodeFacts]) -> tuple[list[Cable], list[Finding]]:
    """The cables between the hosts in one order for both ends, and what is wrong or odd.

    What only one end sees, or has no known interface, is no cable but a finding.
    """
    sockets, findings = _sockets(facts)
    unread = [host for host in facts if known(facts[host], KEY) is None]
    order = list(sockets)
    found = []
    for one in sockets.values():
        for domain, name in one.port.peers.items():
            two = sockets.get(domain)
            wrong = _stranger(one, name, unread) if two is None else _wrong(one, two)
            findings += [wrong] if wrong else []
            if two and not wrong and order.index(one.port.domain) < order.index(domain):
                cable, slow = _cable(one, two, facts)
                found += [cable] if cable else []
                findings += slow
    hosts = list(facts)
    found.sort(key=lambda c: (*map(hosts.index, (c.a.host, c.b.host)), _natural(c.a.interface)))
    return found, list(dict.fromkeys(findings))


def _sockets(facts: Mapping[str, NodeFacts]) -> tuple[dict[str, _Socket], list[Finding]]:
    """Every port of every host by its domain UUID."""
    sockets: dict[str, _Socket] = {}
    findings = []
    for host, values in facts.items():
        findings += _host_findings(host, values)
        names = known(values, HARDWARE_PORTS) or {}
        for port in known(values, KEY) or ():
            interface = names.get(f"Thunderbolt {port.receptacle}")
            twin = sockets.setdefault(port.domain, _Socket(host, port, interface))
            if twin.host != host:
                what = f"it is the same machine as {twin.host}"
                findings.append(Finding("cabling", FAIL, host, what, "name each machine once"))
    return sockets, findings


def _host_findings(host: str, values: NodeFacts) -> list[Finding]:
    found = []
    for key, command in _COMMANDS.items():
        error = values.lacks(key)
        if error:
            found.append(Finding("cabling", FAIL, host, f"unknown: {error.why}", f"run {command}"))
    ports = known(values, KEY)
    if ports is not None and not ports:
        found.append(Finding("cabling", FAIL, host, "it has no Thunderbolt port", "is it a Mac?"))
    if ports is not None and is_thunderbolt5(ports) is False:
        found.append(Finding("cabling", WARN, host, _THUNDERBOLT_4, "backend ring works over it"))
    return found


_COMMANDS: dict[Key[object], str] = {
    KEY: "system_profiler SPThunderboltDataType on the node",
    HARDWARE_PORTS: "networksetup -listallhardwareports on the node",
}
_THUNDERBOLT_4 = "its ports are Thunderbolt 4: they can't do RDMA"


def _stranger(one: _Socket, name: str, unread: Sequence[str]) -> Finding:
    """A peer that is none of the hosts' ports."""
    who = f" (it may be {' or '.join(unread)}, which can't be read)" if unread else ""
    what = f"{one} leads to {name!r}, which is none of the hosts{who}"
    return Finding("cabling", WARN, one.host, what, "name it among the hosts if it takes part")


def _wrong(one: _Socket, two: _Socket) -> Finding | None:
    """What keeps two ports from being the two ends of a cable."""
    if one.host == two.host:
        a, b = sorted((str(one), str(two)), key=_natural)
        what = f"{a} and {b} are cabled to each other"
        return Finding("cabling", WARN, one.host, what, "take that cable to another host")
    for here, there in ((one, two), (two, one)):
        if len(here.port.peers) > 1:
            what = f"{here} leads to {len(here.port.peers)} computers at once"
            return Finding("cabling", WARN, here.host, what, "give each a port of its own")
        if here.port.domain not in there.port.peers:
            what = f"{there} does not see the cable that {here.host} has in {here}"
            return Finding("cabling", FAIL, there.host, what, "replug it, or wait until it is up")
    return None


def _cable(
    one: _Socket, two: _Socket, facts: Mapping[str, NodeFacts]
) -> tuple[Cable | None, list[Finding]]:
    findings = []
    for here, there in ((one, two), (two, one)):
        if here.interface is None:
            what = f"{here} has no known interface, so its cable to {there.host} can't be used"
            fix = "networksetup -listallhardwareports on the node"
            findings.append(Finding("cabling", FAIL, here.host, what, fix))
    if findings:
        return None, findings
    speeds = [socket.port.speed for socket in (one, two) if socket.port.speed]
    cable = Cable(_plug(one), _plug(two), min(speeds, default=None))
    fast = all(is_thunderbolt5(facts[each.host][KEY]) for each in (one, two))
    if fast and cable.speed and cable.speed <= 40:
        what = f"{one} to {two.host} runs at {cable.speed} Gb/s"
        fix = "use a Thunderbolt 5 cable, and no older dock"
        findings.append(Finding("cabling", WARN, one.host, what, fix))
    return cable, findings


def _plug(socket: _Socket) -> Plug:
    assert socket.interface is not None
    return Plug(socket.host, socket.interface, socket.port.receptacle or "", socket.port.domain)


def _natural(name: str) -> tuple[int, str]:
    """en2 comes before en10."""
    return len(name), name
