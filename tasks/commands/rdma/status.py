"""What inv rdma.status does: a row per node and per end of a link."""

import sys
from collections.abc import Sequence

from ...cli import envelope
from ...cluster.checks import FAIL, Finding
from ...cluster.errors import CheckFailed
from ...cluster.facts.links import rdma, routes
from ...cluster.facts.machine import hardware
from ...cluster.facts.snapshot import Snapshot
from ...cluster.rdma import link_checks
from ...cluster.rdma.links import LinkPlan
from ...cluster.server import snapshots
from ...session import Session
from ..findings import by_node, lost, unreachable
from .addressed import with_interfaces
from .change import print_findings


def run(session: Session, wiring: LinkPlan) -> None:
    """A row per node and per end of a link; raise unless all is as wanted."""
    facts = [*rdma.FACTS, rdma.MATRIX_FACT, routes.FACT, hardware.FACT]
    with session.waiting.rows(lambda read: by_node(_judge(wiring, read))):
        read = snapshots.read(session.nodes(wiring.hosts), lambda node: facts)
    tell("status", read, _judge(wiring, read))


def _judge(wiring: LinkPlan, read: Snapshot) -> list[Finding]:
    wiring = with_interfaces(wiring, read)
    found = [*link_checks.judge(wiring, read.nodes), *link_checks.nameless(wiring, read.nodes)]
    return [*found, *link_checks.self_assigned(wiring)]


def tell(what: str, read: Snapshot, found: Sequence[Finding]) -> None:
    findings = [*lost(read), *found]
    failed = [finding for finding in findings if finding.level == FAIL]
    if not envelope.given({}, findings):
        print_findings(findings, sys.stdout)
    unreachable(read)
    if failed:
        raise CheckFailed(f"{what}: {len(failed)} of {len(findings)} are not as wanted")
