"""What inv hosts.list does: which hosts there are; none is asked."""

import getpass

from ...cli import envelope, screen
from ...cluster.checks import rdma
from ...cluster.cluster import Cluster
from ...cluster.config.ranks import Rank
from ...cluster.ssh import auth, nodes
from ...cluster.ssh.connection import Way
from ...cluster.ssh.node import Node
from .check import TITLES


def run(cluster: Cluster, verbose: bool) -> None:
    """A row per rank, as the configuration has it; `verbose` adds what ssh makes of each host."""
    by_name = {node.name: node for node in cluster.nodes}
    rows = [_row(rank, by_name[rank.host.ssh]) for rank in cluster.ranks]
    remote = [node for node in cluster.nodes if verbose and not node.host.is_local]
    ways = nodes.each(remote, lambda node: _way(node.way))
    about = {"source": cluster.source, "backend": cluster.backend, "hosts": rows}
    if envelope.given({**about, "ssh": ways} if verbose else about):
        return
    screen.table([TITLES, *([str(value or "-") for value in row.values()] for row in rows)])
    for name, way in ways.items():
        shown = {key: ", ".join(value) for key, value in way.items() if value}
        screen.table([(name, key, value) for key, value in shown.items()])


def _way(way: Way) -> dict[str, list[str]]:
    """What ssh -G made of a host: where it leads, and what is tried there, in this order."""
    found = way.resolved
    login = auth.Login(found)
    offers = list(login.offers())
    login.close()
    return {
        "address": [f"{found.user}@{found.hostname}:{found.port}"],
        "by way of": _gateways(way),
        "keys": [f"{each.label}{each.problem and f' ({each.problem})'}" for each in offers],
        "known hosts": [str(path) for path in found.files("userknownhostsfile") if path.is_file()],
        "passed over": found.unsupported,
    }


def _gateways(way: Way) -> list[str]:
    if not isinstance(way.gateway, Way):
        return [way.gateway] if way.gateway else []
    hop = way.gateway.resolved
    return [*_gateways(way.gateway), f"{hop.user}@{hop.hostname}:{hop.port}"]


def _row(rank: Rank, node: Node) -> dict[str, object]:
    host = rank.host
    names = [name for name, _ in host.links]
    names = names or [each.removeprefix("rdma_") for each in rdma.devices(host)]
    user, port = (getpass.getuser(), 22) if host.is_local else node.login[1:]
    return {
        "rank": str(rank.rank),
        "host": host.ssh,
        "address": host.ips[0] if host.ips else node.address,
        "interfaces": ",".join(names),
        "user": user if port == 22 else f"{user} (port {port})",
        "python": rank.command[0],
        "via": host.gateway,
    }
