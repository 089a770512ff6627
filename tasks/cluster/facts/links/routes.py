"""A node's IPv4 routing table: which networks it already reaches, and by which interface."""

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

from .. import Fact, Key, limited


@dataclass(frozen=True)
class Route:
    """One IPv4 route; the default one is 0.0.0.0/0, and `gateway` is None for a network on link."""

    network: IPv4Network
    interface: str
    gateway: IPv4Address | None = None


def parse(text: str, status: int) -> tuple[Route, ...]:
    """`netstat -rn -f inet` (macOS), or /proc/net/route (Linux).

    A row that can't be read makes the whole table unreadable: the network that it hides may be
    the very one that a link's subnet would collide with.
    """
    if status != 0 or not text.endswith("\n"):
        raise ValueError("the routing table can't be read")
    if text.startswith("Iface"):
        return tuple(_linux(line.split()) for line in text.splitlines()[1:] if line.strip())
    return _bsd(text.partition("\nInternet6:")[0].splitlines())


def _bsd(lines: list[str]) -> tuple[Route, ...]:
    """The rows below the titles, which tell the column of the interface: it differs by version."""
    words = [line.split() for line in lines if line.strip()]
    titles = [index for index, row in enumerate(words) if row[0] == "Destination"]
    if not titles or "Netif" not in words[titles[0]] or len(words) == titles[0] + 1:
        raise ValueError("the routing table can't be read")
    column = words[titles[0]].index("Netif")
    rows = words[titles[0] + 1 :]
    if any(len(row) <= column for row in rows):
        raise ValueError("a route has no interface")
    found = [Route(_network(row[0]), row[column], _gateway(row[1])) for row in rows]
    # macOS routes each of its own addresses to lo0: no network, and no other subnet's rival.
    return tuple(r for r in found if r.interface != "lo0" or r.network.prefixlen < 32)


def _network(word: str) -> IPv4Network:
    """netstat leaves out octets of zeros, and a prefix that they tell: "192.168.1", "10.254/30".

    A mask that is no prefix for it follows in hex: "172.16.8&0xfffff800". Of one with holes the
    widest network that it covers counts. Source: netname() in netstat's route.c (network_cmds).
    """
    if word == "default":
        return IPv4Network("0.0.0.0/0")
    found = re.fullmatch(
        r"(\d{1,3}(?:\.\d{1,3}){0,3})(?:/(\d{1,2})|&0x([0-9a-f]{1,8}))?", word, re.IGNORECASE
    )
    if not found:
        raise ValueError(f"the route to {word[:40]} can't be read")
    octets = found.group(1).split(".")
    mask = found.group(3)
    ones = re.match("1*", f"{int(mask, 16):032b}") if mask else None
    prefix = len(ones[0]) if ones else found.group(2) or 8 * len(octets)
    return IPv4Network(f"{'.'.join([*octets, '0', '0', '0'][:4])}/{prefix}", strict=False)


def _gateway(word: str) -> IPv4Address | None:
    """None for `link#12` and for the hardware address of a neighbour."""
    try:
        return IPv4Address(word)
    except ValueError:
        return None


def _linux(row: list[str]) -> Route:
    """Iface Destination Gateway Flags RefCnt Use Metric Mask ...; addresses are little endian."""
    if len(row) < 8:
        raise ValueError("/proc/net/route can't be read")
    address, gateway, mask = (little_endian(row[index]) for index in (1, 2, 7))
    network = IPv4Network(f"{address}/{mask}", strict=False)
    return Route(network, row[0], gateway if int(gateway) else None)


def little_endian(word: str) -> IPv4Address:
    return IPv4Address(bytes.fromhex(word)[::-1])


KEY = Key[tuple[Route, ...]]("routes")
FACT = Fact(
    KEY,
    f"if command -v sw_vers >/dev/null; then {limited(5, 'netstat -rn -f inet')}\n"
    "else cat /proc/net/route; fi",
    parse,
)
