"""The wires: a management network to this machine, and Thunderbolt cables between the hosts.

A host's Thunderbolt port is a veth pair whose other end is in a namespace that has nothing but
cables, each a bridge of two ends. So a cable can be cut or moved, and both hosts lose carrier
while their interfaces stay up, as on a Mac.
"""

from __future__ import annotations

import ipaddress
import json
import subprocess
from collections.abc import Iterable, Sequence

PREFIX = "tprig"
SUBNETS = "10.199"  # a /24 of it for each rig


def ip(lines: Iterable[str], pid: int | None = None, family: str = "", force: bool = False) -> None:
    """Run lines of `ip` in one go, in the network of process `pid` (None: this machine's)."""
    inside = ["nsenter", "-t", str(pid), "-n"] if pid else []
    flags = [flag for flag in (family, "-force" if force else "") if flag]
    line = [*inside, "ip", *flags, "-batch", "-"]
    text = "\n".join(lines)
    done = subprocess.run(line, input=text, capture_output=True, text=True, check=False)
    if done.returncode != 0 and not force:
        raise RuntimeError(f"ip: {done.stderr.strip()}\n{text}")


def take(owner: str) -> int:
    """Make the management bridge of a rig, and give the number by which it is known.

    The kernel refuses a name that is taken, so rigs started at once never share one.
    """
    taken = [ipaddress.ip_network(row["dst"]) for row in _rows("-4", "route") if _is_net(row)]
    for number in range(250):
        if any(ipaddress.ip_network(f"{SUBNETS}.{number}.0/24").overlaps(net) for net in taken):
            continue
        name = f"{PREFIX}{number}"
        line = ["ip", "link", "add", name, "type", "bridge"]
        if subprocess.run(line, capture_output=True, check=False).returncode == 0:
            own, words = f"{gateway(number)}/24", f'alias "{owner}" addrgenmode none up'
            ip([f"link set {name} {words}", f"address add {own} dev {name}"])
            return number
    raise RuntimeError("no subnet is left for a rig")


def owners() -> dict[int, str]:
    """Number -> owner of each rig that has a bridge on this machine."""
    rows = [row for row in _rows("link") if row["ifname"].removeprefix(PREFIX).isdigit()]
    return {int(r["ifname"].removeprefix(PREFIX)): r.get("ifalias", "") for r in rows}


def release(number: int) -> None:
    """Remove the management bridge and this machine's ends of its wires."""
    mine = f"{PREFIX}{number}"
    names = [row["ifname"] for row in _rows("link")]
    ip([f"link del {n}" for n in names if n == mine or n.startswith(f"{mine}m")], force=True)


def gateway(number: int) -> str:
    return f"{SUBNETS}.{number}.1"


def address(number: int, index: int) -> str:
    """The management address of host `index`."""
    return f"{SUBNETS}.{number}.{11 + index}"


def plug_management(number: int, index: int, pid: int) -> None:
    """Give host `index` its en0."""
    wire = f"{PREFIX}{number}m{index}"
    ip(
        [
            f"link add {wire} type veth peer name en0 address {_mac(number, index, 0)} netns {pid}",
            f"link set {wire} addrgenmode none master {PREFIX}{number} up",
        ]
    )


def add_ports(number: int, index: int, names: Sequence[str], pid: int, cables: int) -> None:
    """Give host `index` its Thunderbolt ports (and an idle Wi-Fi, en1), none with a cable."""
    ip(
        f"link add {name} address {_mac(number, index, place)} netns {pid} "
        f"type veth peer name {_end(index, name)} netns {cables}"
        for place, name in enumerate(("en1", *names), 1)
    )
    ip([f"link set {name} up" for name in ("en1", *names)], pid)


def connect(ends: Sequence[tuple[int, str]], cables: int) -> None:
    """Put a cable between two ports, given as (host index, name)."""
    bridge = "c" + _end(*ends[0])
    lines = [f"link add {bridge} type bridge mcast_snooping 0", f"link set {bridge} up"]
    lines += [f"link set {_end(*end)} master {bridge} up" for end in ends]
    ip(lines, cables)


def disconnect(ends: Sequence[tuple[int, str]], cables: int) -> None:
    ip(
        [f"link set {_end(*end)} nomaster down" for end in ends] + [f"link del c{_end(*ends[0])}"],
        cables,
    )


def start_over(number: int, index: int, pid: int, ports: Sequence[str], bridged: bool) -> None:
    """A host's interfaces as after a boot: no IPv4 on the ports, which are in bridge0 or not.

    en0 has its address, and the default route by way of this machine.
    """
    bridges = [r["ifname"] for r in _rows("link", "show", "type", "bridge", pid=pid)]
    lines = [f"link del {name}" for name in bridges]
    lines += [f"address flush dev {name}" for name in ("en0", *ports)]
    lines += [f"link set {name} up" for name in ("lo", "en0", *ports)]
    lines += [f"address add {address(number, index)}/24 broadcast + dev en0"]
    lines += [f"route replace default via {gateway(number)}"]
    if bridged:
        lines += ["link add bridge0 type bridge mcast_snooping 0", "link set bridge0 up"]
        lines += [line for name in ports for line in join(name)]
    ip(lines, pid, family="-4")


def join(port: str, bridge: str = "bridge0") -> list[str]:
    """Isolated ports pass nothing on to each other: a mesh of bridges would be a loop."""
    return [f"link set {port} master {bridge}", f"link set {port} type bridge_slave isolated on"]


def has_bridge(pid: int, name: str = "bridge0") -> bool:
    return any(r["ifname"] == name for r in _rows("link", "show", "type", "bridge", pid=pid))


def _end(index: int, port: str) -> str:
    """The name of a port's other end, among the cables."""
    return f"{index}.{port}"


def _mac(number: int, index: int, place: int) -> str:
    """Like a Mac's: locally administered, and each port's of its own."""
    return f"36:2f:77:{number:02x}:{index:02x}:{place:02x}"


def _is_net(row: dict[str, str]) -> bool:
    return row["dst"] != "default"


def _rows(*words: str, pid: int | None = None) -> list[dict[str, str]]:
    inside = ["nsenter", "-t", str(pid), "-n"] if pid else []
    done = subprocess.run(
        [*inside, "ip", "-json", *words], capture_output=True, text=True, check=True
    )
    rows: list[dict[str, str]] = json.loads(done.stdout or "[]")
    return [row for row in rows if row]
