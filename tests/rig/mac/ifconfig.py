"""ifconfig in BSD's words, on the host's real interfaces: it shows, addresses and bridges them.

It knows the words of Apple's own that are used here, and no other one (apple-oss-distributions
network_cmds 741.100.2, ifconfig.tproj): of ifconfig.c:2728-2814, ifbridge.c:1058-1059 and
ifclone.c:146-147. Any other word is an address, as it is there (ifconfig.c, `ifconfig`).
"""

from __future__ import annotations

import ipaddress
import os
import re
from typing import Any

from . import node

# Nothing of Linux stands behind these two; every Mac shows them.
GHOSTS = {
    "gif0": "gif0: flags=8010<POINTOPOINT,MULTICAST> mtu 1280",
    "stf0": "stf0: flags=0<> mtu 1280",
}
LOOPBACK = """\
lo0: flags=8049<UP,LOOPBACK,RUNNING,MULTICAST> mtu 16384
\toptions=1203<RXCSUM,TXCSUM,TXSTATUS,SW_TIMESTAMP>
\tinet 127.0.0.1 netmask 0xff000000
\tinet6 ::1 prefixlen 128 
\tinet6 fe80::1%lo0 prefixlen 64 scopeid 0x1 
\tnd6 options=201<PERFORMNUD,DAD>"""  # noqa: W291
CONFIGURATION = """\
\tConfiguration:
\t\tid 0:0:0:0:0:0 priority 0 hellotime 0 fwddelay 0
\t\tmaxage 0 holdcnt 0 proto stp maxaddr 100 timeout 1200
\t\troot id 0:0:0:0:0:0 priority 0 ifcost 0 port 0
\t\tipfilter disabled flags 0x0"""


ARGUMENT = ("netmask", "broadcast", "mtu", "addm", "deletem")
HOW = {"alias": "add", "add": "add", "-alias": "delete", "delete": "delete", "remove": "delete"}


class RefusedError(Exception):
    """What ifconfig says on stderr, with exit status 1."""


def ifconfig(words: list[str]) -> int:
    try:
        flags = [word for word in words if word in ("-a", "-l", "-v", "-u", "-d")]
        rest = words[len(flags) :]
        if "-l" in flags:
            print(" ".join(["lo0", *GHOSTS, *_names()]))
        elif not rest:
            print("\n".join([LOOPBACK, *GHOSTS.values(), *map(_block, _rows())]))
        else:
            _one(rest[0], rest[1:])
    except RefusedError as error:
        node.say(f"ifconfig: {error}")
        return 1
    return 0


def _rows() -> list[Any]:
    return [row for row in node.ip("address", "show") if row["ifname"] != "lo"]


def _names() -> list[str]:
    return [row["ifname"] for row in _rows()]


def _one(name: str, words: list[str]) -> None:
    rows = {row["ifname"]: row for row in _rows()}
    if name not in ("lo0", *GHOSTS, *rows):
        if words[:1] != ["create"]:
            raise RefusedError(f"interface {name} does not exist")
        _create(name)
        words = words[1:]
    elif words in ([], ["inet"]):
        return print({"lo0": LOOPBACK, **GHOSTS}.get(name) or _block(rows[name]))
    _Request(name).act(words[1:] if words[:1] == ["inet"] else words)


def _root(otherwise: str) -> None:
    if not node.is_root():
        raise RefusedError(otherwise)


def _block(row: Any) -> str:
    """An interface as ifconfig shows it."""
    name = row["ifname"]
    is_bridge = os.path.isdir(f"{node.SYS}/class/net/{name}/bridge")
    lines = [_head(row, is_bridge)]
    lines += [f"\tether {row['address']}"]
    lines += [_inet6(name, each) for each in row["addr_info"] if each["family"] == "inet6"]
    lines += [_inet(each) for each in row["addr_info"] if each["family"] == "inet"]
    lines += [CONFIGURATION, *_members(name)] if is_bridge else []
    lines += ["\tnd6 options=201<PERFORMNUD,DAD>"]
    lines += [f"\tmedia: {_media(name, is_bridge)}"]
    lines += [f"\tstatus: {'active' if node.has_carrier(name) else 'inactive'}"]
    return "\n".join(lines)


def _head(row: Any, is_bridge: bool) -> str:
    is_promiscuous = node.bridge_of(row["ifname"]) is not None
    value = 0x8822 | (0x41 if "UP" in row["flags"] else 0) | (0x100 if is_promiscuous else 0)
    words = {
        0x1: "UP", 0x2: "BROADCAST", 0x20: "SMART", 0x40: "RUNNING",
        0x100: "PROMISC", 0x800: "SIMPLEX", 0x8000: "MULTICAST",
    }  # fmt: skip
    names = ",".join(word for bit, word in words.items() if value & bit)
    options = "63<RXCSUM,TXCSUM,TSO4,TSO6>" if is_bridge else "460<TSO4,TSO6,CHANNEL_IO>"
    if row["ifname"] == "en0":
        options = "567<RXCSUM,TXCSUM,VLAN_MTU,TSO4,TSO6,AV,CHANNEL_IO>"
    head = f"{row['ifname']}: flags={value:x}<{names}> mtu {row['mtu']}"
    return f"{head}\n\toptions={options}"


def _inet(row: Any) -> str:
    net = ipaddress.ip_interface(f"{row['local']}/{row['prefixlen']}").network
    mask = f"0x{int(net.netmask):08x}"
    return f"\tinet {row['local']} netmask {mask} broadcast {net.broadcast_address}"


def _inet6(name: str, row: Any) -> str:
    if row["scope"] != "link":
        return f"\tinet6 {row['local']} prefixlen {row['prefixlen']} autoconf secured "
    scope = f"scopeid 0x{_index(name):x} "
    return f"\tinet6 {row['local']}%{name} prefixlen {row['prefixlen']} secured {scope}"


def _index(name: str) -> int:
    with open(f"{node.SYS}/class/net/{name}/ifindex") as file:
        return int(file.read())


def _members(bridge: str) -> list[str]:
    names = sorted(os.listdir(f"{node.SYS}/class/net/{bridge}/brif"), key=_index)
    return [
        f"\tmember: {name} flags=3<LEARNING,DISCOVER>\n"
        f"\t        ifmaxaddr 0 port {_index(name)} priority 0 path cost 0"
        for name in names
    ]


def _media(name: str, is_bridge: bool) -> str:
    if is_bridge:
        return "<unknown type>"
    ethernet = "autoselect (10Gbase-T <full-duplex,flow-control>)"
    return ethernet if name == "en0" else "autoselect <full-duplex>"


class _Request:
    """Words after an interface's name, done from left to right; its address is set at the end."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.address = self.mask = ""
        self.how = "set"

    def act(self, words: list[str]) -> None:
        rest = iter(words)
        for word in rest:
            value = next(rest, None) if word in ARGUMENT else ""
            if value is None:
                raise RefusedError(f"'{word}' requires argument")
            self._word(word, value)
        if self.address or self.mask or self.how == "delete":
            _root("ioctl (SIOCAIFADDR): permission denied")
            _address(self.name, self.address, self.mask, self.how)

    def _word(self, word: str, value: str) -> None:
        if word in ("addm", "deletem"):
            _member(self.name, word, value)
        elif word == "create":
            raise RefusedError("SIOCIFCREATE2: File exists")
        elif word == "destroy":
            _root("SIOCIFDESTROY: Operation not permitted")
            node.ip("link", "del", self.name)
        elif word in ("up", "down"):
            _root(f"{word}: permission denied")
            node.ip("link", "set", self.name, word)
        elif word == "mtu":
            _root("ioctl (set mtu): Operation not permitted")
            node.ip("link", "set", self.name, "mtu", value)
        elif word == "netmask":
            self.mask = _mask(value)
        elif word == "broadcast":
            _inet_aton(value)
        elif word in HOW:
            self.how = HOW[word]
        else:
            # As on a Mac, where a host's name would do as well: here none has one.
            _inet_aton(word.partition("/")[0] if not self.address else word)
            self.address = self.address or word


def _address(name: str, address: str, mask: str, how: str) -> None:
    """Without `alias` the first address of the interface is replaced, as macOS does."""
    row = next(row for row in _rows() if row["ifname"] == name)
    had = [a for a in row["addr_info"] if a["family"] == "inet"]
    if how == "delete":
        here = [a for a in had if not address or a["local"] == address.partition("/")[0]]
        if not here:
            raise RefusedError("ioctl (SIOCDIFADDR): Can't assign requested address")
        _remove(name, here[0])
        return
    if not address and not had:
        raise RefusedError("ioctl (SIOCAIFADDR): Invalid argument")
    wanted = _interface(address or had[0]["local"], mask)
    for each in had[:1] if how == "set" else []:
        _remove(name, each)
    for each in had:
        if each["local"] == str(wanted.ip) and (how == "add" or each is not had[0]):
            _remove(name, each)
    node.ip("address", "add", wanted.with_prefixlen, "broadcast", "+", "dev", name)


def _remove(name: str, row: Any) -> None:
    node.ip("address", "del", f"{row['local']}/{row['prefixlen']}", "dev", name)


def _mask(text: str) -> str:
    is_hex = re.fullmatch("0[xX][0-9a-fA-F]{1,8}", text)
    return str(ipaddress.IPv4Address(int(text, 16))) if is_hex else str(_inet_aton(text))


def _inet_aton(text: str) -> ipaddress.IPv4Address:
    try:
        return ipaddress.IPv4Address(text)
    except ValueError:
        raise RefusedError(f"{text}: bad value") from None


def _interface(address: str, mask: str) -> ipaddress.IPv4Interface:
    ip, _, prefix = address.partition("/")
    first = int(ipaddress.IPv4Address(ip)) >> 24
    by_class = 8 if first < 128 else 16 if first < 192 else 24
    try:
        return ipaddress.IPv4Interface(f"{ip}/{mask or prefix or by_class}")
    except ValueError:
        raise RefusedError(f"{address}: bad value") from None


def _create(name: str) -> None:
    _root("SIOCIFCREATE2: Operation not permitted")
    node.ip("link", "add", name, "type", "bridge")
    node.ip("link", "set", name, "up")


def _member(bridge: str, verb: str, member: str) -> None:
    call = f"{'BRDGADD' if verb == 'addm' else 'BRDGDEL'} {member}"
    _root(f"{call}: Operation not permitted")
    if not os.path.isdir(f"{node.SYS}/class/net/{bridge}/bridge"):
        raise RefusedError(f"{call}: Operation not supported")
    here = node.bridge_of(member)
    if member not in _names() or (verb == "deletem" and here != bridge):
        raise RefusedError(f"{call}: No such file or directory")
    if verb == "deletem":
        node.ip("link", "set", member, "nomaster")
        return
    if here:
        raise RefusedError(f"{call}: {'File exists' if here == bridge else 'Resource busy'}")
    node.join(member, bridge)
