"""route -n get, and netstat's tables of routes and of TCP sockets, from the real ones."""

from __future__ import annotations

import ipaddress
import re
from typing import Any

from . import node

NUMBERS = """\
 recvpipe  sendpipe  ssthresh  rtt,msec    rttvar  hopcount      mtu     expire
       0         0         0         0         0         0      1500         0 """


def route(words: list[str]) -> int:
    """`route [-n] get ADDRESS`; without a route it fails on stderr alone, with status 0."""
    wanted = words[-1]
    if "get" not in words or wanted == "get":
        node.say("usage: route [-n] get destination")
        return 64
    found = _found(wanted)
    if found is None:
        node.say("route: writing to routing socket: not in table")
        return 0
    print(f"   route to: {wanted}")
    if "gateway" in found:
        print(f"destination: default\n       mask: default\n    gateway: {found['gateway']}")
        flags = "UP,GATEWAY,DONE,STATIC,PRCLONING,GLOBAL"
    else:
        print(f"destination: {wanted}")
        flags = "UP,HOST,DONE,LLINFO,WASCLONED,IFSCOPE,IFREF"
    print(f"  interface: {found['dev'].replace('lo', 'lo0')}\n      flags: <{flags}>\n{NUMBERS}")
    return 0


def _found(wanted: str) -> Any:
    try:
        if wanted == "default":
            return next(iter(node.ip("-4", "route", "show", "default")), None)
        return next(iter(node.ip("-4", "route", "get", wanted)), None)
    except OSError:
        return None


def netstat(words: list[str]) -> int:
    if "-rn" in words or "-r" in words:
        _routes()
    elif "-an" in words or "-a" in words:
        _sockets()
    else:
        node.say("netstat: a test host knows -rn -f inet and -an -p tcp only")
        return 1
    return 0


def _routes() -> None:
    print("Routing tables\n\nInternet:")
    print(_route("Destination", "Gateway", "Flags", "Netif", "Expire"))
    rows = node.ip("-4", "route", "show")
    default = [row for row in rows if row["dst"] == "default"]
    for row in default:
        print(_route("default", row["gateway"], "UGScg", row["dev"]))
    others = [("127.0.0.0/8", "127.0.0.1", "UCS", "lo0"), ("127.0.0.1", "127.0.0.1", "UH", "lo0")]
    for row in default[:1]:
        gateway, link = row["gateway"], _link(row["dev"])
        others += [(f"{gateway}/32", link, "UCS", row["dev"])]
        others += [("169.254.0.0/16", link, "UCS", row["dev"])]
        others += [("224.0.0.0/4", link, "UmCS", row["dev"])]
        others += [("255.255.255.255/32", link, "UCS", row["dev"])]
    for row in rows:
        if row["dst"] != "default":
            gateway = row.get("gateway") or _link(row["dev"])
            others += [(row["dst"], gateway, "UCS", row["dev"])]
            others += [(f"{row['prefsrc']}/32", gateway, "UCS", row["dev"])]
    for to, gateway, flags, device in sorted(others, key=lambda row: ipaddress.ip_network(row[0])):
        is_link = gateway.startswith("link#")
        print(_route(_network(to), gateway, flags, device, "!" if is_link else ""))


def _link(device: str) -> str:
    with open(f"/sys/class/net/{device}/ifindex") as file:
        return f"link#{file.read().strip()}"


def _route(destination: str, gateway: str, flags: str, device: str, expire: str = "") -> str:
    return f"{destination:<18} {gateway:<18} {flags:<16}{device:>9} {expire:>6}"


def _network(text: str) -> str:
    """BSD leaves out the octets below the mask, and the mask where it is the class's own."""
    if "/" not in text or text == "224.0.0.0/4":
        return {"224.0.0.0/4": "224.0.0/4"}.get(text, text)
    net = ipaddress.IPv4Network(text)
    octets = str(net.network_address).split(".")
    by_class = 8 if int(octets[0]) < 128 else 16 if int(octets[0]) < 192 else 24
    short = ".".join(octets[: -(-net.prefixlen // 8)])
    return short if net.prefixlen == by_class else f"{short}/{net.prefixlen}"


STATES = {1: "ESTABLISHED", 2: "SYN_SENT", 6: "TIME_WAIT", 8: "CLOSE_WAIT", 10: "LISTEN"}


def _sockets() -> None:
    print("Active Internet connections (including servers)")
    print("Proto Recv-Q Send-Q  Local Address          Foreign Address        (state)    ")
    for kind, name in (("tcp4", "tcp"), ("tcp6", "tcp6")):
        with open(f"/proc/net/{name}") as file:
            rows = re.findall(r"^ *\d+: (\w+):(\w{4}) (\w+):(\w{4}) (\w\w) ", file.read(), re.M)
        for mine, port, theirs, at, state in rows:
            ends = [_end(mine, port), _end(theirs, at)]
            word = STATES.get(int(state, 16), "CLOSED")
            print(f"{kind:<5} {0:>6} {0:>6}  {ends[0]:<22} {ends[1]:<22} {word:<11}")


def _end(address: str, port: str) -> str:
    packed = b"".join(bytes.fromhex(address[i : i + 8])[::-1] for i in range(0, len(address), 8))
    ip = ipaddress.ip_address(packed)
    number = int(port, 16)
    return f"{'*' if ip.is_unspecified else ip}.{number or '*'}"
