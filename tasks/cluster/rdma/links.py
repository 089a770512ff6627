"""Thunderbolt links: which interface of which host has which address, and who is whose peer. Pure.

A link is a subnet of two ends. Its addresses exist for RDMA: without an IPv4 address an interface
has no IPv4-mapped GID, and a queue pair fails with errno 22 (mlx#3467, mlx#4191).
"""

from __future__ import annotations

import ipaddress
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from ..config.hostfile import Host, Hostfile, Rdma
from ..config.ranks import are_told, devices, forked, one_link
from ..errors import BadInput
from ..facts.links.rdma import Interface
from ..facts.links.routes import Route

PREFIX = 30  # two addresses: a cable has two ends


@dataclass(frozen=True)
class LinkEnd:
    """One end of a link: `interface` of `host` is to have `address` (with its network)."""

    host: str
    interface: str
    address: ipaddress.IPv4Interface

    @property
    def device(self) -> str:
        """The RDMA device of the interface, as macOS names it (Apple TN3205)."""
        return f"rdma_{self.interface}"

    def __str__(self) -> str:
        return f"{self.host}:{self.interface}:{self.address.ip}"


Link = tuple[LinkEnd, LinkEnd]
PlugName = tuple[str, str]  # host and interface


@dataclass(frozen=True)
class LinkPlan:
    """What rdma.setup brings about: hosts in rank order, their ends, MLX's matrix of devices.

    `rdma` is False for a cluster that only wants the addresses (backend ring). `cables` are the
    links, each as (host, interface) twice, of a hostfile that tells no addresses of them: `with_`
    takes those that the interfaces have, and `bare` are the interfaces that have none.
    """

    source: str
    hosts: tuple[Host, ...]
    ends: tuple[LinkEnd, ...]
    matrix: tuple[tuple[Rdma, ...], ...]
    rdma: bool = True
    cables: tuple[tuple[PlugName, PlugName], ...] = ()
    bare: tuple[PlugName, ...] = ()

    def on(self, host: str) -> list[LinkEnd]:
        return [end for end in self.ends if end.host == host]

    @property
    def links(self) -> list[Link]:
        """Both ends of every link, the end of the lower rank first."""
        at = {(end.host, end.interface): end for end in self.ends}
        known = [(at[a], at[b]) for a, b in self.cables if a in at and b in at]
        return known if self.cables else pairs(self.ends)

    @property
    def unlinked(self) -> list[tuple[str, str]]:
        """The pairs of hosts without a link."""
        linked = {frozenset((one.host, two.host)) for one, two in self.links}
        linked |= {frozenset((a[0], b[0])) for a, b in self.cables}
        names = [host.ssh for host in self.hosts]
        return [pair for pair in combinations(names, 2) if frozenset(pair) not in linked]

    @property
    def discover(self) -> str:
        """The command that finds the addresses out."""
        names = ",".join(host.ssh for host in self.hosts)
        return f"inv rdma.discover --hosts {names} --write FILE"

    def with_(self, interfaces: Mapping[str, Mapping[str, Interface]]) -> LinkPlan:
        """The same, its ends those addresses that the nodes' interfaces have, by node."""
        plugs = list(dict.fromkeys(plug for cable in self.cables for plug in cable))
        found = {(h, i): interfaces[h][i].addresses for h, i in plugs if i in interfaces[h]}
        ends = tuple(LinkEnd(*plug, found[plug][0]) for plug in plugs if found.get(plug))
        return replace(self, ends=ends, bare=tuple(p for p in plugs if not found.get(p)))


def from_specs(specs: Sequence[str], proxies: Sequence[str], netmask: str) -> LinkPlan:
    """`--node HOST:IFACE:IP` for each end, `--proxy VIA:HOST`; hosts in the order of mention."""
    prefix = parse_netmask(netmask)
    ends = [_spec(spec, prefix) for spec in specs]
    via = dict(_proxy(text) for text in proxies)
    if itself := [name for name, gateway in via.items() if name == gateway]:
        raise BadInput(f"--proxy {itself[0]}:{itself[0]}: a host is not its own way: VIA:HOST")
    names = list(dict.fromkeys(end.host for end in ends))
    if strangers := sorted(set(via) - set(names)):
        raise BadInput(f"--proxy: {strangers[0]} is in no --node: name it there first")
    hosts = tuple(Host(name, gateway=via.get(name)) for name in names)
    return _wiring("--node", hosts, ends)


def from_hostfile(file: Hostfile) -> LinkPlan:
    """The links of a hostfile: its "links", or else the cables that its devices tell of.

    The `ips` of a file with devices are the hosts' own, by which ranks call the coordinator: so
    mlx.distributed_config writes them (add_ips in its config.py). Those of our own range, one for
    the one device of each host, are the links'.
    """
    told = are_told(file.hosts)
    ends = [end for i, host in enumerate(file.hosts) if told for end in _ends(file, i, host)]
    rows = tuple(host.rdma for host in file.hosts)
    _refuse(file, bool(ends))
    if not ends:
        rdma = file.backend != "ring"
        return LinkPlan(file.source, file.hosts, (), rows, rdma, _cables(file.hosts))
    wiring = replace(_wiring(file.source, file.hosts, ends), rdma=file.backend != "ring")
    if any(rows):
        _compare(file, wiring, rows)
        return replace(wiring, matrix=rows)
    return wiring


def _refuse(file: Hostfile, has_links: bool) -> None:
    """Raise where neither links nor devices tell of cables, or what devices tell can't be."""
    is_whole = all(len(host.rdma) == len(file.hosts) > 1 for host in file.hosts)
    if not has_links and is_whole and (wrong := _one_end(file.hosts)):
        raise BadInput(f"{file.source}: {wrong}")
    if not has_links and not (is_whole and _cables(file.hosts)):
        names = ",".join(dict.fromkeys(host.ssh for host in file.hosts))
        raise BadInput(
            f'{file.source}: no "links" between Macs: name yours with --node or --hostfile, or find'
            f" the cables with inv rdma.discover --hosts {names} --write FILE"
        )
    backend = file.backend if file.backend.startswith("jaccl") else "jaccl"
    if is_whole and file.backend != "ring" and (wrong := forked(backend, file.hosts)):
        raise BadInput(f"{file.source}: {wrong}")


def _one_end(hosts: Sequence[Host]) -> str | None:
    """The first device that leads to a host which has none back."""
    for i, one in enumerate(hosts):
        for j, two in enumerate(hosts):
            if (there := devices(one.rdma[j])) and not devices(two.rdma[i]):
                return (
                    f"hosts[{j}].rdma[{i}] is null, but {there[0]} of {one.ssh} leads to"
                    f" {two.ssh}, and a cable has two ends: write its device there"
                )
    return None


def _cables(hosts: Sequence[Host]) -> tuple[tuple[PlugName, PlugName], ...]:
    """The cables that a matrix tells of: the devices of two hosts to each other, in their order.

    So mlx.distributed_config writes them; devices are named after the interfaces (Apple TN3205).
    """
    return tuple(
        ((one.ssh, a.removeprefix("rdma_")), (two.ssh, b.removeprefix("rdma_")))
        for (i, one), (j, two) in combinations(enumerate(hosts), 2)
        for a, b in zip(devices(one.rdma[j]), devices(two.rdma[i]), strict=False)
    )


def parse_netmask(text: str) -> int:
    """The prefix length of `30`, `/30` or `255.255.255.252`."""
    word = text.removeprefix("/")
    masks = {str(ipaddress.IPv4Network(f"0.0.0.0/{n}").netmask): n for n in range(8, PREFIX + 1)}
    prefix = masks.get(word, int(word) if re.fullmatch(r"\d{1,2}", word, re.ASCII) else 0)
    if not 8 <= prefix <= PREFIX:
        raise BadInput(f"--netmask {text}: give a prefix from 8 to 30, or 255.255.255.252")
    return prefix


def collision(
    end: LinkEnd, interfaces: Mapping[str, Interface], routes: Iterable[Route]
) -> str | None:
    """What else on the end's host already uses its subnet, or None.

    A link in the office's subnet would take the office's traffic: a /30 of 192.168.0.x has.
    """
    network = end.address.network
    for interface in interfaces.values():
        for address in interface.addresses:
            if interface.name != end.interface and address.network.overlaps(network):
                return f"{interface.name} has {address}"
    for route in routes:
        if route.gateway is not None and route.gateway in network:
            return f"the route to {_words(route.network)} goes through {route.gateway}"
        if _counts(route, end) and route.network.overlaps(network):
            return f"there is a route to {_words(route.network)} on {route.interface}"
    return None


def _counts(route: Route, end: LinkEnd) -> bool:
    """Whether a route may collide: not the default one, nor the interface's own, nor multicast."""
    special = route.network.prefixlen == 0 or route.network.network_address >= _MULTICAST
    return route.interface != end.interface and not special


_MULTICAST = ipaddress.IPv4Address("224.0.0.0")


def _words(network: ipaddress.IPv4Network) -> str:
    return "everywhere" if network.prefixlen == 0 else str(network)


def _wiring(source: str, hosts: tuple[Host, ...], ends: Sequence[LinkEnd]) -> LinkPlan:
    wrong = _twice(ends) or next(filter(None, map(_bad_address, ends)), None) or _unpaired(ends)
    if wrong:
        raise BadInput(f"{source}: {wrong}")
    names = [host.ssh for host in hosts]
    return LinkPlan(source, hosts, tuple(ends), matrix(names, ends))


def pairs(ends: Iterable[LinkEnd]) -> list[Link]:
    """The ends that share a subnet, the earlier one first."""
    return [
        (one, two)
        for one, two in combinations(ends, 2)
        if one.address.network == two.address.network
    ]


def matrix(names: Sequence[str], ends: Iterable[LinkEnd]) -> tuple[tuple[Rdma, ...], ...]:
    """MLX's matrix: the devices from row to column, null without a link (and for itself)."""
    found: dict[tuple[str, str], list[str]] = {}
    for one, two in pairs(ends):
        found.setdefault((one.host, two.host), []).append(one.device)
        found.setdefault((two.host, one.host), []).append(two.device)
    return tuple(tuple(_cell(found.get((row, column), [])) for column in names) for row in names)


def _cell(devices: Sequence[str]) -> Rdma:
    return devices[0] if len(devices) == 1 else tuple(devices) or None


_HOST = r"[A-Za-z0-9_.][A-Za-z0-9_.@-]*"  # as ssh takes it: no option, nothing for a shell


def _spec(text: str, prefix: int) -> LinkEnd:
    host, interface, address = ([*text.split(":", 2), "", ""])[:3]
    if text.count(":") < 2 or not re.fullmatch(_HOST, host):
        raise BadInput(f"--node {text!r}: give HOST:IFACE:IP, as in mac1:en5:10.254.0.5")
    return _end(f"--node {text}", host, interface, f"{address}/{prefix}")


def _end(where: str, host: str, interface: str, address: str) -> LinkEnd:
    if not re.fullmatch(r"[a-z]{2,10}[0-9]{1,3}", interface):
        raise BadInput(f"{where}: {interface!r} is no interface: give one such as en5")
    try:
        return LinkEnd(host, interface, ipaddress.IPv4Interface(address))
    except ValueError:
        raise BadInput(
            f"{where}: {address.partition('/')[0]!r} is no IPv4 address: give one such as"
            " 10.254.0.5"
        ) from None


def _proxy(text: str) -> tuple[str, str]:
    via, _, host = text.partition(":")
    if not re.fullmatch(_HOST, via) or not re.fullmatch(_HOST, host):
        raise BadInput(f"--proxy {text!r}: give VIA:HOST, as in mac1:mac2")
    return host, via


def _ends(file: Hostfile, index: int, host: Host) -> list[LinkEnd]:
    where = f"{file.source}: hosts[{index}]"
    if host.links:
        return [
            _end(
                f"{where}.links.{name}",
                host.ssh,
                name,
                address if "/" in address else f"{address}/{PREFIX}",
            )
            for name, address in host.links
        ]
    name, ip = one_link(host) or ("", "")
    return [_end(where, host.ssh, name, f"{ip}/{PREFIX}")] if name else []


def _twice(ends: Sequence[LinkEnd]) -> str | None:
    for what, values in (
        ("address", [str(end.address.ip) for end in ends]),
        ("interface", [f"{end.interface} of {end.host}" for end in ends]),
    ):
        value, times = Counter(values).most_common(1)[0]
        if times > 1:
            return f"{what} {value} is there twice: give each end of a link its own"
    return None


def _bad_address(end: LinkEnd) -> str | None:
    network, ip = end.address.network, end.address.ip
    if ip in (network.network_address, network.broadcast_address):
        return f"{ip} of {end.host} is not an address of a host in {network}: take another"
    if ip.is_loopback or ip.is_multicast or ip.is_link_local or ip.is_unspecified:
        return f"{ip} of {end.host} is a special address: take one of 10.254.0.0/16"
    return None


def _unpaired(ends: Sequence[LinkEnd]) -> str | None:
    """A link is a subnet of its own with one end on each of two hosts."""
    for end in ends:
        nets = [other for other in ends if other.address.network.overlaps(end.address.network)]
        if len(nets) == 1:
            return f"{end} is alone in {end.address.network}: give the other end an address in it"
        if len({other.host for other in nets}) != 2 or len(nets) != 2:
            names = ", ".join(map(str, nets))
            return f"{names} are in one subnet: give each cable (two hosts) a subnet of its own"
        if nets[0].address.network != nets[1].address.network:
            return f"{nets[0]} and {nets[1]} overlap with different prefixes: give both the same"
    return None


def _compare(file: Hostfile, wiring: LinkPlan, rows: Sequence[Sequence[Rdma]]) -> None:
    """The hostfile's own matrix wins, but it must be one that its links can carry."""
    for i, row in enumerate(rows):
        for j, cell in enumerate(row):
            there = devices(wiring.matrix[i][j])
            if strange := sorted(set(devices(cell)) - set(there)):
                raise BadInput(
                    f"{file.source}: hosts[{i}].rdma[{j}] is {strange[0]}, but links give"
                    f" {', '.join(there) or 'no device'} between them: correct one of the two"
                )
