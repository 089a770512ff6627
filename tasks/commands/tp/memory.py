"""What inv tp.memory does: what is wired on every node, and what has leaked."""

from ...cli import envelope, screen
from ...cluster.checks import FAIL, Finding
from ...cluster.checks import memory as memory_checks
from ...cluster.cluster import Cluster
from ...cluster.errors import CheckFailed
from ...cluster.facts import known
from ...cluster.facts.machine import memory as memories
from ...cluster.facts.snapshot import Snapshot
from ...cluster.server import snapshots
from ...session import Session
from ..findings import by_node, unreachable


def run(session: Session, cluster: Cluster) -> None:
    """Wired memory per node against the limit."""

    def judged(read: Snapshot) -> list[Finding]:
        return memory_checks.memory(cluster.expected, read)

    with session.waiting.rows(lambda read: by_node(judged(read))):
        read = snapshots.running(cluster)
    findings = judged(read)
    findings += [Finding("memory", FAIL, node, *why) for node, why in read.unreachable.items()]
    if not envelope.given({"nodes": _sizes(read)}, findings):
        screen.table(by_node(findings))
    unreachable(read)
    if failed := [finding for finding in findings if finding.level == FAIL]:
        raise CheckFailed(f"memory: {failed[0].node}: {failed[0].what}")


def _sizes(read: Snapshot) -> dict[str, dict[str, int | None]]:
    """Node -> its memory in bytes, as far as it is known; `baseline` is this boot's before ours."""
    found = {}
    for node, values in read.nodes.items():
        memory, state = known(values, memories.KEY), read.state(node)
        found[node] = {
            "wired": memory.wired if memory else None,
            "total": memory.total if memory else None,
            "baseline": state.baseline if state else None,
        }
    return found
