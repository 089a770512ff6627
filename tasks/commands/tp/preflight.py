"""What inv tp.preflight does: all checks on all nodes at once."""

import sys
import time
from collections.abc import Sequence
from importlib import import_module

from ...cli import envelope, screen
from ...cluster import checks
from ...cluster.checks import FAIL, Finding
from ...cluster.cluster import Cluster
from ...cluster.errors import CheckFailed
from ...cluster.facts.snapshot import Snapshot
from ...cluster.server import snapshots
from ...cluster.ssh import background
from ...cluster.text import counted
from ...session import Session
from ..findings import lost, rows, unreachable


def check(
    session: Session,
    cluster: Cluster,
    skip: Sequence[str],
    is_result: bool = False,
    read: Snapshot | None = None,
) -> Snapshot:
    """Judge every node (by `read`, else read now); raise where no server must be started."""
    if read is None:
        with session.waiting.rows(lambda read: rows(judge(cluster, read, skip))):
            read = snapshots.preflight(cluster, skip)
    findings = judge(cluster, read, skip)
    if not envelope.given({}, findings):
        screen.table(rows(findings), sys.stdout if is_result else sys.stderr)
    failed = [finding for finding in findings if finding.level == FAIL]
    unreachable(read)
    if failed:
        count = counted(len(failed), "check")
        raise CheckFailed(f"preflight: {count} failed, nothing was changed")
    return read


def judge(cluster: Cluster, read: Snapshot, skip: Sequence[str]) -> list[Finding]:
    """The findings of all checks that are not skipped, unreachable nodes first."""
    findings = lost(read)
    for name, check in checks.CHECKS.items():
        if name not in skip:
            findings += check.findings(cluster.expected, read)
    return findings


def run(session: Session, cluster: Cluster, skip: Sequence[str], is_result: bool = False) -> None:
    """All checks; under our lock what was read is kept for the steps that follow."""
    if not is_result and not cluster.leader.host.is_local:
        # For a start, while the nodes are at it; on this machine only the ranks wait for it.
        background.begin(import_module, "requests")
    begun = time.monotonic()
    with session.phase("checks"):
        read = check(session, cluster, skip, is_result)
    session.known(cluster).reading = begun, read
