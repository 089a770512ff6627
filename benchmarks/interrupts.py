"""Ctrl-C: how long until a command has ended, or says what it does now, at each stage of it."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

from .farm import Farm, farm, until
from .measure import Result, Row

TIMES = 3
SILENT = {  # what waits for a node that says nothing, and for which
    "tp.status": "node2",
    "tp.start": "node2",
    "tp.stop": "node1",  # which has the lock
}
LOOKS = {  # what looks at a server that is ready, and what it has shown by then
    "tp.watch": "ready",
    "tp.top --json": "{",
    "tp.logs --follow": "rank 0",
}
PRESS = "Ctrl-C again within 3 s stops it"

from commands import Command, Commands, gated  # noqa: E402
from conftest import LOCAL, clean_up, light_cluster  # noqa: E402
from gates import LAUNCH, PREFLIGHT, RANK, Gates  # noqa: E402


def run() -> Result:
    samples: dict[str, list[float]] = {}
    with farm(2) as nodes:
        for _ in range(TIMES):
            for what, seconds in (*_silent(nodes), *_looks(nodes)):
                samples.setdefault(what, []).append(seconds)
    with farm(1) as nodes, _held(nodes) as (commands, gates):
        for _ in range(TIMES):
            for what, seconds in _stages(commands, gates):
                samples.setdefault(what, []).append(seconds)
    return Result([Row(what, "", each, kind="most", goal=1) for what, each in samples.items()])


Sample = tuple[str, float]


def _silent(nodes: Farm) -> Iterator[Sample]:
    commands = Commands(nodes.inv)
    nodes.use_stub(nodes.names)
    for words, node in SILENT.items():
        nodes.sshd.freeze(node)
        command = commands.start("ada", *words.split())
        time.sleep(2)
        yield f"{words}, a node is silent", _pressed(command)
        nodes.sshd.thaw(node)
    commands.down()


def _looks(nodes: Farm) -> Iterator[Sample]:
    commands = Commands(nodes.inv)
    nodes.inv("tp.start")
    for words, shown in LOOKS.items():
        command = commands.start("ada", *words.split())
        command.until(shown)
        yield words, _pressed(command)
    nodes.inv("tp.stop", "--order", "all")
    commands.down()


@contextmanager
def _held(nodes: Farm) -> Iterator[tuple[Commands, Gates]]:
    """Commands of a cluster on this machine, which gates hold where it is asked for."""
    inv = nodes.inv
    for path in (inv.home / "model").iterdir():
        path.unlink()
    (inv.home / "model").rmdir()
    inv.env["INVOKE_TP_HOSTFILE"] = str(light_cluster(inv, LOCAL))
    gates = Gates(inv.home / "gates")
    with contextmanager(gated)(inv, gates) as commands:
        yield commands, gates
    clean_up(inv)


def _stages(commands: Commands, gates: Gates) -> Iterator[Sample]:
    start = _at(commands, gates, PREFLIGHT)
    yield "tp.start, its checks", _pressed(start)
    gates.open()
    start = _at(commands, gates, LAUNCH, 1)
    yield "tp.start, between ranks: it undoes it", _pressed(start, "stopping what was started")
    yield "twice: it has ended", _pressed(start)
    gates.open()
    _stop(commands)
    start = _at(commands, gates, RANK)
    start.until("loading")
    waits = commands.start("bob", "tp.stop", "--lock-wait", "600")
    waits.until("waiting up to")
    yield "tp.stop, waits for the lock", _pressed(waits)
    yield "tp.start, ranks load: it asks", _pressed(start, PRESS)
    yield "twice: it stops them", _pressed(start, "stopping it")
    start.process.wait(60)
    gates.deafen()
    _at(commands, gates, RANK).until("loading")
    stop = commands.start("bob", "tp.unlock", "tp.stop", "--timeout", "600")
    until(lambda: gates.ignored)
    yield "tp.stop, a rank does not end", _pressed(stop)
    gates.open()
    (gates.folder / f"{RANK}.deaf").unlink()
    commands.run("bob", "tp.stop", "--force")
    for file in gates.folder.glob(f"{RANK}.ignored.*"):
        file.unlink()


def _at(commands: Commands, gates: Gates, gate: str, after: int = 0) -> Command:
    """A start that stands before a gate."""
    for name in (PREFLIGHT, LAUNCH, RANK):
        (gates.folder / f"{name}.arrived").unlink(missing_ok=True)
    gates.shut(gate, after)
    start = commands.start("ada", "tp.start")
    gates.wait_for(gate)
    return start


def _stop(commands: Commands) -> None:
    """What is left of a start that was interrupted, as soon as that has given back its lock."""
    commands.run("bob", "tp.stop", "--lock-wait", "60")


def _pressed(command: Command, words: str = "") -> float:
    """Seconds from Ctrl-C until it says so, or else until it has ended."""
    begun = time.monotonic()
    command.send(signal.SIGINT)
    until(lambda: command.has_said(words) if words else command.is_over)
    return time.monotonic() - begun
