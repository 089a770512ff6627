"""Facts -> findings. Pure: what a node said is judged here, and unknown is never ok."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from . import divide, fit, ranks, whole
from . import state as record
from .engine import Engine, is_pipeline, option
from .facts import Fact, Key, NodeFacts, UnknownFactError, as_key, gpu, known, old, split
from .facts import machine as machine_facts
from .facts import memory as memory_facts
from .facts import model as model_facts
from .facts import ports as port_facts
from .facts import processes as process_facts
from .facts import rdma as rdma_facts
from .facts import reach as reach_facts
from .facts import thunderbolt as thunderbolt_facts
from .facts import versions as version_facts
from .facts.memory import GIB, Memory
from .facts.model import Model
from .facts.ports import Holder
from .facts.processes import Process, mark
from .facts.rdma import MATRIX
from .finding import FAIL as FAIL
from .finding import OK as OK
from .finding import WARN as WARN
from .finding import Finding as Finding
from .finding import more
from .ranks import Rank
from .snapshot import Snapshot
from .state import State

if TYPE_CHECKING:
    from .cluster import Cluster
    from .hostfile import Host
    from .nodes import Node

T = TypeVar("T")
REBOOT = "reboot it: nothing else frees it"
LEAK = 0.1  # of a node's memory: more than a graceful exit leaves (5 GiB of 512, omlx#2184)
SWAP = GIB // 4  # bytes: macOS itself may swap out a little on a node that has nothing to do


@dataclass(frozen=True)
class Expected:
    """What the facts are judged against; sizes in bytes, times in seconds.

    `model_at_home` is the model as ~/..., where it is a path in the home of who asks.
    """

    ranks: Sequence[Rank]
    backend: str
    engine: Engine
    http_port: int
    model: str | None
    wired_limit: int
    cooldown: float
    model_at_home: str = ""

    @property
    def is_rdma(self) -> bool:
        return self.backend.startswith("jaccl")

    @property
    def meeting_ports(self) -> frozenset[int]:
        """The ports of the coordinator or of the ring, on whatever node."""
        return frozenset(port for rank in self.ranks for port in rank.ports)

    @property
    def mode(self) -> str:
        """How the server is told to divide its model."""
        words = self.ranks[0].command if self.ranks else ()
        return split.PIPELINE if is_pipeline(words) else split.TENSOR

    def on(self, node: str) -> list[Rank]:
        return [rank for rank in self.ranks if rank.host.ssh == node]

    def ports_on(self, node: str) -> dict[int, str]:
        """Each port that must be free on a node, and what it is for ("rank" or "HTTP")."""
        ranks = self.on(node)
        needed = {port: "rank" for rank in ranks for port in rank.ports}
        if any(rank.rank == 0 for rank in ranks):
            needed[self.http_port] = "HTTP"
        return needed


Judge = Callable[[Expected, Snapshot], "list[Finding]"]
Facts = Callable[["Cluster", "Node"], Iterable[Fact[object]]]


@dataclass(frozen=True)
class Check:
    """What preflight asks of each node, and how it judges all that they told.

    `remedy` is what to do where a fact is unknown, `what` what it looks at, in few words.
    """

    name: str
    facts: Facts
    judge: Judge
    remedy: str
    what: str = ""

    def findings(self, expected: Expected, snapshot: Snapshot) -> list[Finding]:
        """Judge; what the judge takes for known, and is not, fails."""
        try:
            return self.judge(expected, snapshot)
        except UnknownFactError as error:
            return [unknown(self.name, error)]

    def __call__(self, expected: Expected, snapshot: Snapshot) -> list[Finding]:
        old("a check as a function", "its `judge`")
        return self.judge(expected, snapshot)


RUN_IT = "run it on the node to see why"
CHECKS: dict[str, Check] = {}


def check(
    name: str, *facts: Fact[object] | Facts, remedy: str = "", what: str = ""
) -> Callable[[Judge], Judge]:
    """Make a function preflight's check `name`: a new one, or in place of that of this name.

    It wants these `facts` of every node, or those that a function of (cluster, node) gives, and in
    place of another also what that one wants. All are read in one round trip. `--skip name` leaves
    it out.
    """
    before = CHECKS.get(name)
    asked = [*((before.facts,) if before else ()), *facts]

    def wanted(cluster: Cluster, node: Node) -> Iterator[Fact[object]]:
        for each in asked:
            yield from [each] if isinstance(each, Fact) else each(cluster, node)

    def add(judge: Judge) -> Judge:
        why = remedy or (before.remedy if before else RUN_IT)
        CHECKS[name] = Check(name, wanted, judge, why, what or (before.what if before else ""))
        return judge

    return add


def _record(cluster: Cluster, node: Node) -> list[Fact[object]]:
    return [record.fact(cluster.state_dir, cluster.name)]


@check("memory", _record, memory_facts.FACT, what="wired memory, and what a killed server left")
def memory(expected: Expected, snapshot: Snapshot) -> list[Finding]:
    """Wired memory that a killed server left behind; only a reboot frees it."""

    def judge(node: str, value: Memory) -> Finding:
        what = f"{value.wired / GIB:.1f} of {value.total / GIB:.0f} GiB wired"
        if value.wired > expected.wired_limit:
            limit = f" (limit {expected.wired_limit / GIB:.0f} GiB)"
            return Finding("memory", FAIL, node, what + limit, REBOOT)
        leak = leaked(expected, snapshot.on(node))
        if leak > LEAK * value.total:
            share = f"{leak / GIB:.1f} GiB ({leak / value.total:.0%}) more"
            what = f"{what}: {share} than before this boot's first start"
            return Finding("memory", FAIL, node, what, REBOOT)
        if (value.swap or 0) > SWAP:
            what = f"{what}, {(value.swap or 0) / GIB:.1f} GiB swapped out before the load"
            fix = "end what holds the memory, or reboot it: such loads have ended in kernel panics"
            return Finding("memory", WARN, node, what, fix)
        return Finding("memory", OK, node, what)

    return each("memory", snapshot, memory_facts.KEY, judge)


def leaked(expected: Expected, facts: NodeFacts) -> int:
    """Bytes wired now over the baseline; 0 while a server runs, or where it is unknown."""
    state, value = known(facts, record.KEY), known(facts, memory_facts.KEY)
    if not state or not value or state.baseline is None or servers(expected.engine, facts):
        return 0
    return max(value.wired - state.baseline, 0)


@check("processes", _record, process_facts.FACT, what="ranks and servers that run already")
def processes(expected: Expected, snapshot: Snapshot) -> list[Finding]:
    """Ranks of ours, ranks that no record knows, and servers that someone else started."""

    def judge(node: str, values: Mapping[int, Process]) -> Finding:
        facts = snapshot.on(node)
        found = {**recorded(facts), **unrecorded(expected, facts)}
        if found:
            names = ", ".join(f"{label} (pid {pid})" for pid, label in sorted(found.items()))
            return Finding(
                "processes", FAIL, node, f"already runs: {names}", "stop it: inv tp.stop"
            )
        ranks = strange_ranks(values, facts)
        blocking = [each for each in ranks if not each.mark or (each.is_rdma and expected.is_rdma)]
        if blocking:
            return Finding("processes", FAIL, node, *_blocked(expected, blocking))
        single = servers(expected.engine, facts)
        if single:
            fix = "it shares the memory; inv tp.stop leaves it, --all ends it"
            return Finding("processes", WARN, node, f"also runs: {_named(single)}", fix)
        return Finding("processes", OK, node, "no server runs")

    unknown = each("processes", snapshot, record.KEY, lambda node, value: None)
    return unknown + each("processes", snapshot, process_facts.KEY, judge)


def _named(found: Mapping[int, str]) -> str:
    return ", ".join(f"{label} (pid {pid})" for pid, label in sorted(found.items()))


def _blocked(expected: Expected, found: Sequence[Process]) -> tuple[str, str]:
    """What and fix for ranks that are not ours, and in our way."""
    first = found[0]
    whose = "of another cluster" if first.mark else "that no record knows"
    what = f"rank {first.rank} {whose} runs (pid {first.pid}, {first.user or 'user unknown'})"
    what += more(found)
    skip = "or --skip processes"
    if not first.is_own:
        return what, f"ask {first.user or 'its user'}, {skip}"
    if expected.engine.is_server(first.program, first.command):
        return what, f"inv tp.stop --all, {skip}"
    return what, f"end it on that node, {skip}"


def recorded(facts: NodeFacts) -> dict[int, str]:
    """Pid -> what it is, for each recorded rank of a node that lives."""
    state = known(facts, record.KEY)
    ranks = state.ranks.values() if state else ()
    return {rank.pid: f"rank {rank.rank}" for rank in ranks if rank.alive and rank.pid}


def marks(facts: NodeFacts) -> set[str]:
    """The marks in the environment of recorded ranks, and of what these have started."""
    state = known(facts, record.KEY)
    ranks = state.ranks.values() if state else ()
    return {mark(rank.record.run, rank.rank) for rank in ranks if rank.record}


def unrecorded(
    expected: Expected, facts: NodeFacts, ports: frozenset[int] = frozenset()
) -> dict[int, str]:
    """Pid -> what it is, for ranks of this user that no record knows and that are ours for sure.

    They meet at our ports (or at `ports`): so says their environment, or they listen there. Where a
    ring's file is gone its place tells, if that is in our state directory; else they are not ours.
    """
    ours = expected.meeting_ports | ports
    holders = known(facts, port_facts.KEY) or {}
    listening = {holder.pid for port in ours for holder in holders.get(port, ())}
    state = known(facts, record.KEY)
    named, marked = recorded(facts), marks(facts)
    found = {}
    for process in (known(facts, process_facts.KEY) or {}).values():
        # What a recorded rank has started is known by its mark.
        if not process.is_own or process.pid in named or process.mark in marked:
            continue
        is_rank = process.rank is not None
        meets = is_rank and (process.meets & ours or _is_in(process.lost_file, state))
        serves = process.pid in listening and expected.engine.is_server(
            process.program, process.command
        )
        if meets or serves:
            number = f"rank {process.rank}" if is_rank else f"a {expected.engine.name} rank"
            found[process.pid] = f"{number} without a record"
    return found


def _is_in(path: str, state: State | None) -> bool:
    """Whether a path is in the node's state directory, by the name that the node has for it."""
    if state is None or not state.folders:
        return False
    here, *old = state.folders
    return path.startswith(f"{here}/runs/") or os.path.dirname(path) in (here, *old)


def strange_ranks(values: Mapping[int, Process], facts: NodeFacts) -> list[Process]:
    """Ranks that no record here knows, without what they have started."""
    marked = marks(facts)
    found = {pid for pid, each in values.items() if each.rank is not None}
    return [
        values[pid]
        for pid in sorted(found - recorded(facts).keys())
        if values[pid].mark not in marked and values[pid].ppid not in found
    ]


def servers(engine: Engine, facts: NodeFacts) -> dict[int, str]:
    """Pid -> what it is, for each server process of a node: recorded ranks and the engine's."""
    found = {}
    for process in (known(facts, process_facts.KEY) or {}).values():
        if engine.is_server(process.program, process.command):
            found[process.pid] = f"a {engine.name} server"
    state = known(facts, record.KEY)
    if state:
        for rank in state.ranks.values():
            if rank.alive and rank.pid:
                found[rank.pid] = f"rank {rank.rank}"
    return found


def _ports(cluster: Cluster, node: Node) -> list[Fact[object]]:
    return [port_facts.fact(cluster.expected.ports_on(node.name))]


@check("ports", _ports, what="those of HTTP and of the ranks")
def ports(expected: Expected, snapshot: Snapshot) -> list[Finding]:
    """The HTTP port on rank 0's node, and those by which the ranks meet."""

    def judge(node: str, taken: Mapping[int, Sequence[Holder]]) -> Finding:
        needed = expected.ports_on(node)
        bound = [port for port in sorted(needed) if port in taken]
        if not bound:
            free = ", ".join(map(str, sorted(needed))) or "none needed"
            return Finding("ports", OK, node, f"free: {free}")
        port = bound[0]
        what = f"port {port} ({needed[port]}) is taken by {', '.join(map(str, taken[port]))}"
        fix = _free(expected, snapshot.on(node), port, needed[port])
        return Finding("ports", FAIL, node, what, fix)

    return each("ports", snapshot, port_facts.KEY, judge)


def _free(expected: Expected, facts: NodeFacts, port: int, use: str) -> str:
    """What frees a port that is taken, or goes round it."""
    other = "set tp.starting_port; never test it with nc or curl"
    if use == "HTTP":
        other = "choose -- --port N"
    values = known(facts, process_facts.KEY)
    if values is None:
        return f"inv tp.stop if it is of a server of yours; else end it there, or {other}"
    pids = {holder.pid for holder in (known(facts, port_facts.KEY) or {})[port]}
    found = {**recorded(facts), **unrecorded(expected, facts)}
    marked = marks(facts)
    if all(pid in found or (pid in values and values[pid].mark in marked) for pid in pids):
        return "inv tp.stop"
    if pids <= servers(expected.engine, facts).keys():
        return f"it is no rank of this cluster: inv tp.stop --all, or {other}"
    return f"it is none of ours: end it there, or {other}"


def _rdma(cluster: Cluster, node: Node) -> list[Fact[object]]:
    if not cluster.backend.startswith("jaccl"):
        return []
    return [*rdma_facts.FACTS, rdma_facts.IN_USE, machine_facts.FACT]


@check("rdma", _rdma, what="devices and links")
def rdma(expected: Expected, snapshot: Snapshot) -> list[Finding]:
    """RDMA is on, devices are there and up, links have IPv4; ranks get a matrix of their own."""
    if not expected.backend.startswith("jaccl"):
        return []
    findings = domains(expected, snapshot)
    setup = ranks.ready([rank.host for rank in expected.ranks])
    for node, values in snapshot.nodes.items():
        names = devices(expected.on(node)[0].host)
        wrong = (
            _machine_wrong(values)
            or rdma_off(values)
            or next(filter(None, (device_wrong(n, values, setup) for n in names)), None)
        )
        unseen = [] if wrong else [n for n in names if not values[rdma_facts.DEVINFO_KEY][n].gids]
        if wrong:
            findings.append(Finding("rdma", FAIL, node, wrong[0], wrong[1]))
        elif unseen:
            what = f"{unseen[0]}: its GID table can't be seen" + more(unseen)
            findings.append(Finding("rdma", WARN, node, what, "ibv_devinfo -v on the node"))
        else:
            findings.append(Finding("rdma", OK, node, "devices up, links have IPv4"))
    return findings


def called(backend: str, size: int) -> list[tuple[int, int]]:
    """(rank, by which rank it is called) as ranks meet: a ring's by the one before, else rank 0."""
    if backend == "ring":
        return [(rank, (rank - 1) % size) for rank in range(size) if size > 1]
    return [(0, rank) for rank in range(1, size)]


def _calls(expected: Expected) -> list[tuple[str, Rank, Rank]]:
    """(address, whose, by whom) for each call from one node to another as the ranks meet."""
    pairs = called(expected.backend, len(expected.ranks))
    found = [(expected.ranks[one], expected.ranks[two]) for one, two in pairs]
    count = None if expected.backend == "ring" else 1
    between = [(one, two) for one, two in found if one.host.ssh != two.host.ssh]
    return [(ip, one, two) for one, two in between for ip in one.host.ips[:count]]


def _meeting(cluster: Cluster, node: Node) -> list[Fact[object]]:
    calls = _calls(cluster.expected)
    if not calls:
        return []
    ports = {n.name: 22 if n.host.is_local else n.login[2] for n in cluster.nodes}
    own = [ip for ip, one, _ in calls if one.host.ssh == node.name]
    peers = [(ip, ports[one.host.ssh]) for ip, one, two in calls if two.host.ssh == node.name]
    rank = cluster.on(node)[0]
    own, peers = list(dict.fromkeys(own)), list(dict.fromkeys(peers))
    asked = reach_facts.meeting(rank.command[0], rank.cwd, own, peers)
    return [asked, machine_facts.IDENTITY]


@check(
    "hosts", _meeting, what="each is a machine of its own, has its addresses, is reached by them"
)
def hosts(expected: Expected, snapshot: Snapshot) -> list[Finding]:
    """A host is one machine; its addresses are its own, and those that call it reach them.

    Asked at the port of its sshd: what connects to a rank's port takes its peer's place.
    """
    calls = _calls(expected)
    if not calls:
        return []
    found = []
    for node, values in snapshot.nodes.items():
        wrong = twin(node, snapshot) or _address_wrong(expected, node, snapshot)
        error = values.lacks(reach_facts.MEETING_KEY, machine_facts.IDENTITY_KEY)
        if error and not wrong:
            found.append(unknown("hosts", error))
        elif wrong:
            found.append(Finding("hosts", FAIL, node, *wrong))
        else:
            peers = dict.fromkeys(one.host.ssh for _, one, two in calls if two.host.ssh == node)
            what = f"reaches {', '.join(peers)}" if peers else "has its addresses"
            found.append(Finding("hosts", OK, node, what))
    passing = list(dict.fromkeys(ip for ip, _, _ in calls if ip.startswith("169.254.")))
    if passing:
        names = ",".join(dict.fromkeys(rank.host.ssh for rank in expected.ranks))
        found.append(self_assigned(calls[0][1].host.ssh, passing, names))
    return found


def self_assigned(node: str, addresses: Sequence[str], names: str) -> Finding:
    """One finding for all addresses that interfaces took by themselves (169.254)."""
    what = f"{addresses[0]}{more(addresses)}: self-assigned, will change with the next replug"
    fix = f"inv rdma.discover --hosts {names} --write FILE gives links fixed ones"
    return Finding("address", WARN, node, what, fix)


def twin(node: str, snapshot: Snapshot) -> tuple[str, str] | None:
    """That a node is a machine that another name leads to as well, as (what, fix), or None."""
    key = machine_facts.IDENTITY_KEY
    which = known(snapshot.on(node), key)
    first = next((n for n, values in snapshot.nodes.items() if known(values, key) == which), node)
    if which is None or first == node:
        return None
    return f"{first} and {node} are the same machine", "name it once; -n runs several ranks on it"


def _address_wrong(expected: Expected, node: str, snapshot: Snapshot) -> tuple[str, str] | None:
    """What is wrong with the addresses of a node, or with those that it calls, as (what, fix)."""
    meeting = known(snapshot.on(node), reach_facts.MEETING_KEY)
    for ip, one, two in _calls(expected):
        if one.host.ssh == node:
            if ranks.is_for_itself(ip):
                what = f"{ip} is no address that {two.host.ssh} can reach"
                return what, _own_address(one.host, two.host, snapshot)
            if meeting and meeting.own.get(ip, "bound") == "EADDRNOTAVAIL":
                return f"{ip} is on no interface of {node}", _give(ip, one.host, expected)
    for ip, one, two in _calls(expected):
        said = meeting.of(ip) if meeting and two.host.ssh == node else ""
        if said not in ("", "connected", "ECONNREFUSED"):
            fix = "inv rdma.ping" if _is_link(ip, one.host) else "inv hosts.check tells why"
            return f"{ip} of {one.host.ssh} is not reached ({said})", fix
    return None


def _is_link(ip: str, host: Host) -> bool:
    return any(ip == str(each.ip) for each in host.link_addresses)


def _give(ip: str, host: Host, expected: Expected) -> str:
    if _is_link(ip, host):
        return ranks.ready([rank.host for rank in expected.ranks])
    return f"correct the ips of {host.ssh} (ifconfig on it tells), or does its name lead elsewhere?"


def _own_address(host: Host, other: Host, snapshot: Snapshot) -> str:
    """Which address to give a host that has only said a loopback one."""
    keyed = {
        name: known(snapshot.on(name), reach_facts.MEETING_KEY) for name in (host.ssh, other.ssh)
    }
    # As the other one sees who asked it, which is this machine; or by which we came to the host.
    seen = keyed[other.ssh] if host.is_local else keyed[host.ssh]
    ip = (seen.client if host.is_local else seen.server) if seen else ""
    whose = "this machine's" if host.is_local else f"{host.ssh}'s"
    if not ip or ":" in ip or ranks.is_for_itself(ip):
        return f'give {whose} address on the network of {other.ssh} as its "ips" in a hostfile'
    return f'give {whose} address: {{"ssh": "{host.ssh}", "ips": ["{ip}"]}} in a hostfile'


def of_model(
    cluster: Cluster, node: Node, path: str, ranks: Sequence[int] = ()
) -> list[Fact[object]]:
    """What there is to know of a model on a node, for the cluster's number of ranks or others."""
    rank, expected = cluster.on(node)[0], cluster.expected
    how = expected.mode, ranks or [len(cluster.ranks)]
    python, env = rank.command[0], rank.env
    asked = split.fact(path, rank.cwd, python, cluster.state_dir, *how, env)
    return [model_facts.fact(path, rank.cwd, python, env), asked, memory_facts.FACT, gpu.FACT]


def _model(cluster: Cluster, node: Node) -> list[Fact[object]]:
    if not cluster.model:
        return []
    wanted = of_model(cluster, node, cluster.model)
    rank = cluster.on(node)[0]
    parts = [
        model_facts.fact(path, rank.cwd, rank.command[0], rank.env, _part(name))
        for name in PARTS
        if (path := option(cluster.args, name))
    ]
    return [*(wanted if cluster.engine.has_mlx_lm else wanted[:1]), *parts]


PARTS = ("--adapter-path", "--draft-model")  # what a server loads beside its model


def _part(name: str) -> Key[Model]:
    return Key[Model](name[2:])


@check(
    "model",
    _model,
    remedy="check --cwd and the model's permissions on that node",
    what="the same files on all nodes, whole, divisible by the ranks, not too large",
)
def model(expected: Expected, snapshot: Snapshot) -> list[Finding]:
    """The model is on every node, the same, whole, and each rank's share fits."""
    if not expected.model:
        node = expected.ranks[0].host.ssh
        return [Finding("model", WARN, node, "no model is named", "-- --model PATH")]
    found = [*refused(expected), *same_files(expected, snapshot), *parts(expected, snapshot)]
    return [*found, *one_path(expected, snapshot), *shares(expected, snapshot)]


def refused(expected: Expected) -> list[Finding]:
    """Arguments that the engine refuses, or takes for something else, once it has started."""
    words, node = expected.ranks[0].command, expected.ranks[0].host.ssh
    found = expected.engine.refuses(words, len(expected.ranks))
    return [Finding("model", FAIL, node, f"{each.option}: {each.why}", each.fix) for each in found]


def parts(expected: Expected, snapshot: Snapshot) -> list[Finding]:
    """An adapter and a draft model are on every node, where the engine takes them."""
    given = {name: option(expected.ranks[0].command, name) for name in PARTS}
    return [
        Finding("model", FAIL, node, f"{name} {path} is not there", "copy it to that node")
        for name, path in given.items()
        for node, facts in snapshot.nodes.items()
        if path and (part := known(facts, _part(name))) and part.path is None
    ]


def one_path(expected: Expected, snapshot: Snapshot) -> list[Finding]:
    """Where the server is not kept to its model all ranks find it by rank 0's path.

    That is its id, by which clients ask; a rank that finds nothing there would hang all.
    """
    if expected.engine.keeps_to_model or len(expected.ranks) < 2:
        return []
    nodes = dict.fromkeys(rank.host.ssh for rank in expected.ranks)
    models = {node: known(snapshot.on(node), model_facts.KEY) for node in nodes}
    paths = {node: each.path for node, each in models.items() if each and each.path}
    first = paths.get(next(iter(nodes)), "")
    fix = "give all nodes the same path (a link will do)"
    what = f"not {first}, by which clients would ask for it"
    return [
        Finding("model", FAIL, node, f"{path}, {what}", fix)
        for node, path in paths.items()
        if first and path != first and "/models--" not in path
    ]


def shares(expected: Expected, snapshot: Snapshot, tokens: int | None = None) -> list[Finding]:
    """The model is whole, divides over the ranks, and each share fits, with a cache of `tokens`."""
    count, mode, facts = len(expected.ranks), expected.mode, snapshot.nodes
    numbers = {r.host.ssh: [each.rank for each in expected.on(r.host.ssh)] for r in expected.ranks}
    engine = expected.engine
    foreign = "" if engine.divides_by_mlx_lm else engine.name
    if not engine.has_mlx_lm and not any(split.KEY in values for values in facts.values()):
        what = f"unknown: {engine.name} does not divide by mlx-lm"
        return [Finding("divides", WARN, node, what) for node in facts if count > 1]
    return [
        *whole.complete(facts),
        *divide.divides(facts, count, mode, foreign, len(numbers)),
        *fit.fits(facts, numbers, mode, tokens),
        *divide.asked(facts),
    ]


def same_files(expected: Expected, snapshot: Snapshot) -> list[Finding]:
    """The model is on every node, and the same."""
    there = [
        m for m in (known(f, model_facts.KEY) for f in snapshot.nodes.values()) if m and m.path
    ]

    def judge(node: str, value: Model) -> Finding:
        if value.path is None:
            fix = "copy or download it to that node"
            if expected.model_at_home:
                fix = (
                    f"copy it there, or write '{expected.model_at_home}', in quotes: without them"
                    " the shell made ~ this machine's home"
                )
            return Finding("model", FAIL, node, f"{expected.model} is not there", fix)
        first = there[0].files
        names = set(value.files) | set(first)
        other = sorted(name for name in names if value.files.get(name) != first.get(name))
        if other:
            is_there = other[0] in value.files
            how = "differs from the first node's" if is_there else "is missing"
            what = f"{other[0]} {how}" + more(other)
            return Finding("model", FAIL, node, what, "copy the model to all nodes again")
        if "config.json" not in value.files:
            return Finding(
                "model", FAIL, node, f"{value.path} has no config.json", "is it a model?"
            )
        if not any(name.endswith(".safetensors") for name in value.files):
            fix = "copy the model to that node again"
            return Finding("model", FAIL, node, f"{value.path} has no weights (*.safetensors)", fix)
        return Finding("model", OK, node, f"{value.path}, {len(value.files)} files")

    return each("model", snapshot, model_facts.KEY, judge)


def _versions(cluster: Cluster, node: Node) -> list[Fact[object]]:
    rank = cluster.on(node)[0]
    # MLX for Linux, and old ones for macOS, have no jaccl; ring is in every one.
    backend = "jaccl" if cluster.backend.startswith("jaccl") else ""
    return [version_facts.fact(rank.command[0], rank.cwd, backend)]


@check(
    "versions",
    _versions,
    remedy="choose the right --python and --cwd for that node",
    what="of python, mlx and the system: starts each node's python",
)
def versions(expected: Expected, snapshot: Snapshot) -> list[Finding]:
    """python, mlx, mlx-lm and the system's build are the same on all nodes."""
    there = [v for f in snapshot.nodes.values() if (v := known(f, version_facts.KEY))]

    def judge(node: str, value: Mapping[str, str]) -> Finding:
        what = ", ".join(f"{name} {value[name]}" for name in value if name != "backend")
        needed = ["mlx", "mlx-lm"] if expected.engine.name == "mlx-lm" else ["mlx"]
        missing = [name for name in needed if value.get(name) == "missing"]
        if missing:
            fix = f"install {missing[0]} there (or choose --python)"
            return Finding("versions", FAIL, node, what, fix)
        wrong = expected.engine.unfit(value)
        if wrong:
            return Finding("versions", FAIL, node, *wrong)
        same = there[0]
        differ = [name for name in value if name != "backend" and value[name] != same.get(name)]
        if differ:
            what = ", ".join(f"{name} {value[name]}, not {same.get(name)}" for name in differ)
            return Finding("versions", FAIL, node, what, "bring the nodes to the same versions")
        if value.get("backend") == "no":
            fix = f"install another mlx there, or choose --backend ring (not {expected.backend})"
            return Finding("versions", FAIL, node, f"mlx {value['mlx']} has no jaccl", fix)
        if expected.engine.name == "vllm-mlx" and "vllm-mlx" not in value:
            # No failure: a PYTHONPATH of --env may still lead to it.
            fix = "install it there, or choose --python or --cwd"
            return Finding("versions", WARN, node, f"{what}, no vllm-mlx", fix)
        return Finding("versions", OK, node, what)

    return each("versions", snapshot, version_facts.KEY, judge)


@check("cooldown", _record, what="a rank that ended without clean-up lately")
def cooldown(expected: Expected, snapshot: Snapshot) -> list[Finding]:
    """A rank that ended without clean-up lately: the kernel needs time to reclaim its RDMA."""

    def judge(node: str, value: State) -> Finding:
        left = cooling(value, expected.cooldown) if expected.is_rdma else 0
        if left > 0:
            what = f"{left:.0f} s left: a rank has ended without clean-up"
            return Finding("cooldown", WARN, node, what, "waits")
        return Finding("cooldown", OK, node, "nothing to wait for")

    return each("cooldown", snapshot, record.KEY, judge)


def cooling(state: State, cooldown_s: float) -> float:
    """Seconds that a start still has to wait after the last unclean end of a rank on this node."""
    if state.sigkill is None:
        return 0.0
    # A clock that was set back must not make anyone wait longer than the whole cooldown.
    return min(max(state.sigkill + cooldown_s - state.now, 0.0), cooldown_s)


def domains(expected: Expected, snapshot: Snapshot) -> list[Finding]:
    """Protection domains that are in use though no server runs; no finding where none are told.

    At a device's maximum every start fails with errno 96, and retrying never helps (mlx PR 4209).
    """
    found = []
    for node, values in snapshot.nodes.items():
        used = known(values, rdma_facts.IN_USE_KEY)
        if not used or servers(expected.engine, values):
            continue
        devices = known(values, rdma_facts.DEVINFO_KEY) or {}
        limits = [device.max_pd for device in devices.values() if device.max_pd]
        what = f"{used} protection domains are in use (a device has {min(limits, default=11)})"
        level = FAIL if used >= min(limits, default=11) else WARN
        found.append(Finding("rdma", level, node, what, REBOOT))
    return found


def _machine_wrong(values: NodeFacts) -> tuple[str, str] | None:
    """Why a node's Mac or its macOS should do no RDMA, whatever its devices say, as (what, fix)."""
    error = values.lacks(machine_facts.KEY)
    if error:
        return f"unknown: {error.why}", RUN_IT
    machine = values[machine_facts.KEY]
    if thunderbolt_facts.has_thunderbolt5(machine.get("model", "")) is False:
        return f"{machine['model']} has Thunderbolt 4: it can't do RDMA", "--backend ring"
    return machine_facts.corrupts(machine)


def rdma_off(values: NodeFacts) -> tuple[str, str] | None:
    """Why a node can do no RDMA at all, as (what, fix), or None."""
    error = values.lacks(*(fact.key for fact in rdma_facts.FACTS))
    if error:
        return f"unknown: {error.why}", f"try it on the node ({error.name})"
    if not values[rdma_facts.ENABLED_KEY]:
        return "RDMA is disabled", "in Recovery (hold the power button at boot): rdma_ctl enable"
    if not values[rdma_facts.DEVICES_KEY]:
        # rdma_ctl says "enabled" there too, for ever.
        return "RDMA is enabled, but there are no devices", "Thunderbolt 4 can't do RDMA: use ring"
    return None


def matrix_wrong(values: NodeFacts, matrix: object) -> tuple[str, str] | None:
    """What is wrong with MLX's matrix of devices on a node, as (what, fix), or None."""
    if values[rdma_facts.MATRIX_KEY] is None:
        return f"{MATRIX} is missing", "inv rdma.setup"
    if values[rdma_facts.MATRIX_KEY] != matrix:
        return f"{MATRIX} is not the hostfile's matrix", "inv rdma.setup"
    return None


def device_wrong(
    device: str, values: NodeFacts, setup: str = "inv rdma.setup"
) -> tuple[str, str] | None:
    """What keeps a device from carrying RDMA, as (what, fix), or None; `setup` is what mends it."""
    name = device.removeprefix("rdma_")
    interfaces, there = values[rdma_facts.INTERFACES_KEY], values[rdma_facts.DEVICES_KEY]
    interface = interfaces.get(name)
    info = values[rdma_facts.DEVINFO_KEY].get(device)
    if device not in there:
        what = f"{device} is not among the devices ({', '.join(there)})"
        return what, "names change after a reboot or replug: inv rdma.discover --diff"
    bridges = [i.name for i in interfaces.values() if name in i.members]
    if bridges:
        return f"{device}: its interface is in {bridges[0]}", setup
    if info is None or not info.is_active:
        what = f"{device}: its port is {info.state if info else 'unknown'}"
        return what, "check the cable, and that RDMA is on at its other end"
    if interface is None or not interface.ipv4:
        return f"{device}: its interface has no IPv4 address", setup
    if info.gids and not info.ipv4_gids:
        return f"{device}: no IPv4-mapped GID in its table", f"{setup}, else reboot that node"
    return None


def devices(host: Host) -> list[str]:
    """The RDMA devices of a host's row, in its order."""
    return [name for cell in host.rdma for name in ranks.devices(cell)]


def each(
    check: str,
    snapshot: Snapshot,
    key: Key[T],
    judge: Callable[[str, T], Finding | None],
) -> list[Finding]:
    """`judge` every node's value of a fact; an unknown one fails with what it said."""
    key = as_key(key)
    findings = []
    for node, values in snapshot.nodes.items():
        error = values.lacks(key)
        found = unknown(check, error) if error else judge(node, values[key])
        findings += [found] if found else []
    return findings


def unknown(check: str, error: UnknownFactError) -> Finding:
    """The finding for a fact that a check needs and has not."""
    remedy = CHECKS[check].remedy if check in CHECKS else RUN_IT
    return Finding(check, FAIL, error.node, f"unknown: {error.why}", remedy)


if not TYPE_CHECKING:

    def __getattr__(name):
        if name != "Wanted":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        old("tasks.cluster.checks.Wanted", "Expected")
        return Expected
