"""Preflight's check "hosts": can the ranks meet at the addresses that they are told? Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..config import ranks
from ..config.ranks import Rank
from ..facts import Fact, known
from ..facts.links import rdma as rdma_facts
from ..facts.links import reach as reach_facts
from ..facts.machine import hardware as machine_facts
from ..facts.snapshot import Snapshot
from .expected import Expected
from .finding import FAIL, OK, WARN, Finding, more
from .registry import check, unknown

if TYPE_CHECKING:
    from ..cluster import Cluster
    from ..config.hostfile import Host
    from ..ssh.node import Node


def called(backend: str, size: int) -> list[tuple[int, int]]:
    """(rank, by which rank it is called) as ranks meet: a ring's by the one before, else rank 0."""
    if backend == "ring":
        return [(rank, (rank - 1) % size) for rank in range(size) if size > 1]
    return [(0, rank) for rank in range(1, size)]


def _calls(expected: Expected) -> list[tuple[str, Rank, Rank]]:
    """(address, whose, by whom) for each call from one node to another as the ranks meet."""
    pairs = called(expected.backend, len(expected.ranks))
    found = [(expected.ranks[one], expected.ranks[two]) for one, two in pairs]
    count = None if expected.backend == "ring" else 1
    between = [(one, two) for one, two in found if one.host.ssh != two.host.ssh]
    return [(ip, one, two) for one, two in between for ip in one.host.ips[:count]]


def _links(expected: Expected) -> list[tuple[str, Rank, Rank]]:
    """(address, whose, by whom) for each end of a link that carries RDMA, as the file tells it."""
    if expected.backend == "ring":
        return []
    size = len(expected.ranks)
    pairs = [(i, j) for i in range(size) for j in ranks.partners(expected.backend, size, i)]
    found = [(expected.ranks[i], expected.ranks[j]) for i, j in pairs]
    return [(ip, one, two) for one, two in found for ip in one.host.toward(two.host)]


def _meeting(cluster: Cluster, node: Node) -> list[Fact[object]]:
    if not (calls := _calls(cluster.expected)):
        return []
    ports = {n.name: 22 if n.host.is_local else n.login[2] for n in cluster.nodes}
    own = [ip for ip, one, _ in calls if one.host.ssh == node.name]
    calls += _links(cluster.expected)
    peers = [(ip, ports[one.host.ssh]) for ip, one, two in calls if two.host.ssh == node.name]
    rank = cluster.on(node)[0]
    own, peers = list(dict.fromkeys(own)), list(dict.fromkeys(peers))
    asked = reach_facts.meeting(rank.command[0], rank.cwd, own, peers)
    return [asked, machine_facts.IDENTITY]


@check(
    "hosts", _meeting, what="each is a machine of its own, has its addresses, is reached by them"
)
def hosts(expected: Expected, snapshot: Snapshot) -> list[Finding]:
    """A host is one machine; its addresses are its own, and those that call it reach them.

    Asked at the port of its sshd: what connects to a rank's port takes its peer's place.
    """
    if not (calls := _calls(expected)):
        return []
    found = []
    for node, values in snapshot.nodes.items():
        wrong = twin(node, snapshot) or _address_wrong(expected, node, snapshot)
        error = values.lacks(reach_facts.MEETING_KEY, machine_facts.IDENTITY_KEY)
        if error and not wrong:
            found.append(unknown("hosts", error))
        elif wrong:
            found.append(Finding("hosts", FAIL, node, *wrong))
        else:
            peers = dict.fromkeys(one.host.ssh for _, one, two in calls if two.host.ssh == node)
            what = f"reaches {', '.join(peers)}" if peers else "has its addresses"
            found.append(Finding("hosts", OK, node, what))
    if passing := list(dict.fromkeys(ip for ip, _, _ in calls if ip.startswith("169.254."))):
        names = ",".join(dict.fromkeys(rank.host.ssh for rank in expected.ranks))
        found.append(self_assigned(calls[0][1].host.ssh, passing, names))
    return found


def self_assigned(node: str, addresses: Sequence[str], names: str) -> Finding:
    """One finding for all addresses that interfaces took by themselves (169.254)."""
    what = f"{addresses[0]}{more(addresses)}: self-assigned, will change with the next replug"
    fix = f"inv rdma.discover --hosts {names} --write FILE gives links fixed ones"
    return Finding("address", WARN, node, what, fix)


def twin(node: str, snapshot: Snapshot) -> tuple[str, str] | None:
    """That a node is a machine that another name leads to as well, as (what, fix), or None."""
    key = machine_facts.IDENTITY_KEY
    which = known(snapshot.on(node), key)
    first = next((n for n, values in snapshot.nodes.items() if known(values, key) == which), node)
    if which is None or first == node:
        return None
    return f"{first} and {node} are the same machine", "name it once; -n runs several ranks on it"


def _address_wrong(expected: Expected, node: str, snapshot: Snapshot) -> tuple[str, str] | None:
    """What is wrong with the addresses of a node, or with those that it calls, as (what, fix)."""
    meeting = known(snapshot.on(node), reach_facts.MEETING_KEY)
    for ip, one, two in _calls(expected):
        if one.host.ssh == node:
            if ranks.is_for_itself(ip):
                what = f"{ip} is no address that {two.host.ssh} can reach"
                return what, _own_address(one.host, two.host, snapshot)
            if meeting and meeting.own.get(ip, "bound") == "EADDRNOTAVAIL":
                return f"{ip} is on no interface of {node}", _give(ip, one.host, expected)
    for ip, one, two in _calls(expected):
        said = meeting.of(ip) if meeting and two.host.ssh == node else ""
        if said not in ("", "connected", "ECONNREFUSED"):
            what = f"{ip} of {one.host.ssh} is not reached ({said})"
            return what, _look(ip, one.host, two.host, expected)
    return _link_wrong(expected, node, snapshot)


def _link_wrong(expected: Expected, node: str, snapshot: Snapshot) -> tuple[str, str] | None:
    """The first link over which a node does not reach its other end: a cable was moved, or is cut.

    Where an address is not given yet, or no cable is in, the check of RDMA says so.
    """
    meeting = known(snapshot.on(node), reach_facts.MEETING_KEY)
    for ip, one, two in _links(expected):
        said = meeting.of(ip) if meeting and two.host.ssh == node else ""
        ends = (one.host.ssh, [ip]), (node, two.host.toward(one.host))
        if said not in ("", "connected", "ECONNREFUSED") and all(
            {*addresses} <= _given(name, snapshot) for name, addresses in ends
        ):
            what = f"{ip} of {one.host.ssh} is not reached over their link ({said})"
            return what, "was a cable moved? inv rdma.discover --diff; else inv rdma.ping"
    return None


def _given(node: str, snapshot: Snapshot) -> set[str]:
    interfaces = known(snapshot.on(node), rdma_facts.INTERFACES_KEY) or {}
    return {ip for each in interfaces.values() if each.status == "active" for ip in each.ipv4}


def _look(ip: str, host: Host, other: Host, expected: Expected) -> str:
    """What to do about a host's address that another one does not reach."""
    is_ring = expected.backend == "ring"
    if not _is_link(ip, host):
        # A file of mlx.distributed_config has links' addresses, and tells no links.
        names = ",".join(dict.fromkeys(rank.host.ssh for rank in expected.ranks))
        own = f", or --hosts {names} goes over their own network" if is_ring else ""
        return f"inv hosts.check tells why{own}"
    theirs = host.toward(other)
    if ip in theirs:
        return "inv rdma.ping"
    if theirs and is_ring:
        return f"its link to {other.ssh} has {theirs[0]}: write that in its ips"
    return f"it is of another link: write an address in the ips of {host.ssh} that all hosts reach"


def _is_link(ip: str, host: Host) -> bool:
    return any(ip == str(each.ip) for each in host.link_addresses)


def _give(ip: str, host: Host, expected: Expected) -> str:
    if _is_link(ip, host):
        return ranks.ready([rank.host for rank in expected.ranks])
    return f"correct the ips of {host.ssh} (ifconfig on it tells), or does its name lead elsewhere?"


def _own_address(host: Host, other: Host, snapshot: Snapshot) -> str:
    """Which address to give a host that has only said a loopback one."""
    keyed = {
        name: known(snapshot.on(name), reach_facts.MEETING_KEY) for name in (host.ssh, other.ssh)
    }
    # As the other one sees who asked it, which is this machine; or by which we came to the host.
    seen = keyed[other.ssh] if host.is_local else keyed[host.ssh]
    ip = (seen.client if host.is_local else seen.server) if seen else ""
    whose = "this machine's" if host.is_local else f"{host.ssh}'s"
    if not ip or ":" in ip or ranks.is_for_itself(ip):
        return f'give {whose} address on the network of {other.ssh} as its "ips" in a hostfile'
    return f'give {whose} address: {{"ssh": "{host.ssh}", "ips": ["{ip}"]}} in a hostfile'
