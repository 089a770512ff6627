"""Nodes to measure on: the tests' own OpenSSH servers on loopback, and `inv` for them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from .measure import ROOT

sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
sys.modules.pop("tasks", None)

from conftest import Inv, Sshd, free_ports, own_servers, wait_for  # noqa: E402
from conftest import hostfile as write_hostfile  # noqa: E402

until = partial(wait_for, pause=0.005)
STUB = ROOT / "benchmarks" / "rank.py"


@dataclass
class Farm:
    """`count` nodes, node1.., behind sshd, and `inv` in a home whose ssh knows them."""

    home: Path
    sshd: Sshd
    inv: Inv
    model: Path

    @property
    def names(self) -> list[str]:
        return list(self.sshd.names)

    @property
    def ssh(self) -> list[str]:
        """OpenSSH's client takes its user's home from the password file, not from HOME."""
        return ["ssh", "-F", str(self.sshd.folder / "config"), "-o", "BatchMode=yes"]

    def use(self, names: list[str], **more: Any) -> None:
        """From here on the cluster of `inv` is these nodes."""
        hosts = [{"ssh": name, "ips": [self.sshd.ips[name]]} for name in names]
        file = self.home / "hosts.json"
        words = {"python": sys.executable, **more}
        self.inv.env["INVOKE_TP_HOSTFILE"] = str(
            write_hostfile(file, hosts, self.model, self.inv.port, **words)
        )

    def told(self, words: str) -> tuple[float, list[str]]:
        """When `tp.start` said `words`, by this machine's clock, and all lines that it said."""
        when, lines = 0.0, []
        pipes: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
        with self.inv.start("tp.start", **pipes) as process:
            assert process.stderr
            for line in process.stderr:
                lines.append(line)
                if words in line:
                    when = when or time.time()
        assert when, f"{words!r} was not said: {''.join(lines)}"
        return when, lines

    def use_stub(self, names: list[str]) -> None:
        """Its ranks are stubs (rank.py), which load in moments."""
        engine = {"command": [str(STUB)], "ready": "/health", "model": "stub"}
        tp = {"engines": {"stub": engine}, "cooldown": 0, "stop_timeout": 10}
        self.inv.config = self.home / "stub.json"
        self.inv.config.write_text(json.dumps({"tp": tp}))
        self.use(names, engine="stub", envs=[f"STUB={self.home}"])

    def have_run(self) -> None:
        """Stubs have run and are stopped: their logs are known."""
        self.use_stub(self.names)
        self.inv("tp.start")
        self.inv("tp.stop", "--order", "all")


@contextmanager
def farm(count: int, real: bool = False) -> Iterator[Farm]:
    """`real`: with the demo's tiny model, which can be served."""
    folder = Path(tempfile.mkdtemp(prefix="bench"))
    home = folder / "home"
    (home / "logs").mkdir(parents=True)
    model = home / "model"
    make_model(model, real)
    sshd = Sshd(home, tuple(f"node{number}" for number in range(1, count + 1)))
    try:
        sshd.up()
        # Only now: the ports of the servers that are up are not free any more.
        inv = Inv(home, *_ports(count))
        inv.config = own_servers(home / "config.json", model)
        made = Farm(home, sshd, inv, model)
        made.use(made.names)
        yield made
    finally:
        sshd.down()
        shutil.rmtree(folder, ignore_errors=True)


def make_model(folder: Path, real: bool) -> None:
    folder.mkdir()
    if real:
        from tasks.commands.dev import tiny_model

        tiny_model.make(folder)
        return
    (folder / "config.json").write_text(json.dumps({"model_type": "llama"}))
    (folder / "model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")


def _ports(count: int) -> tuple[int, int]:
    first = free_ports(max(count, 2) + 8)
    return first, first + 1
