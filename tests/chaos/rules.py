"""The rules: what can be done in a step, when, and how often beside the others."""

from __future__ import annotations

import hashlib
import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from .world import Command, World

STARTS = ("tp.start", "tp.restart")
# What a person may call, and how often beside the others.
CALLS = {
    "tp.start": 6,
    "tp.stop": 5,
    "tp.restart": 2,
    "tp.unlock": 2,
    "dev.sync": 2,
    "rdma.setup": 1,
}
MOST = 3  # commands in the background


@dataclass
class Model:
    """What a walk knows by what it has done; `draw` is all that chance there is.

    `stopped` is by whom, once a stop stays; `ready` are the ranks of a start that nothing may end.
    """

    world: World
    draw: random.Random
    commands: list[Command] = field(default_factory=list)
    watch: Command | None = None
    full: set[str] = field(default_factory=set)
    is_cut: bool = False
    is_squatting: bool = False
    stopped: str = ""
    ready: frozenset[str] = frozenset()
    was_started: bool = False
    is_watch_over: bool = False
    versions: dict[str, set[str]] = field(default_factory=dict)
    synced: set[str] = field(default_factory=set)
    excused: bool = False  # whether we have ourselves ended what would give the lock back

    def user(self) -> str:
        return self.draw.choice(["ada", "bob"])

    def host(self) -> str:
        return self.draw.choice(list(self.world.rig.names))

    def suspended(self, is_so: bool) -> list[Command]:
        return [each for each in self.commands if each.is_suspended == is_so]

    # What commands may do.

    def words(self, kind: str) -> tuple[str, ...]:
        if kind == "dev.sync":
            self.edit()
            delete = ("--delete",) if self.draw.random() < 0.3 else ()
            where = ("--source", str(self.world.folder / "src"), "--target", "copy")
            return kind, *where, "--hosts", "mac1,mac2", *delete
        if kind == "rdma.setup":
            rows = sorted(self.world.rig.links.items())
            links = [f"{host}:{port}:{ip.partition('/')[0]}" for (host, port), ip in rows]
            return kind, *(word for link in links for word in ("--node", link))
        waits = kind != "tp.unlock" and self.draw.random() < 0.3
        return (kind, *(("--lock-wait", "10") if waits else ()))

    def edit(self) -> None:
        """Another version of some files of the source, each known by its contents."""
        for name in self.draw.sample([f"f{number}" for number in range(6)], 2):
            text = f"{name} {self.draw.random()}\n" * self.draw.choice([1, 2000, 20000])
            new = self.world.folder / "new"
            new.write_text(text)
            new.replace(self.world.folder / "src" / name)
            self.versions.setdefault(name, set()).add(digest(text.encode()))

    def begin(self, kind: str) -> Command:
        command = self.world.begin(self.user(), *self.words(kind))
        if kind in (*STARTS, "tp.watch"):
            self.stopped = ""
        if kind in ("tp.stop", "tp.restart"):
            self.ready = frozenset()
        self.is_watch_over |= kind == "tp.stop"
        return command

    def end(self, command: Command) -> str:
        """Wait for a command, and note what holds from now on."""
        others = [each for each in self.commands if each is not command]
        was_superseded = self.world.is_superseded(command)
        code, _, err = self.world.end(command)
        self.commands = others
        acting = [each for each in others if not self.world.is_superseded(each)]
        # Who waits for its turn may start it afterwards.
        is_last = not was_superseded and not any(each.kind in STARTS for each in acting)
        if code == 0 and command.kind == "tp.stop" and is_last:
            self.stopped = command.user
        if code == 0 and command.kind in STARTS:
            self.stopped, self.was_started = "", True
            harmless = all(each.kind in ("dev.sync", "rdma.setup") for each in acting)
            there = frozenset(each.known for each in self.world.ranks())
            # It may have ended some steps ago, and a rank since then.
            if harmless and not self.watch and not self.is_cut and len(there) == 2:
                self.ready = there
        if code == 0 and command.kind == "dev.sync":
            self.synced |= set(self.versions)
        said = err.strip().splitlines()[-1:] if code else []
        return f"exit {code} {' '.join(said)[:110]}"

    def break_ranks(self) -> None:
        self.ready = frozenset()


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


Do = Callable[[Model], str]


@dataclass(frozen=True)
class Rule:
    name: str
    weight: Callable[[Model], int]
    do: Do


RULES: list[Rule] = []


def rule(weight: int | Callable[[Model], int]) -> Callable[[Do], Do]:
    """A rule, and how often it is drawn beside the others: 0 where it can't be."""

    def add(do: Do) -> Do:
        fixed = weight
        often = fixed if callable(fixed) else lambda model: fixed
        RULES.append(Rule(do.__name__, often, do))
        return do

    return add


def step(model: Model) -> tuple[str, str]:
    """Draw a rule and do it: its name, and what was done."""
    (model.world.folder / "light" / "load.shut").unlink(missing_ok=True)
    weights = [each.weight(model) for each in RULES]
    (chosen,) = model.draw.choices(RULES, weights)
    return chosen.name, chosen.do(model)


def _kind(model: Model) -> str:
    (kind,) = model.draw.choices([*CALLS], [*CALLS.values()])
    return kind


# Commands.


@rule(lambda model: 30 if not model.commands else 10)
def call(model: Model) -> str:
    """Somebody calls a command, and waits for its end."""
    command = model.begin(_kind(model))
    return f"{command}: {model.end(command)}"


@rule(lambda model: 12 if len(model.commands) < MOST else 0)
def begin(model: Model) -> str:
    model.commands.append(model.begin(_kind(model)))
    return str(model.commands[-1])


def _may_load(model: Model) -> bool:
    """Whether a start would come as far as its ranks."""
    in_the_way = model.commands, model.watch, model.is_cut, model.full, model.is_squatting
    return not any(in_the_way) and not model.world.ranks()


@rule(lambda model: 30 if _may_load(model) else 0)
def begin_slowly(model: Model) -> str:
    """A start whose ranks load while others look; in the next step they go on."""
    (model.world.folder / "light" / "load.shut").touch()
    model.commands.append(model.begin("tp.start"))
    end = time.monotonic() + 30
    while len(model.world.ranks()) < 2 and time.monotonic() < end:
        if model.commands[-1].poll(0.05) is not None:
            break
    return f"{model.commands[-1]}: {len(model.world.ranks())} ranks load"


@rule(lambda model: 8 if model.suspended(False) else 0)
def settle(model: Model) -> str:
    """All commands that are not held come to their end."""
    return "; ".join(f"{each}: {model.end(each)}" for each in model.suspended(False))


@rule(5)
def pause(model: Model) -> str:
    seconds = model.draw.choice([0.1, 0.3, 0.7, 1.5])
    time.sleep(seconds)
    return f"{seconds} s"


@rule(lambda model: 4 if model.suspended(False) else 0)
def kill_command(model: Model) -> str:
    command = model.draw.choice(model.suspended(False))
    command.ended_by = int(signal.SIGKILL)
    command.send(signal.SIGKILL)
    model.break_ranks()
    return f"{command}: {model.end(command)}"


@rule(lambda model: 3 if model.suspended(False) else 0)
def interrupt_command(model: Model) -> str:
    command = model.draw.choice(model.suspended(False))
    command.ended_by = int(model.draw.choice([signal.SIGINT, signal.SIGTERM, signal.SIGHUP]))
    command.send(command.ended_by)
    return f"{command} by {signal.Signals(command.ended_by).name}: {model.end(command)}"


@rule(lambda model: 4 if model.suspended(False) else 0)
def suspend_command(model: Model) -> str:
    command = model.draw.choice(model.suspended(False))
    command.send(signal.SIGSTOP)
    command.is_suspended = True
    return str(command)


@rule(lambda model: 7 if not model.suspended(True) and len(model.commands) < MOST else 0)
def close_lid(model: Model) -> str:
    """A command sleeps from when it has the cluster, or from a moment later."""
    command = model.begin(model.draw.choice(["tp.start", "tp.stop", "tp.restart"]))
    model.commands.append(command)
    late = model.draw.choice([0.0, 0.2, 0.8, 2.0])
    end = time.monotonic() + 60
    while command.poll() is None and time.monotonic() < end:
        if model.world.number(command):
            break
        time.sleep(0.02)
    time.sleep(late)
    command.send(signal.SIGSTOP)
    command.is_suspended = True
    return f"{command}, {late} s after it had number {model.world.number(command)}"


@rule(lambda model: 14 if model.suspended(True) else 0)
def take_over(model: Model) -> str:
    """Somebody takes the cluster from a command that sleeps, and acts."""
    unlock = model.begin("tp.unlock")
    said = [f"{unlock}: {model.end(unlock)}"]
    command = model.begin(model.draw.choice(["tp.start", "tp.start", "tp.stop", "tp.restart"]))
    said.append(f"{command}: {model.end(command)}")
    return "; ".join(said)


@rule(lambda model: 12 if model.suspended(True) else 0)
def resume_command(model: Model) -> str:
    """It wakes up, and comes to its end; without the cluster it changes nothing."""
    command = model.draw.choice(model.suspended(True))
    lost = model.world.is_superseded(command)
    model.break_ranks() if not lost else None
    command.send(signal.SIGCONT)
    command.is_suspended = False
    said = model.end(command)
    return f"{command}{' which lost the cluster' if lost else ''}: {said}"


@rule(lambda model: 0 if model.watch or not model.was_started else 40 if model.ready else 2)
def watch_on(model: Model) -> str:
    words = ("--restart", "--max-restarts", "5", "--interval", "0.5", "--lock-wait", "30")
    model.watch = model.world.begin(model.user(), "tp.watch", *words)
    model.is_watch_over = False
    model.break_ranks()
    return str(model.watch)


@rule(lambda model: 0 if not model.watch else 12 if model.is_watch_over else 2)
def watch_off(model: Model) -> str:
    command, model.watch = model.watch, None
    assert command
    command.ended_by = int(signal.SIGINT)
    command.send(signal.SIGINT)
    model.break_ranks()
    return f"{command}: {model.end(command)}"


# Processes.


@rule(lambda model: 8 if model.was_started else 0)
def kill_rank(model: Model) -> str:
    number, found = model.draw.choice("01"), model.world.ranks()
    chosen = [each for each in found if each.rank == number]
    model.break_ranks()
    model.world.kill(*chosen)
    return ", ".join(map(str, chosen)) or "there was none"


@rule(4)
def kill_ours(model: Model) -> str:
    """kill -9 of any process of ours on a host: a keeper, who waits for a rank, a login."""
    host, which = model.host(), model.draw.random()
    found = [
        each
        for each in model.world.processes()
        if each.host == host and each.uid == 501 and each.known not in model.world.protected
    ]
    chosen = sorted(found, key=lambda each: each.pid)[int(which * len(found)) :][:1]
    model.break_ranks()
    model.excused = True
    model.world.kill(*chosen)
    return ", ".join(map(str, chosen)) or "there was none"


# Hosts.


@rule(2)
def reboot(model: Model) -> str:
    host, world = model.host(), model.world
    model.break_ranks()
    model.excused = True
    world.killed |= {f"{each.host}.{each.pid}" for each in world.ranks()}
    world.rig.reboot(host)
    model.is_squatting = model.is_squatting and host != "mac1"
    if host == "mac1":
        world.bystanders.pop("squatter", None)
    with mended(model):
        world.settle_bystanders(host)
    return host


@contextmanager
def mended(model: Model) -> Iterator[None]:
    """The hosts as another cluster's start needs them; then as before."""
    world, full = model.world, sorted(model.full)
    if model.is_cut:
        world.rig.mend("mac2", "en5")
    for host in full:
        world.free(host)
    for host in world.rig.names:
        world.wire(host)
    yield
    if model.is_cut:
        world.rig.cut("mac2", "en5")
    for host in full:
        world.fill(host)


@rule(lambda model: 12 if model.is_cut else 2)
def link(model: Model) -> str:
    """The cable between the hosts goes out, or in again."""
    model.is_cut = not model.is_cut
    (model.world.rig.cut if model.is_cut else model.world.rig.mend)("mac2", "en5")
    model.break_ranks()
    return "down" if model.is_cut else "up"


@rule(lambda model: 8 if model.full else 3)
def disk(model: Model) -> str:
    """The disk of a host's state is full, or has room again."""
    host = next(iter(sorted(model.full)), "") or model.host()
    is_full = host not in model.full
    (model.world.fill if is_full else model.world.free)(host)
    model.full ^= {host}
    return f"{host} {'full' if is_full else 'has room'}"


@rule(lambda model: 0 if model.commands or model.full else 8)
def fill_up(model: Model) -> str:
    """A disk fills up in the midst of what a command writes: a few files, or none, find room."""
    host, room = model.host(), model.draw.choice([0, 1, 2, 3, 5, 8])
    model.world.fill(host, room)
    model.break_ranks()
    command = model.begin(model.draw.choice(["tp.start", "tp.start", "tp.stop", "tp.restart"]))
    said = f"{host}, room for {room}: {command}: {model.end(command)}"
    model.world.free(host)
    return said


@rule(3)
def clock(model: Model) -> str:
    host, seconds = model.host(), model.draw.choice([-3600, 0, 3600, 86400])
    (model.world.folder / f"clock.{host}").write_text(f"{seconds}\n")
    return f"{host} {seconds:+} s"


@rule(lambda model: 12 if model.is_squatting else 2)
def squat(model: Model) -> str:
    """A bystander takes our HTTP port on rank 0's host, if it can, or goes again."""
    model.is_squatting = not model.is_squatting
    (model.world.squat if model.is_squatting else model.world.unsquat)()
    return "comes" if model.is_squatting else "goes"
