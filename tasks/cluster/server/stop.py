"""Stopping a server: its engine's signal to rank 0, SIGTERM to what is left, SIGKILL in need."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

from ..cluster import Cluster
from ..facts import Unknown
from ..facts.machine import memory
from ..facts.machine import processes as listed_processes
from ..facts.machine.memory import format_bytes
from ..facts.server import state
from ..facts.snapshot import Snapshot
from ..ssh import nodes, scripts
from ..ssh.node import SCRIPT_TIMEOUT, CommandResult
from . import fence, readiness, snapshots
from .launch import who
from .targets import Target, targets

GRACE = 5.0  # seconds that rank 0 has to take the others along, as measured with both engines
LOOK = 3.0  # seconds between two looks at what a process that does not end still holds
NOISE = 64 * 1024**2  # bytes in a look that say nothing; what unloads a model frees gigabytes
KILL_WAIT = 10.0  # seconds for a killed process to be gone; freeing wired memory takes a while


@dataclass
class StopReport:
    """What was done on one node; `left` are the targets that nothing could end.

    `died` are the ranks that had ended before, with how they did.

    `why` tells why what was `killed` was.
    """

    node: str
    ended: list[str] = field(default_factory=list)
    killed: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    failure: str = ""
    why: str = ""
    died: list[str] = field(default_factory=list)

    @property
    def word(self) -> str:
        if self.failure:
            return "not reached"
        if self.left:
            return "still running"
        if self.killed:
            return "killed"
        if self.ended:
            return "stopped"
        return "had died" if self.died else "nothing ran"

    @property
    def labels(self) -> str:
        """The ranks that its word is of, then those that had died before."""
        found = ", ".join(self.left or [*self.ended, *self.killed])
        died = ", ".join(self.died)
        return f"{found}; {died} had died" if found and died else found or died


@dataclass(frozen=True)
class Held:
    """Bytes that processes which do not end still hold, `own` by (node, pid); `wired` by node."""

    own: Mapping[tuple[str, int], int]
    wired: Mapping[str, int]

    @classmethod
    def parse(cls, answers: Mapping[str, str]) -> Held:
        """What signal.sh says on each node; where a rank's own is not told, there what is wired."""
        own: dict[tuple[str, int], int] = {}
        wired: dict[str, int] = {}
        for node, text in answers.items():
            rows = re.findall(r"^holds (\d{1,9}) (.{1,30})$", text, re.MULTILINE)
            sizes = {(node, int(pid)): memory.read_size(size) for pid, size in rows}
            own |= {key: size for key, size in sizes.items() if size is not None}
            with suppress(ValueError):
                wired[node] = math.prod(memory.vm_stat(text))
        return cls(own, wired)

    def is_less_than(self, before: Held) -> bool:
        """Whether a process has freed memory since, or a node that tells of none of them."""
        told = {node for node, _ in self.own}
        pairs = [(before.own.get(key, 0), now) for key, now in self.own.items()]
        pairs += [
            (before.wired.get(node, 0), now) for node, now in self.wired.items() if node not in told
        ]
        return any(then - now > NOISE for then, now in pairs)


def stop(
    cluster: Cluster,
    order: str = "leader",
    force: bool = False,
    timeout: float | None = None,
    run: str | None = None,
    read: Snapshot | None = None,
    tell: Callable[[str], object] = lambda text: None,
    everything: bool = False,
) -> list[StopReport]:
    """Stop every rank of ours on the cluster's nodes; one report per node.

    With `everything` also each server of the engine that is there, whoever started it.

    `order` "leader" signals rank 0 first and the others after a short grace, "all" signals all
    at once; `force` goes straight to SIGKILL. That waits while memory of what is left still falls,
    but for who gives `timeout` or `force`. With `run` only that start's ranks are stopped. `read`
    is what runs, where it has just been read; `tell` gets a line before each wait. A node that
    can't be reached delays no other.
    """
    read = read or snapshots.alive(cluster)
    reports = _reports(cluster, read, run)
    left = found = targets(cluster, read, run, everything)
    seconds = cluster.stop_timeout if timeout is None else timeout
    why = "--force" if force else f"not ended within {seconds:g} s"
    if left and not force:
        tell(f"stopping {_labels(left)}")
        left, held = _end(cluster, left, order, time.monotonic() + seconds, reports)
        if timeout is None:
            left = _unload(cluster, left, held, reports, tell)
    if left:
        risk = ": what it has wired may stay so until a reboot" if force or timeout else ""
        tell(f"SIGKILL to {_labels(left)}{risk}")
        left = _signal(cluster, left, left, "KILL", KILL_WAIT, reports)[0]
    for target in left:
        reports[target.node].left.append(f"{target.label} (pid {target.pid})")
    _look_again(cluster, reports, found, run, everything)
    return [replace(each, why=why) if each.killed else each for each in reports.values()]


def _reports(cluster: Cluster, read: Snapshot, run: str | None) -> dict[str, StopReport]:
    """A report per node, with what is unknown of it, and the ranks that had died before."""
    reports = {node.name: StopReport(node.name) for node in cluster.nodes}
    for name, why in _unknown(read).items():
        reports[name].failure = why
    for name, rank in read.ranks:
        is_it = run is None or (rank.record and rank.record.run == run)
        if is_it and rank.pid and not rank.alive and name in reports:
            how = readiness.how_ended(read, name, rank)
            reports[name].died.append(f"rank {rank.rank} ({how})")
    return reports


def _end(
    cluster: Cluster,
    found: list[Target],
    order: str,
    deadline: float,
    reports: dict[str, StopReport],
) -> tuple[list[Target], Held]:
    """Have all end in order, until the deadline: what is left, and what that holds."""
    left, held = found, Held({}, {})
    first = [target for target in left if target.is_leader or order != "leader"]
    leads = next((target.signal for target in left if target.is_leader), "TERM")
    if first and (order == "leader" or leads != "TERM"):
        grace = min(GRACE, _until(deadline) / 2)
        left, held = _signal(cluster, left, first, leads, grace, reports)
    if left:
        left, held = _signal(cluster, left, left, "TERM", _until(deadline), reports)
    return left, held


def _unload(
    cluster: Cluster,
    left: list[Target],
    held: Held,
    reports: dict[str, StopReport],
    tell: Callable[[str], object],
) -> list[Target]:
    """Wait while what is left still frees memory: killed meanwhile, it would strand the rest."""
    end = time.monotonic() + cluster.unload_limit
    while left and time.monotonic() < end:
        before = held
        left, held = _signal(cluster, left, [], "0", min(LOOK, _until(end)), reports)
        if not left or not held.is_less_than(before):
            break
        size = format_bytes(sum(held.own.values())) if held.own else "what is wired"
        tell(f"waiting for {_labels(left)}: memory still falls ({size})")
    return left


def _labels(found: Sequence[Target]) -> str:
    return ", ".join(f"{target.label} on {target.node}" for target in found)


def _unknown(read: Snapshot) -> dict[str, str]:
    """Why it is unknown what runs, for each node of which it is."""
    found = {name: f"{why}: {fix}" if fix else why for name, (why, fix) in read.unreachable.items()}
    for name, values in read.nodes.items():
        for unknown in (values.get(state.KEY), values.get(listed_processes.KEY)):
            if isinstance(unknown, Unknown):
                found[name] = unknown.why
    return found


def _look_again(
    cluster: Cluster,
    reports: Mapping[str, StopReport],
    found: Sequence[Target],
    run: str | None,
    everything: bool,
) -> None:
    """A node lost while its ranks were stopped may be back, and nothing of them left there."""
    if not (lost := [target for target in found if reports[target.node].failure]):
        return
    read = snapshots.alive(cluster, [target.node for target in lost])
    left = targets(cluster, read, run, everything)
    here = {target.node for target in left} | {*_unknown(read)}
    for target in lost:
        report = reports[target.node]
        if target.node not in here:
            report.failure = ""
            report.ended += [target.label] if target.label not in report.ended else []


def forget(cluster: Cluster, reports: Sequence[StopReport], run: str | None = None) -> None:
    """Remove the records (of `run`) where nothing is left of it; the SIGKILL stamp stays.

    A rank that lives, since a script that was held up has started it meanwhile, stays known.
    """
    fence.check(nodes.sh(cluster.nodes, forget_scripts(cluster, reports, run)))


def forget_scripts(
    cluster: Cluster, reports: Sequence[StopReport], run: str | None = None, keep: bool = False
) -> dict[str, str]:
    """What `forget` runs, by node; `keep` lets them keep values for the next start."""
    clean = [report.node for report in reports if not report.left and not report.failure]
    text = scripts.script(
        "stop/forget.sh",
        **cluster.where,
        **fence.values(cluster),
        run=run or "",
        who=who(),
        keep="1" if keep else "",
    )
    return dict.fromkeys(clean, text)


def _until(deadline: float) -> float:
    return max(deadline - time.monotonic(), 0.0)


def _signal(
    cluster: Cluster,
    waited: Sequence[Target],
    signalled: Sequence[Target],
    name: str,
    seconds: float,
    reports: dict[str, StopReport],
) -> tuple[list[Target], Held]:
    """Signal some targets, wait for all of them, note what ended; what is left, what it holds."""
    nodes_in = {target.node for target in waited}
    texts = {
        node: script(
            cluster,
            [target for target in waited if target.node == node],
            [target for target in signalled if target.node == node],
            name,
            seconds,
        )
        for node in nodes_in
    }
    answers = nodes.sh(cluster.nodes, texts, seconds + SCRIPT_TIMEOUT)
    fence.check(answers)
    left = []
    for target in waited:
        if _is_left(answers[target.node], target):
            left.append(target)
        else:
            report = reports[target.node]
            (report.killed if name == "KILL" else report.ended).append(target.label)
    for node in nodes_in:
        # It ends with 0 whatever is left: else it has signalled nothing, and says why (no perl).
        if answers[node].failure or answers[node].status:
            reports[node].failure = answers[node].why
    left = [target for target in left if not reports[target.node].failure]
    return left, Held.parse({node: answers[node].out for node in nodes_in})


def _is_left(answer: CommandResult, target: Target) -> bool:
    if answer.failure:
        return True
    last = answer.out.strip().splitlines()[-1:] or [""]
    return str(target.pid) in last[0].split()[1:] if last[0].startswith("left") else True


def script(
    cluster: Cluster,
    waited: Sequence[Target],
    signalled: Sequence[Target],
    name: str,
    seconds: float,
) -> str:
    """Signals each of `signalled` that is still itself, then waits for `waited` to be gone.

    Its last line is "left" and the pids that are not. After SIGKILL it leaves the stamp by which
    the next start knows to wait.
    """
    words: list[str] = []
    for target in waited:
        words += ["yes" if target in signalled else "no", str(target.pid), *target.same]
    rdma = any(target.has_rdma for target in signalled)
    return scripts.script(
        "stop/signal.sh",
        words,
        **cluster.where,
        **fence.values(cluster),
        who=who(),
        signal=name,
        looks=int(seconds * 20),
        rdma="1" if rdma else "",
    )
