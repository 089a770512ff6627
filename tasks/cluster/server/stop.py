"""Stopping a server: its engine's signal to rank 0, SIGTERM to what is left, SIGKILL in need."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

from ..checks.servers import servers, strange_ranks, unrecorded
from ..cluster import Cluster
from ..facts import NodeFacts, Unknown, known
from ..facts.machine import memory, ports
from ..facts.machine import processes as listed_processes
from ..facts.machine.memory import in_words
from ..facts.machine.processes import Process, mark
from ..facts.server import state
from ..facts.server.state import RankState
from ..facts.snapshot import Snapshot
from ..ssh import nodes, scripts
from ..ssh.node import SCRIPT_TIMEOUT, Answer
from . import fence, snapshots
from .launch import who

GRACE = 5.0  # seconds that rank 0 has to take the others along, as measured with both engines
LOOK = 3.0  # seconds between two looks at what a process that does not end still holds
NOISE = 64 * 1024**2  # bytes in a look that say nothing; what unloads a model frees gigabytes
KILL_WAIT = 10.0  # seconds for a killed process to be gone; freeing wired memory takes a while


@dataclass(frozen=True)
class Target:
    """A process to stop; `same` is how it is known that it is still the one that was seen.

    `signal` is what it ends by in order, if it leads.

    That is ("start", its boot, its start), ("child", its boot, its command line) or ("command",
    "", its command line).
    """

    node: str
    pid: int
    label: str
    same: tuple[str, str, str]
    is_leader: bool = False
    has_rdma: bool = False
    signal: str = "TERM"


@dataclass
class Stopped:
    """What was done on one node; `left` are the targets that nothing could end.

    `why` tells why what was `killed` was.
    """

    node: str
    ended: list[str] = field(default_factory=list)
    killed: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    failure: str = ""
    why: str = ""

    @property
    def word(self) -> str:
        if self.failure:
            return "not reached"
        if self.left:
            return "still running"
        if self.killed:
            return "killed"
        return "stopped" if self.ended else "nothing ran"


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
) -> list[Stopped]:
    """Stop every rank of ours on the cluster's nodes; one report per node.

    With `everything` also each server of the engine that is there, whoever started it.

    `order` "leader" signals rank 0 first and the others after a short grace, "all" signals all
    at once; `force` goes straight to SIGKILL. That waits while memory of what is left still falls,
    but for who gives `timeout` or `force`. With `run` only that start's ranks are stopped. `read`
    is what runs, where it has just been read; `tell` gets a line before each wait. A node that
    can't be reached delays no other.
    """
    read = read or snapshots.alive(cluster)
    reports = {node.name: Stopped(node.name) for node in cluster.nodes}
    for name, why in _unknown(read).items():
        reports[name].failure = why
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


def _end(
    cluster: Cluster, found: list[Target], order: str, deadline: float, reports: dict[str, Stopped]
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
    reports: dict[str, Stopped],
    tell: Callable[[str], object],
) -> list[Target]:
    """Wait while what is left still frees memory: killed meanwhile, it would strand the rest."""
    end = time.monotonic() + cluster.unload_limit
    while left and time.monotonic() < end:
        before = held
        left, held = _signal(cluster, left, [], "0", min(LOOK, _until(end)), reports)
        if not left or not held.is_less_than(before):
            break
        size = in_words(sum(held.own.values())) if held.own else "what is wired"
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
    reports: Mapping[str, Stopped],
    found: Sequence[Target],
    run: str | None,
    everything: bool,
) -> None:
    """A node lost while its ranks were stopped may be back, and nothing of them left there."""
    lost = [target for target in found if reports[target.node].failure]
    if not lost:
        return
    read = snapshots.alive(cluster, [target.node for target in lost])
    left = targets(cluster, read, run, everything)
    here = {target.node for target in left} | {*_unknown(read)}
    for target in lost:
        report = reports[target.node]
        if target.node not in here:
            report.failure = ""
            report.ended += [target.label] if target.label not in report.ended else []


def targets(
    cluster: Cluster, read: Snapshot, run: str | None = None, everything: bool = False
) -> list[Target]:
    """What there is to stop: recorded ranks by pid and start, others by their command line.

    Others are ranks that are ours without a record; with `everything` all servers of the engine.
    """
    found = []
    met = frozenset(port for _, r in read.ranks if r.record for port in r.record.ports)
    for node, values in read.nodes.items():
        processes = known(values, listed_processes.KEY) or {}
        here = [rank for where, rank in read.ranks if where == node and _is_of(rank, run)]
        ours = {rank.pid: rank for rank in here if rank.pid}
        recorded = {pid: r for pid, r in ours.items() if r.alive}
        # A pid that is a process again is a stranger's, and so is its group.
        dead = {pid: r for pid, r in ours.items() if not r.alive and pid not in processes}
        listed = {} if run else unrecorded(cluster.expected, values, met)
        if everything:
            listed = {**servers(cluster.engine, values), **listed}
        for pid, label in {**dict.fromkeys(recorded, ""), **listed}.items():
            if pid in recorded:
                found.append(_recorded(cluster, node, recorded[pid]))
            else:
                same = _same_command(processes[pid].command)
                leads = _holds_port(values, pid, cluster.http_port)
                more = cluster.has_rdma, cluster.engine.stop_signal
                found.append(Target(node, pid, label, same, leads, *more))
        seen = {target.pid for target in found if target.node == node}
        children = _children(node, {**recorded, **dead}, processes)
        children += _marked(node, here, processes)
        found += {t.pid: t for t in reversed(children) if t.pid not in seen}.values()
    return found


def _is_of(rank: RankState, run: str | None) -> bool:
    return not run or (rank.record is not None and rank.record.run == run)


@dataclass(frozen=True)
class Stranger:
    """What is not ours and was left: `port` is one of ours that it holds, or None."""

    node: str
    pid: int
    user: str
    since: str
    port: int | None
    command: str

    def __str__(self) -> str:
        who = ", ".join(
            filter(None, (f"pid {self.pid}" if self.pid else "", self.user, self.since))
        )
        port = f" holds port {self.port}:" if self.port else ""
        return f"{self.node}: {who}{port} {self.command}".rstrip()


_KEYS = re.compile(r"(--[\w-]*(?:key|token|secret|password)[ =])\S+", re.IGNORECASE)


def strangers(cluster: Cluster, read: Snapshot, after: Snapshot) -> list[Stranger]:
    """Who holds a port of ours, and which servers and ranks run, where all of ours are gone.

    Our ports are those of the ranks recorded in `read`, else those that the cluster would take.
    """
    found = []
    for node, values in after.nodes.items():
        processes = known(values, listed_processes.KEY) or {}
        here = [r.record for where, r in read.ranks if where == node and r.record]
        ours = {port for r in here for port in (*r.ports, *([r.port] if r.rank == 0 else []))}
        taken = known(values, ports.KEY) or {}
        held = {
            (holder.pid, holder.pid and holder.program): port
            for port in ours or cluster.expected.ports_on(node)
            for holder in taken.get(port, ())
        }
        others = {*servers(cluster.engine, values)} - {pid for pid, _ in held}
        others |= {each.pid for each in strange_ranks(processes, values)} - {p for p, _ in held}
        for (pid, program), port in held.items():
            found.append(_stranger(node, pid, processes.get(pid), port, str(program or "")))
        found += [_stranger(node, pid, processes.get(pid), None) for pid in sorted(others)]
    return found


def shown(process: Process) -> str:
    """Its command line, cut, without what its name says is a secret."""
    return _KEYS.sub(r"\1***", process.command)[:160]


def _stranger(
    node: str, pid: int, process: Process | None, port: int | None, program: str = ""
) -> Stranger:
    command = shown(process) if process else program
    user = process.user if process else "" if pid else "another user's process"
    since = f"since {process.since}" if process and process.since else ""
    return Stranger(node, pid, user, since, port, command)


def forget(cluster: Cluster, reports: Sequence[Stopped], run: str | None = None) -> None:
    """Remove the records (of `run`) where nothing is left of it; the SIGKILL stamp stays.

    A rank that lives, since a script that was held up has started it meanwhile, stays known.
    """
    fence.check(nodes.sh(cluster.nodes, forget_scripts(cluster, reports, run)))


def forget_scripts(
    cluster: Cluster, reports: Sequence[Stopped], run: str | None = None, keep: bool = False
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


def _recorded(cluster: Cluster, node: str, rank: RankState) -> Target:
    same, record = ("start", rank.boot, rank.start), rank.record
    has_rdma = record.backend.startswith("jaccl") if record else cluster.has_rdma
    engine = cluster.engine_named(record.engine) if record else cluster.engine
    name = engine.stop_signal if engine else "TERM"
    return Target(node, rank.pid or 0, f"rank {rank.rank}", same, rank.rank == 0, has_rdma, name)


def _same_command(command: str) -> tuple[str, str, str]:
    return "command", "", " ".join(command.split())


def _children(
    node: str, recorded: Mapping[int, RankState], processes: Mapping[int, Process]
) -> list[Target]:
    """What a rank has started and left in its process group; the group's id is the rank's pid."""
    found = []
    for pid, process in processes.items():
        if pid != process.pgid and process.pgid in recorded:
            rank = recorded[process.pgid]
            same = ("child", rank.boot, _same_command(process.command)[2])
            found.append(Target(node, pid, f"child of rank {rank.rank}", same))
    return found


def _marked(
    node: str, ranks: Sequence[RankState], processes: Mapping[int, Process]
) -> list[Target]:
    """What has a rank's mark in its environment, whatever group or session it went to."""
    marks = {mark(rank.record.run, rank.rank): rank for rank in ranks if rank.record}
    return [
        Target(
            node,
            pid,
            f"child of rank {marks[process.mark].rank}",
            _same_command(process.command),
        )
        for pid, process in processes.items()
        if process.mark in marks
    ]


def _holds_port(values: NodeFacts, pid: int, port: int) -> bool:
    holders = known(values, ports.KEY) or {}
    return any(holder.pid == pid for holder in holders.get(port, ()))


def _until(deadline: float) -> float:
    return max(deadline - time.monotonic(), 0.0)


def _signal(
    cluster: Cluster,
    waited: Sequence[Target],
    signalled: Sequence[Target],
    name: str,
    seconds: float,
    reports: dict[str, Stopped],
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
        if answers[node].failure:
            reports[node].failure = str(answers[node].failure)
    left = [target for target in left if not reports[target.node].failure]
    return left, Held.parse({node: answers[node].out for node in nodes_in})


def _is_left(answer: Answer, target: Target) -> bool:
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
