"""route -n get, and netstat's tables of routes and of TCP sockets, from the real ones."""

from __future__ import annotations

import ipaddress
from typing import Any

from . import node, sockets

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
    elif "-ibn" in words:
        _counters()
    else:
        node.say("netstat: a test host knows -rn -f inet, -an -p tcp and -ibn only")
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
    with open(f"{node.SYS}/class/net/{device}/ifindex") as file:
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


def _sockets() -> None:
    print("Active Internet connections (including servers)")
    print("Proto Recv-Q Send-Q  Local Address          Foreign Address        (state)    ")
    for each in sockets.sockets():
        mine, theirs = (f"{host}.{port or '*'}" for host, port in each[1:3])
        print(f"tcp{each.family}  {0:>6} {0:>6}  {mine:<22} {theirs:<22} {each.state:<11}")


def _counters() -> None:
    """`netstat -ibn`: of each interface the row of its link."""
    head = "Name       Mtu   Network       Address            Ipkts Ierrs     Ibytes"
    print(f"{head}    Opkts Oerrs     Obytes  Coll")
    for row in node.ip("-s", "link", "show"):
        got, sent = row["stats64"]["rx"], row["stats64"]["tx"]
        name = row["ifname"].replace("lo", "lo0") + ("" if "UP" in row["flags"] else "*")
        counts = [way[kind] for way in (got, sent) for kind in ("packets", "errors", "bytes")]
        numbers = " ".join(f"{count:>9}" for count in counts)
        address = "" if name.startswith("lo0") else row["address"]
        link = f"<Link#{row['ifindex']}>"
        print(f"{name:<10} {row['mtu']:<5} {link:<11} {address:<17} {numbers} {0:>5}")
