"""What inv hosts.selftest does: ask hosts what we take for granted, tell it, keep samples."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from ...cli import envelope, screen
from ...cluster.cluster import Cluster
from ...cluster.errors import ActionFailed, CheckFailed, Unreachable
from ...cluster.facts import Fact
from ...cluster.facts.snapshot import FactQuery, Snapshot
from ...cluster.hosts import judge, sample, selftest
from ...cluster.hosts.judge import DIFFERS, SelftestRow
from ...cluster.ssh import nodes
from ...cluster.ssh.node import CommandResult, Node
from ...cluster.version import VERSION, WRITER

TIMEOUT = 120  # seconds: of a Mac, importing mlx and system_profiler take most


def run(cluster: Cluster, save: str | None) -> None:
    """Ask all hosts at once; raise Unreachable or CheckFailed where one does, or differs."""
    read = _read(cluster)
    wanted = {node.name: _wanted(cluster, node) for node in cluster.nodes}
    rows = [row for name, said in read.nodes.items() for row in judge.judge(wanted[name], said)]
    if save:
        _save(Path(save).expanduser(), read)
    found = [asdict(row) for row in rows]
    if not envelope.given({"rows": found, "saved": save, "version": VERSION}):
        screen.table([("", "what", "host", "found"), *_told(rows)])
    _raise(read, rows)


def _save(folder: Path, read: Snapshot) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path in sample.write(folder, read):
            screen.say(f"written: {path}")
        (folder / "version.txt").write_text(f"{WRITER}\n", encoding="utf-8")
    except OSError as error:
        raise ActionFailed(f"{folder}: {error.strerror or error}") from None


def _read(cluster: Cluster) -> Snapshot:
    asked = {node.name: _wanted(cluster, node).values() for node in cluster.nodes}
    query = FactQuery.of(cluster.nodes, lambda node: map(selftest.raw, asked[node.name]))

    def ask(node: Node) -> CommandResult:
        sent = selftest.LOCAL if node.host.is_local else selftest.SENT
        return node.sh(query.scripts[node.name], TIMEOUT, env=sent)

    return query.snapshot(nodes.each(cluster.nodes, ask))


def _wanted(cluster: Cluster, node: Node) -> Mapping[str, Fact[object]]:
    rank = cluster.on(node)[0]
    return selftest.wanted(rank.command[0], rank.cwd, cluster.state_dir)


def _told(rows: Sequence[SelftestRow]) -> list[tuple[str, str, str, str]]:
    """Rows of a table, what differs last: a line for all hosts of which the same is true."""
    hosts: dict[tuple[str, str, str], list[str]] = {}
    for row in rows:
        hosts.setdefault((row.state, row.what, row.found), []).append(row.host)
    told = [(state, what, ", ".join(who), found) for (state, what, found), who in hosts.items()]
    return sorted(told, key=lambda row: row[0] == DIFFERS)


def _raise(read: Snapshot, rows: Sequence[SelftestRow]) -> None:
    lost = [
        f"{name}: {why}{remedy and f' ({remedy})'}"
        for name, (why, remedy) in read.unreachable.items()
    ]
    if lost:
        raise Unreachable("; ".join(lost))
    if wrong := [row for row in rows if row.state == DIFFERS]:
        raise CheckFailed(f"{len(wrong)} of {len(rows)} are not as we take them to be")
