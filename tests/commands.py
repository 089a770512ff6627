"""Commands that run beside each other, on a cluster of the test's own with gates on its ways."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from conftest import DEADLINE, Done, Inv, light_cluster, wait_for
from gates import Gates
from rig import Rig

RigCommands = Callable[..., tuple["Commands", Rig]]


@dataclass
class Command:
    """A command that runs; what it writes goes to files, so that it can be read meanwhile."""

    process: subprocess.Popen[str]
    out: Path
    err: Path

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def is_over(self) -> bool:
        return self.process.poll() is not None

    def send(self, number: int) -> None:
        self.process.send_signal(number)

    def until(self, words: str) -> None:
        """Until it has said so, on stdout or stderr."""
        wait_for(lambda: self.is_over or self.has_said(words), 2 * DEADLINE)
        assert self.has_said(words), f"it never said {words!r}\n{self.err.read_text()}"

    def has_said(self, words: str) -> bool:
        return words in self.out.read_text() or words in self.err.read_text()

    def end(self, code: int = 0) -> Done:
        """Wait for its end, with this exit status."""
        self.process.wait(2 * DEADLINE)
        done = Done(self.process.returncode, self.out.read_text(), self.err.read_text())
        assert done.code == code, f"exit {done.code}\n{done.out}\n{done.err}"
        return done


class Commands:
    """Commands that run beside each other, on control machines of different users."""

    def __init__(self, inv: Inv) -> None:
        self.inv = inv
        self.started: list[Command] = []

    def of(self, user: str) -> Inv:
        return replace(self.inv, env={**self.inv.env, "LOGNAME": user})

    def start(self, user: str, *words: str, **more: Any) -> Command:
        base = self.inv.home / f"command{len(self.started)}"
        out, err = base.with_suffix(".out"), base.with_suffix(".err")
        with out.open("w") as to_out, err.open("w") as to_err:
            streams = {"stdout": to_out, "stderr": to_err, "start_new_session": True, **more}
            self.started.append(Command(self.of(user).start(*words, **streams), out, err))
        return self.started[-1]

    def run(self, user: str, *words: str, code: int = 0) -> Done:
        return self.of(user)(*words, code=code)

    def down(self) -> None:
        for command in self.started:
            if not command.is_over:
                command.process.kill()
            command.process.wait(DEADLINE)


@pytest.fixture
def gates(home: Path) -> Iterator[Gates]:
    gates = Gates(home / "gates")
    yield gates
    gates.open()


def gated(inv: Inv, gates: Gates) -> Iterator[Commands]:
    """With gates on the way to its ranks, which are on this machine."""
    inv.env["PATH"] = f"{gates.folder}:{os.environ['PATH']}"
    inv.env["INVOKE_TP_PYTHON"] = gates.python
    commands = Commands(inv)
    yield commands
    gates.open()
    commands.down()


@pytest.fixture
def commands(light: Inv, gates: Gates) -> Iterator[Commands]:
    """For a cluster of two light ranks on this machine, with gates on the way to them."""
    yield from gated(light, gates)


@pytest.fixture
def real_commands(served: Inv, gates: Gates) -> Iterator[Commands]:
    """The same with ranks of mlx_lm."""
    yield from gated(served, gates)


@pytest.fixture
def rig_commands(inv: Inv, gates: Gates, macs: Callable[..., Rig]) -> Iterator[RigCommands]:
    """The same for two test hosts, each a machine of its own: `rig_commands(**options)`."""
    made = []

    def get(**options: Any) -> tuple[Commands, Rig]:
        rig = macs(**options)
        hosts = [{"ssh": name, "ips": [rig.address(name)]} for name in rig.names]
        inv.env["INVOKE_TP_HOSTFILE"] = str(light_cluster(inv, hosts, python=gates.python))
        made.append(Commands(inv))
        return made[-1], rig

    yield get
    gates.open()
    for commands in made:
        commands.down()
