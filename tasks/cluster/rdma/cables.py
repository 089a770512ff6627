"""Which port of which host is cabled to which: each knows its peer by domain UUID. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ..checks import FAIL, WARN, Finding
from ..facts import Key, NodeFacts, known
from ..facts.links import rdma, routes
from ..facts.links.thunderbolt import HARDWARE_PORTS, KEY, Port, is_thunderbolt5
from ..facts.machine import hardware


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
class _Receptacle:
    """A port and the host that has it; `interface` is None where networksetup names none."""

    host: str
    port: Port
    interface: str | None

    def __str__(self) -> str:
        return self.interface or f"Thunderbolt port {self.port.receptacle or '(number unknown)'}"


def cables(facts: Mapping[str, NodeFacts]) -> tuple[list[Cable], list[Finding]]:
    """The cables in one order for both ends, and findings of what is wrong, odd or half seen."""
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


def _sockets(facts: Mapping[str, NodeFacts]) -> tuple[dict[str, _Receptacle], list[Finding]]:
    """Every port of every host by its domain UUID."""
    sockets: dict[str, _Receptacle] = {}
    findings = []
    for host, values in facts.items():
        findings += _host_findings(host, values)
        names = known(values, HARDWARE_PORTS) or {}
        for port in known(values, KEY) or ():
            if not port.domain:
                continue
            interface = names.get(f"Thunderbolt {port.receptacle}")
            twin = sockets.setdefault(port.domain, _Receptacle(host, port, interface))
            if twin.host != host:
                what = f"it is the same machine as {twin.host}"
                findings.append(Finding("cabling", FAIL, host, what, "name each machine once"))
    return sockets, findings


def _host_findings(host: str, values: NodeFacts) -> list[Finding]:
    found = []
    for key, command in _COMMANDS.items():
        if error := values.lacks(key):
            found.append(Finding("cabling", FAIL, host, f"unknown: {error.why}", f"run {command}"))
    ports = known(values, KEY)
    if ports is not None and not ports:
        found.append(Finding("cabling", FAIL, host, "it has no Thunderbolt port", "is it a Mac?"))
    found += _nameless(host, ports or ())
    if fast(values) is False:
        found.append(Finding("cabling", WARN, host, _THUNDERBOLT_4, "backend ring works over it"))
    if over := default_route(values, (known(values, HARDWARE_PORTS) or {}).values()):
        found.append(Finding("route", WARN, host, *over))
    return found


def _nameless(host: str, ports: Sequence[Port]) -> list[Finding]:
    """A finding where ports tell no domain UUID, by which alone a cable's ends are told."""
    if not (bare := [port.receptacle or "?" for port in ports if not port.domain]):
        return []
    level = FAIL if len(bare) == len(ports) else WARN
    what = (
        f"Thunderbolt port {', '.join(bare)}: no domain UUID is told, so what is in it is unknown"
    )
    fix = "replug it; or name its link yourself: inv rdma.setup --node HOST:IFACE:IP for both ends"
    return [Finding("cabling", level, host, what, fix)]


def fast(values: NodeFacts) -> bool | None:
    """Whether a node has Thunderbolt 5, by its ports and its model; None where nothing tells."""
    model = (known(values, hardware.KEY) or {}).get("model", "")
    return is_thunderbolt5(known(values, KEY) or (), model)


def misplaced(interface: str, values: NodeFacts) -> str | None:
    """Why a cable must be moved to another port of that Mac, whose others do RDMA, or None."""
    if fast(values) is False:
        return None
    studio = any(port.machine == "Mac Studio" for port in known(values, KEY) or ())
    if interface == "en2" and studio:
        return f"{interface}, beside the Ethernet port of a Mac Studio, does no RDMA (exo#1551)"
    devices = known(values, rdma.DEVICES_KEY)
    return (
        f"{interface} has no RDMA device"
        if devices and f"rdma_{interface}" not in devices
        else None
    )


def default_route(values: NodeFacts, names: Iterable[str]) -> tuple[str, str] | None:
    """That all of a node's traffic goes over one of these interfaces, as (what, fix), or None.

    The other end may hand out a lease that macOS takes for the way to everywhere (dnet#66). The
    first default route is the one that counts.
    """
    default = [each for each in known(values, routes.KEY) or () if not each.network.prefixlen]
    interfaces = known(values, rdma.INTERFACES_KEY) or {}
    bridges = [each.name for each in interfaces.values() if {*each.members} & {*names}]
    if not default or default[0].interface not in {*names, *bridges}:
        return None
    what = f"the default route goes over {default[0].interface}, a cable to another host"
    fix = "System Settings, Network: put that service last, or set its IPv4 to Off"
    return what, fix


def machines(facts: Mapping[str, NodeFacts]) -> list[Finding]:
    """What the hosts' systems are that keeps RDMA from working, or from working together."""
    told = {host: known(values, hardware.KEY) or {} for host, values in facts.items()}
    found = []
    systems = {host: each["macos"] for host, each in told.items() if "macos" in each}
    for host, system in systems.items():
        wrong = hardware.corrupts(told[host])
        first = next(iter(systems))
        if system != systems[first]:
            wrong = wrong or (f"macOS {system}, and {first} has {systems[first]}", "update both")
        found += [Finding("macos", WARN, host, *wrong)] if wrong else []
    return found


_COMMANDS: dict[Key[object], str] = {
    KEY: "system_profiler SPThunderboltDataType on the node",
    HARDWARE_PORTS: "networksetup -listallhardwareports on the node",
}
_THUNDERBOLT_4 = "its ports are Thunderbolt 4: they can't do RDMA"


def _stranger(one: _Receptacle, name: str, unread: Sequence[str]) -> Finding:
    """A peer that is none of the hosts' ports."""
    who = f" (it may be {' or '.join(unread)}, which can't be read)" if unread else ""
    what = f"{one} leads to {name!r}, which is none of the hosts{who}"
    return Finding("cabling", WARN, one.host, what, "name it among the hosts if it takes part")


def _wrong(one: _Receptacle, two: _Receptacle) -> Finding | None:
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
    one: _Receptacle, two: _Receptacle, facts: Mapping[str, NodeFacts]
) -> tuple[Cable | None, list[Finding]]:
    ends = ((one, two), (two, one))
    if findings := [_nowhere(*pair) for pair in ends if pair[0].interface is None]:
        return None, findings
    speeds = [socket.port.speed for socket in (one, two) if socket.port.speed]
    cable = Cable(_plug(one), _plug(two), min(speeds, default=None))
    for here, there in ends:
        if wrong := misplaced(here.interface or "", facts[here.host]):
            fix = f"move its cable (to {there.host}) to another port"
            findings.append(Finding("cabling", WARN, here.host, wrong, fix))
    both = all(fast(facts[each.host]) for each in (one, two))
    if both and cable.speed and cable.speed <= 40:
        what = f"{one} to {two.host} runs at {cable.speed} Gb/s"
        fix = "use a Thunderbolt 5 cable, and no older dock"
        findings.append(Finding("cabling", WARN, one.host, what, fix))
    return cable, findings


def _nowhere(here: _Receptacle, there: _Receptacle) -> Finding:
    what = f"{here} has no known interface, so its cable to {there.host} can't be used"
    fix = "networksetup -listallhardwareports on the node"
    return Finding("cabling", FAIL, here.host, what, fix)


def _plug(socket: _Receptacle) -> Plug:
    assert socket.interface is not None
    return Plug(socket.host, socket.interface, socket.port.receptacle or "", socket.port.domain)


def _natural(name: str) -> tuple[int, str]:
    """en2 comes before en10."""
    return len(name), name
