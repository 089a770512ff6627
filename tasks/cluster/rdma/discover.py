"""From cables and facts (by host, in order) to a hostfile: subnets, backend, ranks. Pure."""

import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from itertools import combinations
from typing import TypeVar

from ..config.hostfile import HostEntry, HostfileData
from ..config.ranks import POOL
from ..errors import BadInput
from ..facts import Fact, Key, NodeFacts, known
from ..facts.links import rdma, routes, thunderbolt
from ..facts.machine import hardware
from . import links as linking
from .cables import Cable, fast, misplaced
from .links import Link, LinkEnd

FACTS: tuple[Fact[object], ...] = (*thunderbolt.FACTS, *rdma.FACTS, routes.FACT, hardware.FACT)

T = TypeVar("T")


def subnets(
    cables: Sequence[Cable],
    facts: Mapping[str, NodeFacts],
    written: Iterable[LinkEnd] = (),
    pool: IPv4Network = POOL,
) -> list[Link]:
    """Both ends of each cable with an address, a /30 of the pool per cable.

    A subnet is kept that both ends have already, or that `written` (a hostfile's) gives to both,
    so that a second run changes nothing. None collides with a network of any node. Raise BadInput
    where that can't be told, or none is left.
    """
    taken = [each for each in _taken(facts) if each.network.overlaps(pool)]
    had = _addresses(facts)
    for end in written:
        had.setdefault((end.host, end.interface), []).append(end.address)
    kept: list[Link | None] = []
    used: set[IPv4Network] = set()
    for cable in cables:
        link = _kept(cable, had, taken, pool, used)
        kept.append(link)
        used |= {link[0].address.network} if link else set()
    free = (net for net in pool.subnets(new_prefix=linking.PREFIX) if net not in used)
    fresh = (net for net in free if not any(net.overlaps(each.network) for each in taken))
    return [old or _fresh(each, fresh, taken) for each, old in zip(cables, kept, strict=True)]


def backend(links: Sequence[Link], facts: Mapping[str, NodeFacts]) -> tuple[str, str]:
    """The fastest backend that the links allow, and why in one sentence.

    jaccl wants RDMA between every two hosts, jaccl-ring between neighbours of a ring (is_valid_mesh
    and is_valid_ring of MLX's jaccl.cpp); ring takes TCP, over the links if they make a ring.
    """
    hosts = list(facts)
    able = rdma_links(links, facts)
    if len(hosts) == 1:
        return "ring", "one host needs no links"
    if not _unlinked(able, hosts):
        return "jaccl", _why_mesh(able, hosts)
    if order := ring(able, hosts):
        lacks = " and ".join(_unlinked(able, hosts)[0])
        return "jaccl-ring", f"RDMA links make the ring {'-'.join(order)}; {lacks} have none"
    over = "the Thunderbolt links" if ring(links, hosts) else "the hosts' own network"
    return "ring", f"{_why_no_rdma(links, facts)}; TCP goes over {over}"


def rdma_links(links: Sequence[Link], facts: Mapping[str, NodeFacts]) -> list[Link]:
    """The links that can carry RDMA once they are set up: both ends have their device."""
    return [link for link in links if not any(_no_rdma(end, facts[end.host]) for end in link)]


def ring(links: Iterable[Link], hosts: Sequence[str]) -> list[str] | None:
    """All hosts in an order in which each is linked to the next and the last to the first."""
    near: dict[str, set[str]] = {host: set() for host in hosts}
    for one, two in links:
        near[one.host].add(two.host)
        near[two.host].add(one.host)
    if any(len(near[host]) < min(2, len(hosts) - 1) for host in hosts):
        return None

    def grow(path: list[str]) -> list[str] | None:
        if len(path) == len(hosts):
            return path if len(path) == 1 or path[0] in near[path[-1]] else None
        steps = (grow([*path, each]) for each in hosts if each in near[path[-1]] - {*path})
        return next(filter(None, steps), None)

    return grow([hosts[0]])


def hostfile(
    backend: str, links: Sequence[Link], facts: Mapping[str, NodeFacts], reached: Mapping[str, str]
) -> HostfileData:
    """MLX's hostfile in dict form, its hosts in rank order; "links" is ours, mlx.launch ignores it.

    `reached` maps a host to the address by which the control machine reaches it. Raise BadInput
    where a host has no IPv4 address that the others could reach.
    """
    order = _rank_order(backend, links, facts)
    data = _data_links(backend, links, facts, order)
    rows = linking.matrix(order, [end for link in data for end in link])
    hosts = []
    for index, host in enumerate(order):
        entry: HostEntry = {"ssh": host, "ips": _ips(index, order, data, backend)}
        if not entry["ips"]:
            entry["ips"] = [_own_address(host, facts[host], links, reached.get(host))]
        if backend != "ring":
            entry["rdma"] = [list(c) if isinstance(c, tuple) else c for c in rows[index]]
        ends = [end for link in links for end in link if end.host == host]
        entry["links"] = {end.interface: str(end.address) for end in ends}
        hosts.append(entry)
    return {"backend": backend, "envs": [], "hosts": hosts}


def setup_command(hostfile: HostfileData) -> str:
    """The `inv rdma.setup` that brings the hostfile's links about; empty where it has none."""
    nodes = [f"--node {shlex.quote(str(end))}" for end in ends(hostfile)]
    return " ".join(["inv rdma.setup", *nodes]) if nodes else ""


def ends(hostfile: HostfileData) -> list[LinkEnd]:
    """The ends of a hostfile's "links"."""
    return [
        LinkEnd(entry["ssh"], name, IPv4Interface(address if "/" in address else f"{address}/30"))
        for entry in hostfile["hosts"]
        for name, address in entry.get("links", {}).items()
    ]


# Subnets.


@dataclass(frozen=True)
class _Taken:
    """A network that an interface of a host already has, by address or by route."""

    host: str
    interface: str
    network: IPv4Network

    def __str__(self) -> str:
        return f"{self.host} has {self.network} on {self.interface}"


def _taken(facts: Mapping[str, NodeFacts]) -> list[_Taken]:
    """All networks of all hosts; the default route is none."""
    found = []
    for host, values in facts.items():
        interfaces = _read(values, rdma.INTERFACES_KEY)
        found += [_Taken(host, i.name, a.network) for i in interfaces.values() for a in i.addresses]
        found += [_Taken(host, r.interface, r.network) for r in _read(values, routes.KEY)]
    return [each for each in found if each.network.prefixlen]


def _read(values: NodeFacts, key: Key[T]) -> T:
    if error := values.lacks(key):
        what = f"{error.node}: its {key.name} can't be read ({error.why})"
        raise BadInput(f"{what}: no subnet is known free")
    return values[key]


def _addresses(facts: Mapping[str, NodeFacts]) -> dict[tuple[str, str], list[IPv4Interface]]:
    return {
        (host, interface.name): list(interface.addresses)
        for host, values in facts.items()
        for interface in _read(values, rdma.INTERFACES_KEY).values()
    }


def _kept(
    cable: Cable,
    had: Mapping[tuple[str, str], Sequence[IPv4Interface]],
    taken: Sequence[_Taken],
    pool: IPv4Network,
    used: set[IPv4Network],
) -> Link | None:
    """The addresses that both ends have in one /30 of the pool, if nothing else is in it."""
    a, b = ((plug.host, plug.interface) for plug in (cable.a, cable.b))
    for one in had.get(a, ()):
        for two in had.get(b, ()):
            net = one.network
            is_pair = net.prefixlen == linking.PREFIX and {one.ip, two.ip} == {*net.hosts()}
            if not is_pair or two.network != net or not net.subnet_of(pool) or net in used:
                continue
            others = [each for each in taken if (each.host, each.interface) not in (a, b)]
            if not any(net.overlaps(each.network) for each in others):
                return LinkEnd(*a, one), LinkEnd(*b, two)
    return None


def _fresh(cable: Cable, fresh: Iterator[IPv4Network], taken: Sequence[_Taken]) -> Link:
    net = next(fresh, None)
    if net is None:
        widest = min(taken, key=lambda each: each.network.prefixlen, default=None)
        raise BadInput(f"no subnet is free: {widest}: give addresses of your own to inv rdma.setup")
    one, two = (IPv4Interface(f"{ip}/{net.prefixlen}") for ip in net.hosts())
    a, b = cable.a, cable.b
    return LinkEnd(a.host, a.interface, one), LinkEnd(b.host, b.interface, two)


# Backend.


def _no_rdma(end: LinkEnd, values: NodeFacts) -> str | None:
    """Why an end can't do RDMA, whatever is set up."""
    why = _host_no_rdma(end.host, values)
    if why is None and end.device not in values[rdma.DEVICES_KEY]:
        return f"{end.host} has no device {end.device}"
    moved = misplaced(end.interface, values)
    return why or (f"{end.host}: {moved}" if moved else None)


def _host_no_rdma(host: str, values: NodeFacts) -> str | None:
    # Thunderbolt 4 first: rdma_ctl says "enabled" there too, and there are no devices for ever.
    if fast(values) is False:
        return f"{host}'s ports are Thunderbolt 4: they can't do RDMA"
    if error := values.lacks(rdma.ENABLED_KEY, rdma.DEVICES_KEY):
        return f"{host}'s RDMA is unknown ({error.why})"
    if not values[rdma.ENABLED_KEY]:
        return f"RDMA is disabled on {host} (in Recovery: rdma_ctl enable)"
    return None if values[rdma.DEVICES_KEY] else f"{host} has no RDMA devices"


def _why_mesh(able: Sequence[Link], hosts: Sequence[str]) -> str:
    many = _least(able, combinations(hosts, 2))
    # MeshGroup takes the first device of a list; RingGroup takes all (MLX's jaccl.cpp).
    more = f" ({many} cables each: jaccl uses one, jaccl-ring all)" if many > 1 else ""
    return f"there is RDMA between every two of the {len(hosts)} hosts{more}"


def _why_no_rdma(links: Sequence[Link], facts: Mapping[str, NodeFacts]) -> str:
    hosts = [_host_no_rdma(host, values) for host, values in facts.items()]
    ends = [_no_rdma(end, facts[end.host]) for link in links for end in link]
    if reasons := list(dict.fromkeys(why for why in [*hosts, *ends] if why)):
        return ", ".join(reasons)
    pairs = ", ".join("-".join(pair) for pair in _unlinked(links, list(facts)))
    return f"the cables make neither a full mesh nor a ring (missing: {pairs})"


def _unlinked(links: Iterable[Link], hosts: Sequence[str]) -> list[tuple[str, str]]:
    linked = {frozenset((one.host, two.host)) for one, two in links}
    return [pair for pair in combinations(hosts, 2) if frozenset(pair) not in linked]


# Hostfile.


def _rank_order(backend: str, links: Sequence[Link], facts: Mapping[str, NodeFacts]) -> list[str]:
    """A ring's ranks are neighbours in the order of ranks (MLX's ring.cpp); a mesh has none."""
    hosts = list(facts)
    if backend == "jaccl":
        return hosts
    return ring(links if backend == "ring" else rdma_links(links, facts), hosts) or hosts


def _data_links(
    backend: str, links: Sequence[Link], facts: Mapping[str, NodeFacts], order: Sequence[str]
) -> list[Link]:
    """The links that carry data: as many between each two ranks that talk (MLX's ring.cpp)."""
    near = [(order[i - 1], host) for i, host in enumerate(order)]
    pairs = list(combinations(order, 2)) if backend == "jaccl" else near
    pool = list(links) if backend == "ring" else rdma_links(links, facts)
    count = _least(pool, pairs)
    kept = {link for pair in pairs for link in _between(pool, pair)[:count]}
    return [link for link in pool if link in kept]


def _least(links: Sequence[Link], pairs: Iterable[tuple[str, str]]) -> int:
    """How many links the pair with the fewest has."""
    return min((len(_between(links, pair)) for pair in pairs if pair[0] != pair[1]), default=0)


def _between(links: Sequence[Link], pair: tuple[str, str]) -> list[Link]:
    return [link for link in links if {end.host for end in link} == {*pair}]


def _ips(index: int, order: Sequence[str], data: Sequence[Link], backend: str) -> list[str]:
    """The link addresses that a rank listens on, or none where its own address is wanted.

    A ring's rank accepts on its `ips` from the rank before it, and connects to those of the rank
    after it (MLX's ring.cpp): they are its addresses on the links to its left. jaccl's coordinator
    is called by all: only with two hosts do they all share a link.
    """
    if not data or (backend != "ring" and len(order) > 2):
        return []
    left = _between(data, (order[index - 1], order[index]))
    own = [str(end.address.ip) for link in left for end in link if end.host == order[index]]
    return own if backend == "ring" else own[:1]


def _own_address(host: str, values: NodeFacts, links: Sequence[Link], reached: str | None) -> str:
    """An IPv4 address of the host that is no link's, preferably the one it is reached by.

    A control machine may reach it by a forwarded port, or by loopback where it is that host.
    """
    interfaces = known(values, rdma.INTERFACES_KEY) or {}
    linked = {end.interface for link in links for end in link if end.host == host}
    default = [r.interface for r in known(values, routes.KEY) or () if not r.network.prefixlen]
    # The first default route is the one that counts; others belong to VPNs and virtual machines.
    own = {
        str(address.ip): default.index(interface.name)
        if interface.name in default
        else len(default)
        for interface in interfaces.values()
        for address in interface.addresses
        if interface.name not in linked and not _is_local(address.ip)
    }
    if reached in own or (not interfaces and _is_address(reached)):
        return str(reached)
    if not own:
        raise BadInput(f"{host}: no IPv4 address that other hosts can reach: give it one")
    return min(own, key=lambda ip: own[ip])


def _is_local(ip: IPv4Address) -> bool:
    return ip.is_loopback or ip.is_link_local


def _is_address(text: str | None) -> bool:
    try:
        return not _is_local(IPv4Address(text or ""))
    except ValueError:
        return False
