"""Facts -> findings. Pure: what a node said is judged here, and unknown is never ok."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .engine import Engine
from .facts import Fact, Unknown, known
from .facts.memory import GIB, Memory
from .facts.processes import Process, mark
from .facts.rdma import MATRIX, Device
from .ranks import Rank
from .state import State

if TYPE_CHECKING:
    from .hostfile import Host

OK, WARN, FAIL = "ok", "warn", "fail"
REBOOT = "reboot it: nothing else frees it"
LEAK = 0.1  # of a node's memory: more than a graceful exit leaves (5 GiB of 512, omlx#2184)


@dataclass(frozen=True)
class Finding:
    """What a check found: `level` is ok, warn or fail; `fix` says what to do about it."""

    check: str
    level: str
    node: str
    what: str
    fix: str = ""


@dataclass(frozen=True)
class Wanted:
    """What the facts are judged against; sizes in bytes, times in seconds."""

    ranks: Sequence[Rank]
    backend: str
    engine: Engine
    http_port: int
    model: str | None
    wired_limit: int
    cooldown: float
    state_dir: str = "~/.mlx-tp"

    @property
    def is_rdma(self) -> bool:
        return self.backend.startswith("jaccl")

    @property
    def meeting_ports(self) -> frozenset[int]:
        """The ports of the coordinator or of the ring, on whatever node."""
        return frozenset(port for rank in self.ranks for port in rank.ports)

    def on(self, node: str) -> list[Rank]:
        return [rank for rank in self.ranks if rank.host.ssh == node]

    def ports_on(self, node: str) -> dict[int, str]:
        """Each port that must be free on a node, and what it is for ("rank" or "HTTP")."""
        ranks = self.on(node)
        needed = {port: "rank" for rank in ranks for port in rank.ports}
        if any(rank.rank == 0 for rank in ranks):
            needed[self.http_port] = "HTTP"
        return needed


Facts = Mapping[str, Any]
Check = Callable[[Wanted, Mapping[str, Facts]], "list[Finding]"]


def memory(wanted: Wanted, facts: Mapping[str, Facts]) -> list[Finding]:
    """Wired memory that a killed server left behind; only a reboot frees it."""

    def judge(node: str, value: Memory) -> Finding:
        what = f"{value.wired / GIB:.1f} of {value.total / GIB:.0f} GiB wired"
        if value.wired > wanted.wired_limit:
            limit = f" (limit {wanted.wired_limit / GIB:.0f} GiB)"
            return Finding("memory", FAIL, node, what + limit, REBOOT)
        leak = leaked(wanted, facts[node])
        if leak > LEAK * value.total:
            share = f"{leak / GIB:.1f} GiB ({leak / value.total:.0%}) more"
            what = f"{what}: {share} than before this boot's first start"
            return Finding("memory", FAIL, node, what, REBOOT)
        return Finding("memory", OK, node, what)

    return each("memory", facts, "memory", judge)


def leaked(wanted: Wanted, facts: Facts) -> int:
    """Bytes wired now over the baseline; 0 while a server runs, or where it is unknown."""
    state: State | None = known(facts, "state")
    value: Memory | None = known(facts, "memory")
    if not state or not value or state.baseline is None or servers(wanted.engine, facts):
        return 0
    return max(value.wired - state.baseline, 0)


def processes(wanted: Wanted, facts: Mapping[str, Facts]) -> list[Finding]:
    """Ranks of ours, ranks that no record knows, and servers that someone else started."""

    def judge(node: str, values: Mapping[int, Process]) -> Finding:
        found = {**recorded(facts[node]), **unrecorded(wanted, facts[node])}
        if found:
            names = ", ".join(f"{label} (pid {pid})" for pid, label in sorted(found.items()))
            return Finding(
                "processes", FAIL, node, f"already runs: {names}", "stop it: inv tp.stop"
            )
        ranks = strange_ranks(values, facts[node])
        blocking = [each for each in ranks if not each.mark or (each.is_rdma and wanted.is_rdma)]
        if blocking:
            return Finding("processes", FAIL, node, *_blocked(wanted, blocking))
        single = servers(wanted.engine, facts[node])
        if single:
            fix = "it shares the memory; inv tp.stop leaves it, --all ends it"
            return Finding("processes", WARN, node, f"also runs: {_named(single)}", fix)
        return Finding("processes", OK, node, "no server runs")

    unknown = each("processes", facts, "state", lambda node, value: None)
    return unknown + each("processes", facts, "processes", judge)


def _named(found: Mapping[int, str]) -> str:
    return ", ".join(f"{label} (pid {pid})" for pid, label in sorted(found.items()))


def _blocked(wanted: Wanted, found: Sequence[Process]) -> tuple[str, str]:
    """What and fix for ranks that are not ours, and in our way."""
    first = found[0]
    whose = "of another cluster" if first.mark else "that no record knows"
    what = f"rank {first.rank} {whose} runs (pid {first.pid}, {first.user or 'user unknown'})"
    what += f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    skip = "or --skip processes"
    if not first.is_own:
        return what, f"ask {first.user or 'its user'}, {skip}"
    if wanted.engine.is_server(first.program, first.command):
        return what, f"inv tp.stop --all, {skip}"
    return what, f"end it on that node, {skip}"


def recorded(facts: Facts) -> dict[int, str]:
    """Pid -> what it is, for each recorded rank of a node that lives."""
    state = facts.get("state")
    ranks = state.ranks.values() if isinstance(state, State) else ()
    return {rank.pid: f"rank {rank.rank}" for rank in ranks if rank.alive and rank.pid}


def marks(facts: Facts) -> set[str]:
    """The marks in the environment of recorded ranks, and of what these have started."""
    state = facts.get("state")
    ranks = state.ranks.values() if isinstance(state, State) else ()
    return {mark(rank.record.run, rank.rank) for rank in ranks if rank.record}


def unrecorded(wanted: Wanted, facts: Facts, ports: frozenset[int] = frozenset()) -> dict[int, str]:
    """Pid -> what it is, for ranks of this user that no record knows and that are ours for sure.

    They meet at our ports (or at `ports`): so says their environment, or they listen there. Where a
    ring's file is gone its place tells, if that is in our state directory; else they are not ours.
    """
    ours = wanted.meeting_ports | ports
    holders = known(facts, "ports") or {}
    listening = {holder.pid for port in ours for holder in holders.get(port, ())}
    folder = f"/{wanted.state_dir.rstrip('/').rpartition('/')[2]}/"
    named, marked = recorded(facts), marks(facts)
    found = {}
    for process in (known(facts, "processes") or {}).values():
        # What a recorded rank has started is known by its mark.
        if not process.is_own or process.pid in named or process.mark in marked:
            continue
        is_rank = process.rank is not None
        meets = is_rank and (process.meets & ours or folder in process.lost_file)
        serves = process.pid in listening and wanted.engine.is_server(
            process.program, process.command
        )
        if meets or serves:
            number = f"rank {process.rank}" if is_rank else f"a {wanted.engine.name} rank"
            found[process.pid] = f"{number} without a record"
    return found


def strange_ranks(values: Mapping[int, Process], facts: Facts) -> list[Process]:
    """Ranks that no record here knows, without what they have started."""
    marked = marks(facts)
    found = {pid for pid, each in values.items() if each.rank is not None}
    return [
        values[pid]
        for pid in sorted(found - recorded(facts).keys())
        if values[pid].mark not in marked and values[pid].ppid not in found
    ]


def servers(engine: Engine, facts: Facts) -> dict[int, str]:
    """Pid -> what it is, for each server process of a node: recorded ranks and the engine's."""
    found = {}
    listed = facts.get("processes")
    if isinstance(listed, Mapping):
        for process in listed.values():
            if engine.is_server(process.program, process.command):
                found[process.pid] = f"a {engine.name} server"
    state = facts.get("state")
    if isinstance(state, State):
        for rank in state.ranks.values():
            if rank.alive and rank.pid:
                found[rank.pid] = f"rank {rank.rank}"
    return found


def ports(wanted: Wanted, facts: Mapping[str, Facts]) -> list[Finding]:
    """The HTTP port on rank 0's node, and those by which the ranks meet."""

    def judge(node: str, taken: Mapping[int, Any]) -> Finding:
        needed = wanted.ports_on(node)
        bound = [port for port in sorted(needed) if port in taken]
        if not bound:
            free = ", ".join(map(str, sorted(needed))) or "none needed"
            return Finding("ports", OK, node, f"free: {free}")
        port = bound[0]
        what = f"port {port} ({needed[port]}) is taken by {', '.join(map(str, taken[port]))}"
        fix = _free(wanted, facts[node], port, needed[port])
        return Finding("ports", FAIL, node, what, fix)

    return each("ports", facts, "ports", judge)


def _free(wanted: Wanted, facts: Facts, port: int, use: str) -> str:
    """What frees a port that is taken, or goes round it."""
    other = "set tp.starting_port; never test it with nc or curl"
    if use == "HTTP":
        other = "choose -- --port N"
    values: Mapping[int, Process] | None = known(facts, "processes")
    if values is None:
        return f"inv tp.stop if it is of a server of yours; else end it there, or {other}"
    pids = {holder.pid for holder in known(facts, "ports")[port]}
    found = {**recorded(facts), **unrecorded(wanted, facts)}
    marked = marks(facts)
    if all(pid in found or (pid in values and values[pid].mark in marked) for pid in pids):
        return "inv tp.stop"
    if pids <= servers(wanted.engine, facts).keys():
        return f"it is no rank of this cluster: inv tp.stop --all, or {other}"
    return f"it is none of ours: end it there, or {other}"


def model(wanted: Wanted, facts: Mapping[str, Facts]) -> list[Finding]:
    """The model is on every node, and the same."""
    if not wanted.model:
        node = wanted.ranks[0].host.ssh
        return [Finding("model", WARN, node, "no model is named", "-- --model PATH")]
    there = [m for m in (known(f, "model") for f in facts.values()) if m and m.path]

    def judge(node: str, value: Any) -> Finding:
        if value.path is None:
            fix = "copy or download it to that node"
            return Finding("model", FAIL, node, f"{wanted.model} is not there", fix)
        first = there[0].files
        names = set(value.files) | set(first)
        other = sorted(name for name in names if value.files.get(name) != first.get(name))
        if other:
            is_there = other[0] in value.files
            how = "differs from the first node's" if is_there else "is missing"
            what = f"{other[0]} {how}" + _more(other)
            return Finding("model", FAIL, node, what, "copy the model to all nodes again")
        if "config.json" not in value.files:
            return Finding(
                "model", FAIL, node, f"{value.path} has no config.json", "is it a model?"
            )
        if not any(name.endswith(".safetensors") for name in value.files):
            fix = "copy the model to that node again"
            return Finding("model", FAIL, node, f"{value.path} has no weights (*.safetensors)", fix)
        return Finding("model", OK, node, f"{value.path}, {len(value.files)} files")

    return each("model", facts, "model", judge)


def versions(wanted: Wanted, facts: Mapping[str, Facts]) -> list[Finding]:
    """python, mlx, mlx-lm and the system's build are the same on all nodes."""
    there = [f["versions"] for f in facts.values() if isinstance(f.get("versions"), Mapping)]

    def judge(node: str, value: Mapping[str, str]) -> Finding:
        what = ", ".join(f"{name} {value[name]}" for name in value)
        needed = ["mlx", "mlx-lm"] if wanted.engine.name == "mlx-lm" else ["mlx"]
        missing = [name for name in needed if value.get(name) == "missing"]
        if missing:
            fix = f"install {missing[0]} there (or choose --python)"
            return Finding("versions", FAIL, node, what, fix)
        differ = [name for name in value if value[name] != there[0].get(name)]
        if differ:
            what = ", ".join(f"{name} {value[name]}, not {there[0].get(name)}" for name in differ)
            return Finding("versions", FAIL, node, what, "bring the nodes to the same versions")
        if wanted.engine.name == "vllm-mlx" and "vllm-mlx" not in value:
            # No failure: a PYTHONPATH of --env may still lead to it.
            fix = "install it there, or choose --python or --cwd"
            return Finding("versions", WARN, node, f"{what}, no vllm-mlx", fix)
        return Finding("versions", OK, node, what)

    return each("versions", facts, "versions", judge)


def cooldown(wanted: Wanted, facts: Mapping[str, Facts]) -> list[Finding]:
    """A SIGKILL lately: the start waits, since the kernel needs time to reclaim RDMA."""

    def judge(node: str, value: State) -> Finding:
        left = cooling(value, wanted.cooldown)
        if left > 0:
            return Finding("cooldown", WARN, node, f"{left:.0f} s left after a SIGKILL", "waits")
        return Finding("cooldown", OK, node, "no SIGKILL lately")

    return each("cooldown", facts, "state", judge)


def cooling(state: State, cooldown_s: float) -> float:
    """Seconds that a start still has to wait after the last SIGKILL on this node."""
    if state.sigkill is None:
        return 0.0
    # A clock that was set back must not make anyone wait longer than the whole cooldown.
    return min(max(state.sigkill + cooldown_s - state.now, 0.0), cooldown_s)


def rdma(wanted: Wanted, facts: Mapping[str, Facts]) -> list[Finding]:
    """RDMA is on, the matrix is the hostfile's, devices are there and up, links have IPv4."""
    if not wanted.backend.startswith("jaccl"):
        return []
    rows = [list(rank.host.rdma) for rank in wanted.ranks]
    matrix = [[list(cell) if isinstance(cell, tuple) else cell for cell in row] for row in rows]
    findings = domains(wanted, facts)
    for node, values in facts.items():
        host = wanted.on(node)[0].host
        wrong = _rdma_wrong(values, host, matrix)
        unseen = [] if wrong else [n for n in devices(host) if not values["ibv_devinfo"][n].gids]
        if wrong:
            findings.append(Finding("rdma", FAIL, node, wrong[0], wrong[1]))
        elif unseen:
            what = f"{unseen[0]}: its GID table can't be seen" + _more(unseen)
            findings.append(Finding("rdma", WARN, node, what, "ibv_devinfo -v on the node"))
        else:
            findings.append(Finding("rdma", OK, node, "devices up, links have IPv4"))
    return findings


def domains(wanted: Wanted, facts: Mapping[str, Facts]) -> list[Finding]:
    """Protection domains that are in use though no server runs; no finding where none are told.

    At a device's maximum every start fails with errno 96, and retrying never helps (mlx PR 4209).
    """
    found = []
    for node, values in facts.items():
        used = known(values, "domains_in_use")
        if not used or servers(wanted.engine, values):
            continue
        devices: Mapping[str, Device] = known(values, "ibv_devinfo") or {}
        limits = [device.max_pd for device in devices.values() if device.max_pd]
        what = f"{used} protection domains are in use (a device has {min(limits, default=11)})"
        level = FAIL if used >= min(limits, default=11) else WARN
        found.append(Finding("rdma", level, node, what, REBOOT))
    return found


def _rdma_wrong(values: Facts, host: Host, matrix: list[list[Any]]) -> tuple[str, str] | None:
    """The first thing that is wrong with a node's RDMA, as (what, fix)."""
    return (
        rdma_off(values)
        or matrix_wrong(values, matrix)
        or next(filter(None, (device_wrong(name, values) for name in devices(host))), None)
    )


def rdma_off(values: Facts) -> tuple[str, str] | None:
    """Why a node can do no RDMA at all, as (what, fix), or None."""
    for name in ("rdma_enabled", "ibv_devices", "ibv_devinfo", "interfaces", "matrix"):
        value = values.get(name, Unknown("it was not asked"))
        if isinstance(value, Unknown):
            return f"unknown: {value.why}", f"try it on the node ({name})"
    if not values["rdma_enabled"]:
        return "RDMA is disabled", "in Recovery (hold the power button at boot): rdma_ctl enable"
    if not values["ibv_devices"]:
        # rdma_ctl says "enabled" there too, for ever.
        return "RDMA is enabled, but there are no devices", "Thunderbolt 4 can't do RDMA: use ring"
    return None


def matrix_wrong(values: Facts, matrix: list[list[Any]]) -> tuple[str, str] | None:
    """What is wrong with MLX's matrix of devices on a node, as (what, fix), or None."""
    if values["matrix"] is None:
        return f"{MATRIX} is missing", "inv rdma.setup"
    if values["matrix"] != matrix:
        return f"{MATRIX} is not the hostfile's matrix", "inv rdma.setup"
    return None


def device_wrong(device: str, values: Facts) -> tuple[str, str] | None:
    """What keeps a device from carrying RDMA, as (what, fix), or None."""
    name = device.removeprefix("rdma_")
    interface = values["interfaces"].get(name)
    info: Device | None = values["ibv_devinfo"].get(device)
    if device not in values["ibv_devices"]:
        what = f"{device} is not among the devices ({', '.join(values['ibv_devices'])})"
        return what, "names change after a reboot or replug: inv rdma.discover --diff"
    bridges = [i.name for i in values["interfaces"].values() if name in i.members]
    if bridges:
        return f"{device}: its interface is in {bridges[0]}", "inv rdma.setup"
    if info is None or not info.is_active:
        what = f"{device}: its port is {info.state if info else 'unknown'}"
        return what, "check the cable, and that RDMA is on at its other end"
    if interface is None or not interface.ipv4:
        return f"{device}: its interface has no IPv4 address", "inv rdma.setup"
    if info.gids and not info.ipv4_gids:
        return f"{device}: no IPv4-mapped GID in its table", "inv rdma.setup, else reboot that node"
    return None


def devices(host: Host) -> list[str]:
    """The RDMA devices of a host's row, in its order."""
    cells = [cell for cell in host.rdma if cell is not None]
    return [name for cell in cells for name in (cell if isinstance(cell, tuple) else (cell,))]


UNKNOWN_FIX = {
    "versions": "choose the right --python and --cwd for that node",
    "model": "check --cwd and the model's permissions on that node",
}
CHECKS: dict[str, Check] = {
    "memory": memory,
    "processes": processes,
    "ports": ports,
    "rdma": rdma,
    "model": model,
    "versions": versions,
    "cooldown": cooldown,
}
FACTS: dict[str, Sequence[Fact]] = {}  # what checks that `check` has added want to know of a node


def check(name: str, *wanted: Fact) -> Callable[[Check], Check]:
    """Make a function preflight's check `name`: a new one, or in place of ours.

    It gets the facts `wanted` of every node under their names, read in the same round trip as all
    others, and what is left of ours. `--skip name` leaves it out, as any other.
    """

    def add(function: Check) -> Check:
        CHECKS[name] = function
        FACTS[name] = wanted
        return function

    return add


def each(
    check: str, facts: Mapping[str, Facts], name: str, judge: Callable[[str, Any], Finding | None]
) -> list[Finding]:
    """`judge` every node's value of the fact `name`; an unknown one fails with what it said."""
    fix = UNKNOWN_FIX.get(name, "run it on the node to see why")
    findings = []
    for node, values in facts.items():
        value = values.get(name, Unknown("it was not asked"))
        unknown = isinstance(value, Unknown)
        found = (
            Finding(check, FAIL, node, f"unknown: {value.why}", fix)
            if unknown
            else judge(node, value)
        )
        findings += [found] if found else []
    return findings


def _more(items: Sequence[str]) -> str:
    return f" (and {len(items) - 1} more)" if len(items) > 1 else ""
