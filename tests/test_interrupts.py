"""The control machine goes: Ctrl-C, SIGTERM, a closed lid, SIGKILL, a network that is gone.

Whatever ends a command, and wherever it was: the lock is gone with it, tp.status tells the truth,
and tp.stop cleans up, from another control machine as well.
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import subprocess
import termios
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import layout
import pytest
from commands import Commands, RigCommands
from commands import commands as commands
from commands import gates as gates
from commands import real_commands as real_commands
from commands import rig_commands as rig_commands
from conftest import DEADLINE, Done, Inv, Sshd, below, processes, wait_for
from gates import COLLECT, LAUNCH, PREFLIGHT, RANK, Gates
from rig import Rig
from rig.network import PREFIX

INT, TERM, HUP, KILL = signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL
AT_ONCE = 8  # seconds, on a busy machine: what would else be waited for takes 10 and more
CODES = {INT: 130, TERM: 143, HUP: 129, KILL: -9}
Numbers = tuple[signal.Signals, ...]
ENDS: dict[str, Numbers] = {
    "Ctrl-C": (INT,),
    "Ctrl-C twice": (INT, INT),
    "SIGTERM": (TERM,),
    "SIGHUP": (HUP,),
    "SIGKILL": (KILL,),
}
# CI has time for some of these; `inv test.faults` runs them all.
IS_WHOLE = bool(os.environ.get("MLX_TP_ALL_FAULTS"))


def ends(*in_ci: str) -> pytest.MarkDecorator:
    """All ways to end a command, or those that CI has time for; twice where it is asked for."""
    chosen = {
        name: end
        for name, end in ENDS.items()
        if name in in_ci or (IS_WHOLE and name != "Ctrl-C twice")
    }
    return pytest.mark.parametrize("numbers", chosen.values(), ids=chosen)


Note = Callable[[str, str, "Numbers | str", Done, str], None]


@pytest.fixture
def note(record_property: Callable[[str, object], None]) -> Note:
    """For docs/reliability.md: `note(task, stage, numbers, done, after)`."""

    def write(task: str, stage: str, what: Numbers | str, done: Done, after: str) -> None:
        name = next((name for name, end in ENDS.items() if end == what), what)
        lines = [line for line in done.err.splitlines() if line.strip()] or [""]
        record_property("fault", f"{name} at the control machine")
        record_property("stage", f"{task}: {stage}")
        record_property("said", f"{task}\t{done.code}\t{lines[-1]}")
        record_property("after", after)

    return write


@dataclass(frozen=True)
class Stage:
    """Where a command is held: at a gate, after so many calls; then `more` words are awaited.

    `between` is what it says before a second Ctrl-C is sent. `after` is the server's state then,
    for each way of ending; a state alone for all of them.
    """

    gate: str
    skip: int = 0
    more: str = ""
    between: str = ""
    after: tuple[str, ...] = ("stopped",) * 5


UNDONE = "stopping what was started"
LEFT = "Ctrl-C again within 3 s stops it"
STAGES = {
    "preflight": Stage(PREFLIGHT),
    "before rank 0": Stage(
        LAUNCH, between=UNDONE, after=("stopped", "starting", "stopped", "stopped", "starting")
    ),
    "between ranks": Stage(
        LAUNCH, 1, between=UNDONE, after=("stopped", "ready", "stopped", "stopped", "ready")
    ),
    "waiting": Stage(
        RANK,
        more="rank 1 on 127.0.0.1: running",
        between=LEFT,
        after=("loading", "stopped", "loading", "loading", "loading"),
    ),
}


STARTS = [
    pytest.param(stage, numbers, id=f"{stage}, {name}")
    for stage in STAGES
    for name, numbers in ENDS.items()
    if IS_WHOLE or stage == "waiting" or name == "Ctrl-C"
]


@pytest.mark.parametrize(("stage", "numbers"), STARTS)
def test_start(commands: Commands, gates: Gates, stage: str, numbers: Numbers, note: Note) -> None:
    where = STAGES[stage]
    gates.shut(where.gate, after=where.skip)
    start = commands.start("ada", "tp.start")
    gates.wait_for(where.gate)
    start.until(where.more)
    start.send(numbers[0])
    if where.between and numbers[0] is not KILL:
        said = where.between if numbers[0] is INT or where.between is UNDONE else "left as it is"
        start.until(said)
    for number in numbers[1:]:
        start.send(number)
    # What is under way on a node goes on, whoever asked for it.
    if where.gate is not RANK:
        gates.open(where.gate)
    done = start.end(CODES[numbers[0]])
    assert "Traceback" not in done.err
    expected = where.after[list(ENDS.values()).index(numbers)]
    if numbers[0] is KILL or "ended at once" in done.err:
        # A script that was under way starts its rank.
        wait_for(lambda: state(commands) == expected)
    assert state(commands) == expected, done.err
    note("tp.start", stage, numbers, done, expected)
    clean_up(commands, gates)


def state(commands: Commands) -> str:
    return str(commands.inv.run("tp.status", "--json").json()["state"])


def clean_up(commands: Commands, gates: Gates) -> None:
    """What every control machine can do then: the lock is free, tp.stop stops all of it."""
    wait_for(lambda: not (commands.inv.home / layout.CLUSTER / "lock").exists())
    assert commands.run("bob", "tp.stop", "tp.status").out.splitlines()[-1].startswith("stopped")
    gates.open()
    wait_for(lambda: not processes(commands.inv.home))


@ends("Ctrl-C twice")
def test_start_at_its_health(
    real_commands: Commands, gates: Gates, numbers: Numbers, note: Note
) -> None:
    """The server is ready; its logs are being taken."""
    commands = real_commands
    commands.inv.env["INVOKE_TP_STOP_TIMEOUT"] = "1"
    gates.shut(COLLECT)
    start = commands.start("ada", "tp.start")
    gates.wait_for(COLLECT)
    start.until("ready after")
    start.send(numbers[0])
    if numbers[0] is not KILL:
        start.until(LEFT if numbers[0] is INT else "left as it is")
    gates.open(COLLECT)
    for number in numbers[1:]:
        start.send(number)
    done = start.end(CODES[numbers[0]])
    is_stopped = len(numbers) > 1
    expected = "stopped" if is_stopped else "ready"
    wait_for(lambda: state(commands) == expected)
    note("tp.start", "ready, taking its logs", numbers, done, expected)
    clean_up(commands, gates)


@ends("Ctrl-C", "SIGKILL")
@pytest.mark.parametrize("stage", ["before a signal", "in between"])
def test_stop(commands: Commands, gates: Gates, stage: str, numbers: Numbers, note: Note) -> None:
    """The ranks do not end by SIGTERM, so it is not over before it is interrupted."""
    gates.shut(RANK)
    gates.deafen()
    commands.run("ada", "tp.launch")
    if stage == "before a signal":
        gates.shut(PREFLIGHT)
    stop = commands.start("ada", "tp.stop", "--timeout", "600")
    if stage == "before a signal":
        gates.wait_for(PREFLIGHT)
    else:
        wait_for(lambda: gates.ignored)
    for number in numbers:
        stop.send(number)
    gates.open(PREFLIGHT)
    done = stop.end(CODES[numbers[0]])
    assert "Traceback" not in done.err
    assert ("inv tp.stop goes on" in done.err) == (numbers[0] is not KILL)
    # No rank has ended, and nobody says so.
    assert state(commands) == "loading"
    note("tp.stop", stage, numbers, done, "loading")
    commands.inv.env["INVOKE_TP_STOP_TIMEOUT"] = "1"
    clean_up(commands, gates)


def test_ctrl_c_twice_is_at_once(commands: Commands, gates: Gates) -> None:
    """Whatever the first one still waits for: here a node's script that is held."""
    gates.shut(LAUNCH)
    start = commands.start("ada", "tp.start")
    gates.wait_for(LAUNCH)
    start.send(INT)
    start.until(UNDONE)
    start.send(INT)
    done = start.end(130)  # with the gate still shut
    assert done.err.splitlines()[-1].startswith("ended at once, maybe half done: inv tp.status")
    gates.open(LAUNCH)
    wait_for(lambda: state(commands) != "stopped")
    clean_up(commands, gates)


@pytest.mark.parametrize("is_connected", [False, True], ids=["never connected", "under way"])
@pytest.mark.parametrize("task", ["tp.status", "tp.start"])
def test_ctrl_c_while_a_node_is_silent(
    light_remote: Inv, sshd: Sshd, task: str, is_connected: bool
) -> None:
    """It ends what has changed nothing within a second, whatever it waits for."""
    process = light_remote.start(task)
    if is_connected:
        wait_for(lambda: sshd.connections("mac2"), pause=0.005)
    interrupted_while_frozen(process, sshd, "mac2")


@pytest.mark.parametrize("task", ["tp.start", "tp.stop"])
def test_ctrl_c_while_rank_0_s_node_is_silent(light_remote: Inv, sshd: Sshd, task: str) -> None:
    """Its lock is given back as soon as the node can: nobody waits for that here."""
    folder = sshd.node_home("mac1") / layout.CLUSTER
    process = light_remote.start(task)
    wait_for(lambda: (folder / "fence").exists(), pause=0.005)
    interrupted_while_frozen(process, sshd, "mac1")
    wait_for(lambda: not (folder / "lock").exists())


def interrupted_while_frozen(process: subprocess.Popen[str], sshd: Sshd, node: str) -> None:
    """It waits for a node that says nothing, and Ctrl-C ends it at once."""
    sshd.freeze(node)
    try:
        time.sleep(1.5)
        assert process.poll() is None
        begun = time.monotonic()
        process.send_signal(INT)
        _, err = process.communicate(timeout=DEADLINE)
        assert time.monotonic() - begun < AT_ONCE
        assert process.returncode == 130, err
    finally:
        sshd.thaw(node)


@ends("Ctrl-C", "SIGKILL")
def test_while_it_waits_for_the_lock(commands: Commands, gates: Gates, numbers: Numbers) -> None:
    """Nothing of it is left on the node, and the holder notices nothing."""
    gates.shut(RANK)
    start = commands.start("ada", "tp.start")
    gates.wait_for(RANK)
    waits = commands.start("bob", "tp.stop", "--lock-wait", "600")
    waits.until("waiting up to 600 s for tp.start of ada")
    shells = below(waits.pid)
    assert shells
    for number in numbers:
        waits.send(number)
    waits.end(CODES[numbers[0]])
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in shells))
    gates.open(RANK)
    assert "healthy: a token" in start.end().err
    clean_up(commands, gates)


@ends("Ctrl-C", "SIGKILL")
def test_foreground(commands: Commands, gates: Gates, numbers: Numbers, note: Note) -> None:
    """It takes its ranks along; only SIGKILL leaves them, and they are known."""
    gates.shut(RANK)
    start = commands.start("ada", "tp.start", "--foreground", "--skip-checks")
    wait_for(lambda: len(rows(commands)) == 2)
    for number in numbers:
        start.send(number)
    done = start.end(CODES[numbers[0]])
    assert "Traceback" not in done.err
    expected = "loading" if numbers[0] is KILL else "stopped"
    assert state(commands) == expected
    note("tp.start --foreground", "its ranks run", numbers, done, expected)
    clean_up(commands, gates)


def rows(commands: Commands) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = commands.inv.run("tp.status", "--json").json()["ranks"]
    return [row for row in found if row["state"] == "running"]


def test_foreground_serves_and_is_stopped_from_elsewhere(commands: Commands) -> None:
    """Once it is ready its lock is free: a server that may run for days can be stopped."""
    start = commands.start("ada", "tp.start", "--foreground", "--skip-checks")
    start.until("ready:")
    assert not (commands.inv.home / layout.CLUSTER / "lock").exists()
    stopped = commands.run("bob", "tp.stop").out
    assert re.search(r"^stopped .*rank 0", stopped, re.MULTILINE)
    start.process.wait(DEADLINE)
    assert state(commands) == "stopped"


# A real terminal.


class Terminal:
    """A terminal of its own, with a command at it; what it shows is read all the time."""

    def __init__(self, commands: Commands, *words: str) -> None:
        self.master, slave = pty.openpty()
        self.shown = b""
        streams = {"stdin": slave, "stdout": slave, "stderr": slave}
        commands.inv.env |= {"NO_COLOR": "", "TERM": "xterm"}
        self.command = commands.start("ada", *words, **streams, preexec_fn=take_terminal)
        os.close(slave)
        self.is_closing = threading.Event()
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def press(self, keys: str) -> None:
        os.write(self.master, keys.encode())

    def until(self, words: str) -> None:
        try:
            wait_for(lambda: words.encode() in self.shown)
        except AssertionError as late:
            raise AssertionError(f"{late}; shown: {self.shown[-2000:]!r}") from None

    def close(self) -> None:
        """The kernel sends SIGHUP to all that are at it."""
        self.is_closing.set()
        self.reader.join()

    def _read(self) -> None:
        # Who is in a read keeps the terminal open: it is this thread that closes it.
        with os.fdopen(self.master, "rb", buffering=0), suppress(OSError):
            while not self.is_closing.is_set():
                if select.select([self.master], [], [], 0.05)[0]:
                    self.shown += os.read(self.master, 4096)


def take_terminal() -> None:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


@pytest.mark.parametrize("is_twice", [False, True], ids=["once", "twice"])
def test_ctrl_c_at_a_terminal(commands: Commands, gates: Gates, is_twice: bool) -> None:
    """Ctrl-C goes to all processes at the terminal: what runs on this node is not among them."""
    gates.shut(RANK)
    terminal = Terminal(commands, "tp.start")
    terminal.until("loading:")
    terminal.press("\x03")
    terminal.until(LEFT)
    if is_twice:
        terminal.press("\x03")
        terminal.until("stopping it")
    terminal.command.end(130)
    assert state(commands) == ("stopped" if is_twice else "loading")
    clean_up(commands, gates)


@pytest.mark.parametrize("stage", ["between ranks", "waiting"])
def test_terminal_that_is_closed(commands: Commands, gates: Gates, stage: str) -> None:
    """Nobody reads what is said any more; all is done that would have been done."""
    where = STAGES[stage]
    gates.shut(where.gate, after=where.skip)
    terminal = Terminal(commands, "tp.start")
    gates.wait_for(where.gate)
    if stage == "waiting":
        terminal.until("loading:")
    terminal.close()
    if stage == "waiting":
        terminal.command.end(129)
        assert state(commands) == "loading"
    else:
        wait_for(lambda: not rows(commands))
        gates.open(LAUNCH)
        terminal.command.end(129)
        assert state(commands) == "stopped"
    clean_up(commands, gates)


def test_nohup(commands: Commands, gates: Gates) -> None:
    """Who ignores SIGHUP goes on."""
    gates.shut(RANK)
    start = commands.start("ada", "tp.start", preexec_fn=ignore_hangup)
    start.until("rank 1 on 127.0.0.1: running")
    start.send(HUP)
    gates.open(RANK)
    assert "healthy: a token" in start.end().err


def ignore_hangup() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


# Other machines.


@pytest.fixture
def elsewhere(tmp_path: Path) -> Callable[[Inv], Inv]:
    """Another control machine: with another home, and so with nothing of the first one's."""
    home = tmp_path / "elsewhere"
    (home / "logs").mkdir(parents=True)
    return lambda inv: replace(inv, home=home)


@ends("Ctrl-C", "SIGKILL")
def test_another_control_machine(
    rig_commands: RigCommands,
    gates: Gates,
    elsewhere: Callable[[Inv], Inv],
    numbers: Numbers,
) -> None:
    commands, rig = rig_commands()
    other = elsewhere(commands.inv)
    gates.shut(RANK)
    start = commands.start("ada", "tp.start")
    start.until("rank 1 on mac2: running")
    start.send(numbers[0])
    if numbers[0] is not KILL:
        start.until(LEFT if numbers[0] is INT else "left as it is")
    gates.open(COLLECT)
    for number in numbers[1:]:
        start.send(number)
    start.end(CODES[numbers[0]])
    wait_for(lambda: not has_lock(rig))
    status = other.run("tp.status", "--json").json()
    assert status["state"] == ("stopped" if len(numbers) > 1 else "loading")
    if len(numbers) == 1:
        assert [row["host"] for row in status["ranks"]] == ["mac1", "mac2"]
        gates.open(RANK)
        other("tp.wait")
        assert other("tp.status", "--json").json()["state"] == "ready"
        assert re.search(r"^stopped +mac2 +rank 1", other("tp.stop").out, re.MULTILINE)
    assert other("tp.status").out.startswith("stopped")


def has_lock(rig: Rig) -> bool:
    return rig.run("mac1", "[ -d ~/.mlx-tp/default/lock ]", check=False).returncode == 0


@pytest.mark.parametrize(
    "hosts",
    [("mac1", "mac2"), ("mac1",), ("mac2",)] if IS_WHOLE else [("mac1", "mac2")],
    ids=" ".join,
)
def test_network_gone_and_back(
    rig_commands: RigCommands, gates: Gates, hosts: tuple[str, ...], note: Note
) -> None:
    """Packets to all nodes, or to one, are dropped while ranks start: unknown is not dead."""
    commands, rig = rig_commands()
    gates.shut(RANK)
    start = commands.start("ada", "tp.start")
    start.until("rank 1 on mac2: running")
    for host in hosts:
        wire(rig, host, "down")
    try:
        for host in hosts:
            start.until(f"rank {rig.names.index(host)} on {host}: unknown")
    finally:
        for host in hosts:
            wire(rig, host, "up")
    gates.open(RANK)
    done = start.end()
    assert "healthy: a token" in done.err
    assert not has_lock(rig)
    assert commands.inv("tp.status", "--json").json()["state"] == "ready"
    note("tp.start", "waiting", f"network to {' and '.join(hosts)} gone and back", done, "ready")


def wire(rig: Rig, host: str, way: str) -> None:
    """Take down, or up, the management wire of a host."""
    name = f"{PREFIX}{rig.number}m{rig.names.index(host)}"
    subprocess.run(["ip", "link", "set", name, way], check=True)


@pytest.mark.parametrize("host", ["mac1", "mac2"] if IS_WHOLE else ["mac1"])
def test_connection_lost(rig_commands: RigCommands, gates: Gates, host: str) -> None:
    """sshd and all its sessions die while ranks start: they are found again when it is back."""
    commands, rig = rig_commands()
    gates.shut(RANK)
    start = commands.start("ada", "tp.start")
    start.until("rank 1 on mac2: running")
    rig.ssh_off(host)
    rig.run(host, "pkill -x sshd", check=False, root=True)
    start.until(f"rank {rig.names.index(host)} on {host}: unknown")
    # With its connection to rank 0's node goes the lock, and with the other one's it does not.
    if host == "mac1":
        wait_for(lambda: not has_lock(rig))
    assert has_lock(rig) == (host != "mac1")
    rig.ssh(host)
    gates.open(RANK)
    assert "healthy: a token" in start.end().err
    assert commands.inv("tp.status", "--json").json()["state"] == "ready"
