"""From what a node is to what its links need: what to refuse, what to change, and by what commands.

Pure. It converges: what is right is left alone. No command takes an interface down or up, which
would corrupt the kernel's GID table.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ..checks import FAIL, Finding
from ..facts import NodeFacts
from ..facts.links.rdma import INTERFACES_KEY, MATRIX, MATRIX_KEY
from ..facts.links.routes import KEY as ROUTES
from ..facts.links.thunderbolt import HARDWARE_PORTS
from ..ssh import scripts
from .links import LinkEnd, LinkPlan, collision

KINDS = ("unbridge", "address", "devices")
IFCONFIG = "/sbin/ifconfig"
INSTALL = "/usr/bin/install"


@dataclass(frozen=True)
class Change:
    """One thing to do on a host: `command` by root, or else `script` (/bin/sh text) by the user.

    `by` is the file of tasks/remote/ that has root run the command.
    """

    kind: str
    host: str
    what: str
    command: tuple[str, ...] = ()
    script: str = ""
    by: str = "sudo/act.sh"


def unbridge(end: LinkEnd, facts: NodeFacts) -> list[Change]:
    """Take the end's interface out of every bridge: in one, its port carries no RDMA (mlx#3207)."""
    bridges = [each for each in facts[INTERFACES_KEY].values() if end.interface in each.members]
    return [
        Change(
            "unbridge",
            end.host,
            f"take {end.interface} out of {bridge.name}",
            (IFCONFIG, bridge.name, "deletem", end.interface),
        )
        for bridge in bridges
    ]


def address(end: LinkEnd, facts: NodeFacts) -> list[Change]:
    """Give the end's interface its address, unless that is its first one already."""
    interface = facts[INTERFACES_KEY][end.interface]
    if interface.addresses[:1] == (end.address,):
        return []
    had = ", ".join(map(str, interface.addresses)) or "no address"
    what = f"set {end.interface} to {end.address} (had {had})"
    return [Change("address", end.host, what, assign(end))]


def assign(end: LinkEnd) -> tuple[str, ...]:
    ip, mask = str(end.address.ip), str(end.address.netmask)
    return (IFCONFIG, end.interface, "inet", ip, "netmask", mask)


def devices(wiring: LinkPlan, host: str, facts: NodeFacts) -> list[Change]:
    """Write MLX's matrix on the host, unless it is there."""
    if facts[MATRIX_KEY] == json.loads(matrix_text(wiring)):
        return []
    had = "was missing" if facts[MATRIX_KEY] is None else "was another"
    return [Change("devices", host, f"write {MATRIX} ({had})", script=write_matrix(wiring))]


def matrix_text(wiring: LinkPlan) -> str:
    """MLX's device matrix as JSON: rows of null, a name, or a list of names."""
    return json.dumps(wiring.matrix)


def changes(wiring: LinkPlan, facts: Mapping[str, NodeFacts], kinds: Iterable[str]) -> list[Change]:
    """All that is not as wanted, of the `kinds` unbridge, address and devices, in their order."""
    found: list[Change] = []
    for host, values in facts.items():
        for end in wiring.on(host):
            found += unbridge(end, values) if "unbridge" in kinds else []
            found += address(end, values) if "address" in kinds else []
        found += devices(wiring, host, values) if wiring.rdma and "devices" in kinds else []
    return found


def refusals(
    wiring: LinkPlan, facts: Mapping[str, NodeFacts], kinds: Sequence[str]
) -> list[Finding]:
    """Why nothing may be touched: facts that are unknown, interfaces missing, subnets in use."""
    found = []
    for host, values in facts.items():
        found += unreadable(host, values) or [
            finding for end in wiring.on(host) for finding in _refused(end, values, kinds)
        ]
    return found


def unreadable(host: str, facts: NodeFacts) -> list[Finding]:
    """A finding per fact of a host that could not be read: what is unknown is not changed."""
    return [
        Finding("read", FAIL, host, f"its {name} can't be read ({value.why})", "run it there")
        for name, value in facts.unknown.items()
    ]


def _refused(end: LinkEnd, facts: NodeFacts, kinds: Sequence[str]) -> list[Finding]:
    if end.interface not in facts[INTERFACES_KEY]:
        there = ", ".join(name for name in facts[INTERFACES_KEY] if name.startswith("en"))
        what = f"no interface {end.interface} (there are {there})"
        return [Finding("interface", FAIL, end.host, what, "inv rdma.discover tells which")]
    if wrong := no_port(end, facts[HARDWARE_PORTS]):
        return wrong
    taken = collision(end, facts[INTERFACES_KEY], facts[ROUTES]) if "address" in kinds else None
    if taken:
        what = f"{end.address.network} for {end.interface} is in use: {taken}"
        return [Finding("subnet", FAIL, end.host, what, "take a free one of 10.254.0.0/16")]
    return []


def no_port(end: LinkEnd, hardware: Mapping[str, str]) -> list[Finding]:
    """A finding where the end is no Thunderbolt port: it may be what we came in by."""
    ports = hardware.values()
    if end.interface in ports:
        return []
    what = f"{end.interface} is no Thunderbolt port (those are {', '.join(ports) or 'none'})"
    return [Finding("interface", FAIL, end.host, what, "inv rdma.discover tells which")]


def write_matrix(wiring: LinkPlan, owner: str | None = None) -> str:
    """Writes MLX's matrix; where root does, `owner` gets it."""
    return scripts.script(
        "rdma/matrix.sh", file=MATRIX, matrix=matrix_text(wiring), owner=owner or ""
    )
