"""Reading and telling for inv hosts.list and hosts.check. Nothing here changes a node."""

import time
from collections.abc import Sequence

from ...cli import envelope, screen
from ...cluster.checks import FAIL, Finding, machine
from ...cluster.checks import hosts as meeting
from ...cluster.checks import versions as versions_checks
from ...cluster.cluster import Cluster
from ...cluster.errors import CheckFailed
from ...cluster.facts import Fact, known
from ...cluster.facts.links import reach
from ...cluster.facts.machine import clock, firewall, hardware, power, restarts, sudo, versions
from ...cluster.facts.snapshot import Snapshot
from ...cluster.rdma.sudo import PROBE
from ...cluster.server import snapshots
from ...cluster.ssh.node import Node
from ...session import Session
from .. import findings as telling

TITLES = ("rank", "host", "address", "interfaces", "user", "python", "via")


def run(session: Session, cluster: Cluster) -> None:
    """Judge every host; raise CheckFailed or Unreachable where a server could not run."""
    begun = time.time()
    with session.waiting.rows(lambda read: telling.rows(_judge(cluster, read, begun))):
        read = snapshots.read(cluster.nodes, lambda node: _facts(cluster, node))
    findings = _judge(cluster, read, begun)
    failed = [finding for finding in findings if finding.level == FAIL]
    found = {node: known(values, versions.KEY) for node, values in read.nodes.items()}
    told = {node: value for node, value in found.items() if value}
    if not envelope.given({"versions": told}, findings):
        _print(read, findings)
    telling.unreachable(read)
    if failed:
        raise CheckFailed(f"{len(failed)} of {len(findings)} are not as they should be")


def _judge(cluster: Cluster, read: Snapshot, begun: float) -> list[Finding]:
    findings = telling.lost(read) + versions_checks.versions(cluster.expected, read)
    findings += machine.judge(read.nodes, begun, time.time())
    twins = {node: meeting.twin(node, read) for node in read.nodes}
    return findings + [Finding("machine", FAIL, node, *why) for node, why in twins.items() if why]


def _facts(cluster: Cluster, node: Node) -> Sequence[Fact[object]]:
    rank = cluster.on(node)[0]
    python, cwd = rank.command[0], rank.cwd
    wanted: list[Fact[object]]
    wanted = [versions.fact(python, cwd), sudo.fact(" ".join(PROBE)), clock.FACT]
    wanted += [power.FACT, restarts.FILEVAULT, restarts.UPDATES, firewall.FACT, hardware.IDENTITY]
    if len(cluster.nodes) > 1:
        peer = cluster.nodes[(list(cluster.nodes).index(node) + 1) % len(cluster.nodes)]
        address = (*cluster.on(peer)[0].host.ips, peer.address)[0]
        wanted.append(reach.fact(python, cwd, address, 22 if peer.host.is_local else peer.login[2]))
    return wanted


def _print(read: Snapshot, findings: Sequence[Finding]) -> None:
    if table := machine.versions(read.nodes):
        screen.table([("", "", *read.nodes), *((level, name, *row) for level, name, row in table)])
    screen.table(telling.rows(findings))
