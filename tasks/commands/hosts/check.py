"""Reading and telling for inv hosts.list and hosts.check. Nothing here changes a node."""

from __future__ import annotations

import getpass
import time
from collections.abc import Sequence
from typing import Any

from ...cli import envelope, screen
from ...cluster.checks import FAIL, Finding, host, meeting, rdma
from ...cluster.checks import versions as versions_checks
from ...cluster.cluster import Cluster
from ...cluster.config.ranks import Rank
from ...cluster.errors import CheckFailed
from ...cluster.facts import Fact, known
from ...cluster.facts.links import reach
from ...cluster.facts.machine import clock, firewall, hardware, power, restarts, sudo, versions
from ...cluster.facts.snapshot import Snapshot
from ...cluster.rdma import setup
from ...cluster.server import snapshots
from ...cluster.ssh import auth, nodes
from ...cluster.ssh.connection import Way
from ...cluster.ssh.node import Node
from ..tp import show as telling

TITLES = ("rank", "host", "address", "interfaces", "user", "python", "via")


def show(cluster: Cluster, verbose: bool, as_json: bool) -> None:
    """A row per rank, as the configuration has it; `verbose` adds what ssh makes of each host."""
    by_name = {node.name: node for node in cluster.nodes}
    rows = [_row(rank, by_name[rank.host.ssh]) for rank in cluster.ranks]
    remote = [node for node in cluster.nodes if verbose and not node.host.is_local]
    ways = nodes.each(remote, lambda node: _way(node.way))
    if as_json:
        more = {"ssh": ways} if verbose else {}
        envelope.give({"source": cluster.source, "backend": cluster.backend, "hosts": rows, **more})
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


def _row(rank: Rank, node: Node) -> dict[str, Any]:
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


def check(cluster: Cluster, as_json: bool) -> None:
    """Judge every host; raise CheckFailed or Unreachable where a server could not run."""
    begun = time.time()
    read = snapshots.read(cluster.nodes, lambda node: _facts(cluster, node))
    findings = telling.lost(read) + versions_checks.versions(cluster.expected, read)
    findings += host.judge(read.nodes, begun, time.time())
    twins = {node: meeting.twin(node, read) for node in read.nodes}
    findings += [Finding("machine", FAIL, node, *why) for node, why in twins.items() if why]
    failed = [finding for finding in findings if finding.level == FAIL]
    if as_json:
        found = {node: known(values, versions.KEY) for node, values in read.nodes.items()}
        told = {node: value for node, value in found.items() if value}
        envelope.give({"versions": told}, findings)
    else:
        _print(read, findings)
    telling.unreachable(read)
    if failed:
        raise CheckFailed(f"{len(failed)} of {len(findings)} are not as they should be")


def _facts(cluster: Cluster, node: Node) -> Sequence[Fact[object]]:
    rank = cluster.on(node)[0]
    python, cwd = rank.command[0], rank.cwd
    wanted: list[Fact[object]]
    wanted = [versions.fact(python, cwd), sudo.fact(" ".join(setup.PROBE)), clock.FACT]
    wanted += [power.FACT, restarts.FILEVAULT, restarts.UPDATES, firewall.FACT, hardware.IDENTITY]
    if len(cluster.nodes) > 1:
        peer = cluster.nodes[(list(cluster.nodes).index(node) + 1) % len(cluster.nodes)]
        address = (*cluster.on(peer)[0].host.ips, peer.address)[0]
        wanted.append(reach.fact(python, cwd, address, 22 if peer.host.is_local else peer.login[2]))
    return wanted


def _print(read: Snapshot, findings: Sequence[Finding]) -> None:
    table = host.versions(read.nodes)
    if table:
        screen.table([("", "", *read.nodes), *((level, name, *row) for level, name, row in table)])
    screen.table(telling.rows(findings))
