"""What inv tp.audit does: who has done what to the nodes."""

from dataclasses import asdict

from ...cli import envelope, screen
from ...cluster.cluster import Cluster
from ...cluster.errors import CheckFailed
from ...cluster.facts import Unknown
from ...cluster.server import audit_log as audit
from ...cluster.server import snapshots
from ..findings import unreachable


def run(cluster: Cluster, lines: int) -> None:
    """The last actions of all nodes by time, a row each with the nodes that it was on."""
    read = snapshots.read(cluster.nodes, lambda node: [audit.fact(cluster.state_dir, lines)])
    found = audit.merged(read.nodes, lines)
    told = {node: each.get(audit.KEY) for node, each in read.nodes.items()}
    unread = {node: each.why for node, each in told.items() if isinstance(each, Unknown)}
    lost_nodes = {node: ": ".join(filter(None, why)) for node, why in read.unreachable.items()}
    actions = [{**asdict(entry), "nodes": names} for entry, names in found]
    if not envelope.given({"actions": actions, "unreachable": {**lost_nodes, **unread}}):
        rows = [(e.outcome, e.time, ",".join(names), e.who, e.what) for e, names in found]
        rows += [("not reached", "", node, why, "") for node, why in lost_nodes.items()]
        screen.table([*rows, *(("unknown", "", node, why, "") for node, why in unread.items())])
    unreachable(read)
    if unread:
        raise CheckFailed(f"{', '.join(unread)}: the audit log can't be read")
