"""Reading and telling for inv hosts.list and hosts.check. Nothing here changes a node."""

from __future__ import annotations

import getpass
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from . import screen
from . import show as telling
from .cluster import checks, host_checks, nodes, reading, setup
from .cluster.checks import FAIL, Finding
from .cluster.cluster import Cluster
from .cluster.errors import CheckFailed
from .cluster.facts import Fact, clock, firewall, known, power, reach, sudo, versions
from .cluster.nodes import Node
from .cluster.ranks import Rank
from .cluster.snapshot import Snapshot

TITLES = ("rank", "host", "address", "interfaces", "user", "python", "via")


def show(cluster: Cluster, as_json: bool) -> None:
    """A row per rank, as the configuration has it."""
    rows = [_row(rank) for rank in cluster.ranks]
    if as_json:
        screen.document({"source": cluster.source, "backend": cluster.backend, "hosts": rows})
    else:
        screen.table([TITLES, *([str(value or "-") for value in row.values()] for row in rows)])


def _row(rank: Rank) -> dict[str, Any]:
    host, node = rank.host, nodes.of([rank.host])[0]
    names = [name for name, _ in host.links]
    names = names or [each.removeprefix("rdma_") for each in checks.devices(host)]
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
    read = reading.read(cluster.nodes, lambda node: _facts(cluster, node))
    findings = telling.lost(read) + checks.versions(cluster.expected, read)
    findings += host_checks.judge(read.nodes, begun, time.time())
    failed = [finding for finding in findings if finding.level == FAIL]
    if as_json:
        found = {node: known(values, versions.KEY) for node, values in read.nodes.items()}
        told = {node: value for node, value in found.items() if value}
        all_findings = [asdict(each) for each in findings]
        screen.document({"ok": not failed, "versions": told, "findings": all_findings})
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
    wanted += [power.FACT, firewall.FACT]
    if len(cluster.nodes) > 1:
        peer = cluster.nodes[(list(cluster.nodes).index(node) + 1) % len(cluster.nodes)]
        address = (*cluster.on(peer)[0].host.ips, peer.address)[0]
        wanted.append(reach.fact(python, cwd, address, 22 if peer.host.is_local else peer.login[2]))
    return wanted


def _print(read: Snapshot, findings: Sequence[Finding]) -> None:
    table = host_checks.versions(read.nodes)
    if table:
        screen.table([("", "", *read.nodes), *((level, name, *row) for level, name, row in table)])
    screen.table(telling.rows(findings))
