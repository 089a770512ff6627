"""No private value survives, and what stands for it is of its kind: parsers take it."""

from __future__ import annotations

import re
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.cluster.facts.links import ping, rdma, routes, thunderbolt
from tasks.cluster.facts.machine import memory, ports, processes, versions
from tasks.cluster.hosts.placeholders import Placeholders

DATA = Path(__file__).parents[3] / "data" / "macos"
DOCUMENTS = ("192.0.2.", "198.51.100.", "203.0.113.", "198.18.", "198.19.")

octet = st.integers(1, 254)
hexes = st.integers(0, 2**32 - 1)
ipv4 = st.builds(
    "{}.{}.{}.{}".format, st.sampled_from([10, 100, 172, 17, 203]), octet, octet, octet
)
ipv6 = st.builds(lambda a, b: str(IPv6Address((0x2A02 << 112) + (a << 32) + b + 1)), hexes, hexes)
link = st.builds(lambda a: str(IPv6Address((0xFE80 << 112) + (1 << 48) + a)), hexes)
mac = st.binary(min_size=5, max_size=5).map(lambda b: bytes([0xA4, *b]).hex(":"))
uuid = st.uuids().map(str).map(str.upper)
guid = st.builds("80c4{:012x}".format, st.integers(1, 2**48 - 1))
word = st.from_regex(r"[a-z][a-z0-9]{4,9}q", fullmatch=True)
serial = st.from_regex(r"[A-Z][A-Z0-9]{8}Q", fullmatch=True)


def of(text: str, *known: tuple[str, str]) -> str:
    return Placeholders([text], known)(text)


@st.composite
def private(draw: st.DrawFn) -> dict[str, str]:
    """A value of each kind that tells whose machine it is."""
    kinds = {
        **{"ipv4": ipv4, "other": ipv4, "ipv6": ipv6, "link": link, "mac": mac, "uuid": uuid},
        **{"guid": guid, "serial": serial},
        **dict.fromkeys(("user", "peer", "host", "volume", "device"), word),
    }
    return {name: draw(values) for name, values in kinds.items()}


OUTPUT = """\
en3: flags=8863<UP> mtu 1500
\tether {mac}
\tinet6 {link}%en3 prefixlen 64 secured scopeid 0x15
\tinet6 {ipv6} prefixlen 64
\tinet {ipv4} netmask 0xfffffffc broadcast {other}
{other}/30   link#12   UCS   en3   !
{other}      {mac}     UHLWI lo0
default      {ipv4}    UGSc  en0
tcp4   0   0  {ipv4}.32323   {other}.50100   ESTABLISHED
tcp6   0   0  {ipv6}.32323   *.*   LISTEN
LISTEN 0 1 [{ipv6}]:8000 {ipv4}:80
    rdma_en2        \t{guid}
\tGID[  0]:\t\t{link}
\tGID[  2]:\t\t::ffff:{ipv4}
"domain_uuid_key" : "{uuid}",
"_name" : "{device}",
"device_serial" : "{serial}",
Serial Number (system): {serial}
owner 99 502 {peer} Mon Nov 30 06:18:11 2026
of {uuid}
  99  1  1  1 /Users/{user}/bin/python3 /Volumes/{volume}/models
/home/{peer}/x {host}.local ssh {user}@{host}
PING {other} ({other}): 56 data bytes
"""


@given(values=private())
def test_no_private_value_survives(values: dict[str, str]) -> None:
    text = OUTPUT.format(**values)
    shown = of(text, ("user", values["user"]), ("host", values["host"])).lower()
    for kind, value in values.items():
        assert value.lower() not in shown, kind
    assert len(shown.splitlines()) == len(text.splitlines())


@given(values=private())
def test_they_are_stable_and_of_their_kind(values: dict[str, str]) -> None:
    put = Placeholders([OUTPUT.format(**values)])
    first = {name: put(value) for name, value in values.items()}
    assert first == {name: put(value) for name, value in values.items()}
    for kind in ("ipv4", "other"):
        assert IPv4Address(first[kind])
        assert first[kind].startswith(DOCUMENTS)
    assert first["ipv6"].startswith("2001:db8::")
    assert IPv6Address(first["link"]).is_link_local
    assert int(first["mac"][:2], 16) & 3 == 2
    assert re.fullmatch(r"[0-9A-F]{8}(-[0-9A-F]{4}){3}-[0-9A-F]{12}", first["uuid"])
    assert re.fullmatch(r"[0-9a-f]{16}", first["guid"])


@given(st.lists(ipv4, min_size=2, max_size=40, unique=True))
def test_two_addresses_stay_two(addresses: list[str]) -> None:
    put = Placeholders(addresses)
    assert len({put(each) for each in addresses}) == len(addresses)


def test_a_subnet_stays_one() -> None:
    put = Placeholders([])
    one, other = put("10.254.0.5"), put("10.254.0.6")
    assert int(IPv4Address(one)) ^ int(IPv4Address(other)) == 3


@pytest.mark.parametrize(
    "text",
    [
        "127.0.0.1", "0.0.0.0", "255.255.255.0", "224.0.0.251", "::1", "ff02::fb", "fe80::1%lo0",
        "0:0:0:0:0:0", "ff:ff:ff:ff:ff:ff", "Wed Dec 10 21:48:20 2025", "0x0000000000000000",
        "3.14.0", "26.3.1\nDarwin", "26.3 (25D125)", "1.2 3.4",
        "0xfffffffc", "169.254 link#6 UCS", "128.0/1 192.0.2 UGSc", "flags=8863<UP,BROADCAST>",
        "Mach Virtual Memory Statistics: (page size of 16384 bytes)", "root", "rdma_en2",
        '"_name" : "thunderboltusb4_bus_1"', '"device_name_key" : "Mac15,14"', "GID[  0]:",
    ],
)  # fmt: skip
def test_what_tells_nobody_stays(text: str) -> None:
    assert of(text) == text


def test_short_forms_of_netstat() -> None:
    shown = of("10.254/30  link#12 UCS\n192.168.44  link#30 UC\n2:c0:ff:0:77:1 x\n")
    assert re.fullmatch(
        r"[\d.]+\.0/30  link#12 UCS\n[\d.]+\.0/24  link#30 UC\n2:0:5e:10:0:1 x\n", shown
    )
    assert "10.254" not in shown
    assert "192.168.44" not in shown


def test_forms_of_linux() -> None:
    shown = of(
        "0: 0500FE0A:1F90 00000000:0000 0A\neth0\t0000FE0A\t0100FE0A\t0003\t0\t0\t0\tFCFFFFFF\t"
    )
    assert "FE0A" not in shown
    assert "FCFFFFFF" in shown
    assert "00000000:0000" in shown


# What parsers read of our samples stays as good as it was: names, states, numbers of things.
def _devices(text: str) -> Any:
    found = rdma.parse_devinfo(text, 0)
    return [(each.name, each.state, len(each.gids), len(each.ipv4_gids)) for each in found.values()]


def _interfaces(text: str) -> Any:
    found = rdma.parse_interfaces(text, 0).values()
    return [(each.name, each.status, len(each.addresses), each.members) for each in found]


READ: dict[str, Callable[[str], Any]] = {
    "ibv_devices.txt": lambda text: rdma.parse_devices(text, 0),
    "ibv_devices_none.txt": lambda text: rdma.parse_devices(text, 0),
    "ibv_devinfo.txt": _devices,
    "ifconfig.txt": _interfaces,
    "memory.txt": lambda text: memory.parse(text, 0),
    "netstat_routes.txt": lambda text: [
        (each.network.prefixlen, each.interface) for each in routes.parse(text, 0)
    ],
    "networksetup.txt": lambda text: thunderbolt.parse_hardware_ports(text, 0),
    "ping.txt": lambda text: [each.answered for each in ping.parse(text, 0).values()],
    "ports.txt": lambda text: {
        port: [each.pid for each in holders] for port, holders in ports.parse(text, 0).items()
    },
    "processes.txt": lambda text: [
        (each.pid, each.ppid, each.rss) for each in processes.parse(text, 0).values()
    ],
    "system_profiler.json": lambda text: [
        (each.receptacle, each.speed, len(each.peers)) for each in thunderbolt.parse_ports(text, 0)
    ],
    "system_profiler_tb4.json": lambda text: [
        (each.receptacle, each.speed, len(each.peers)) for each in thunderbolt.parse_ports(text, 0)
    ],
    "versions.txt": lambda text: versions.parse(text, 0),
}


@pytest.mark.parametrize("name", READ)
def test_parsers_take_it(name: str) -> None:
    text = (DATA / name).read_text()
    assert READ[name](of(text)) == READ[name](text)
