"""How a server does, in one word: a function of records, marks, processes and what was asked. Pure.

mlx_lm.server answers its health page before a byte of the model is read, and no HTTP at all while
it generates: only a token proves anything, and no answer in time proves nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..facts.machine.memory import format_bytes
from ..known_errors.hints import describe_exit
from ..text import ago, few

if TYPE_CHECKING:
    from ..facts.server.state import RankState
    from ..facts.snapshot import Snapshot

STARTING, JOINING, LOADING, READY = "starting", "joining", "loading", "ready"
DEGRADED, DEAD, UNASKED, STOPPED = "degraded", "dead", "unasked", "stopped"
UNKNOWN = "unknown"  # a node gives no answer
COMING = (STARTING, JOINING, LOADING)
FAILED = (DEGRADED, DEAD)
BUSY_AFTER = 60.0  # seconds without a token: until then the next look may just not be due


@dataclass(frozen=True)
class Health:
    """`state` is one of the words above, `why` what there is to say of it."""

    state: str
    why: str = ""

    def __str__(self) -> str:
        return f"{self.state}: {self.why}" if self.why else self.state


@dataclass(frozen=True)
class ProbeResult:
    """What asking for a token gave of late.

    `token` is seconds since the last one; `refused` is why a completion failed though the server
    answered (empty: none did, or it gave no answer in time), `unasked` why it can't be asked.
    """

    token: float = 0.0
    refused: str = ""
    unasked: str = ""


def judge(
    read: Snapshot, size: int, probe: ProbeResult = ProbeResult(), patience: float = float("inf")
) -> Health:
    """The server of `size` ranks; `patience` is how long one that gives no token counts as busy."""
    if read.unreachable:
        return Health(UNKNOWN, _words({n: why for n, (why, _) in read.unreachable.items()}))
    if unread := [node for node in read.nodes if read.state(node) is None]:
        return Health(UNKNOWN, f"{unread[0]}: its state can't be read")
    if not read.ranks:
        return _stopped(read)
    was_ready = _was_ready(read)
    if gone := _gone(read):
        lives = any(rank.alive for _, rank in read.ranks)
        return Health(DEGRADED if was_ready and lives else DEAD, gone)
    if len(read.ranks) < size:
        why = f"only {len(read.ranks)} of {size} ranks are recorded"
        return Health(DEGRADED if was_ready else STARTING, why)
    if probe.unasked:
        return Health(UNASKED, f"running, can't be asked: {probe.unasked}")
    return _serving(probe, patience) if was_ready else _coming(read.ranks)


def size(read: Snapshot, default: int) -> int:
    """How many ranks the recorded server has."""
    records = [rank.record for _, rank in read.ranks if rank.record]
    return records[0].size if records else default


def loaded(ranks: Sequence[tuple[str, RankState]]) -> tuple[int, int] | None:
    """Bytes of the weights that all ranks have read, and that they will read; None if unknown.

    One that has told nothing yet will read as much as the others do.
    """
    if not (found := [rank.marks.loading for _, rank in ranks if rank.marks.loading]):
        return None
    return sum(m.bytes for m in found), sum(m.of for m in found) * len(ranks) // len(found)


def _stopped(read: Snapshot) -> Health:
    states = [read.state(node) for node in read.nodes]
    wanted = next((s.wanted for s in states if s and s.wanted), None)
    if wanted and wanted.state == STOPPED:
        return Health(STOPPED, f"by {wanted.by}")
    return Health(STOPPED, "no server is recorded")


def _was_ready(read: Snapshot) -> bool:
    node, first = read.ranks[0]
    state = read.state(node)
    return bool(state and first.record and state.ready == first.record.run)


def _gone(read: Snapshot) -> str:
    """The ranks that have ended; one without a pid is about to be started."""
    gone = [(node, rank) for node, rank in read.ranks if rank.pid and not rank.alive]
    dead = {f"rank {r.rank} on {n}": describe_exit(r.exit) for n, r in gone if not r.booted}
    booted = {node: f"{node} was {how_ended(read, node, r)}" for node, r in gone if r.booted}
    return "; ".join([*booted.values(), *([f"died: {_words(dead)}"] if dead else [])])


def how_ended(read: Snapshot, node: str, rank: RankState) -> str:
    """What became of a rank that lives no more: its exit status, or its node's reboot."""
    state = read.state(node)
    if rank.booted is None or state is None:
        return describe_exit(rank.exit)
    return f"rebooted {ago(state.now - rank.booted)} ago"


def suspended(read: Snapshot) -> str:
    """The ranks that something has stopped for a while, and how they go on; "" if there are none.

    All wait for such a rank, and nothing else tells it from a server that is slow.
    """
    found = [(node, rank) for node, rank in read.ranks if rank.suspended]
    names = ", ".join(f"rank {rank.rank} on {node}" for node, rank in found)
    fix = "; ".join(f"kill -CONT {rank.pid} on {node}" for node, rank in found)
    return f"suspended: {names}; {fix} lets it go on" if found else ""


def _serving(probe: ProbeResult, patience: float) -> Health:
    if probe.refused:
        return Health(DEGRADED, f"all ranks live, but there is no token: {probe.refused}")
    if probe.token > patience:
        return Health(DEGRADED, f"all ranks live, but no token for {probe.token:.0f} s")
    return Health(READY, f"no token for {probe.token:.0f} s" if probe.token > BUSY_AFTER else "")


def _coming(ranks: Sequence[tuple[str, RankState]]) -> Health:
    """One that has given no token yet: how far its ranks are by their marks."""
    marked = [(node, rank) for node, rank in ranks if rank.record and rank.record.entry]
    late = [node for node, rank in ranks if not rank.pid]
    late += [node for node, rank in marked if rank.pid and not rank.marks.meeting]
    if late := list(dict.fromkeys(late)):
        return Health(STARTING, f"{few(late, 4)} still import{'s' * (len(late) == 1)}")
    if not all(rank.marks.joined for _, rank in marked):
        return Health(JOINING, f"all {len(ranks)} ranks meet" if len(ranks) > 1 else "")
    if not marked:
        return Health(LOADING, "group size not checked" if len(ranks) > 1 else "")
    if not (bytes_ := loaded(ranks)):
        return Health(LOADING)
    read, of = (total / len(ranks) for total in bytes_)
    share = f"{100 * read / of:.0f} %, " if of else ""
    return Health(LOADING, f"{share}{format_bytes(int(read))} of {format_bytes(int(of))} per rank")


def _words(reasons: Mapping[str, str]) -> str:
    return ", ".join(f"{name} ({why})" for name, why in reasons.items())
