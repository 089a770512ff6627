"""A cluster of two light ranks on rig hosts that a test holds at a stage of its life and breaks."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import layout
import waits
from conftest import DEADLINE, ROOT, Done, Inv, hostfile, wait_for
from rig import Rig
from rig.machine import PATH

PREFLIGHT, BEFORE, BETWEEN = "preflight", "before rank 0", "between ranks"
LOADING, READY, STOPPING = "while loading", "while ready", "while stopping"
STAGES = (PREFLIGHT, BEFORE, BETWEEN, LOADING, READY, STOPPING)
PROGRAM = ROOT / "tests" / "light_rank.py"
STRANGER = "sleep 86399"  # lives on every host, is nobody's rank, and must live on

# The command of a node's script that is held, so that a run stands at this stage, and its words: rm
# takes away what the layout before knew of ranks, before a run is recorded.
_GATES = {BEFORE: "rm", BETWEEN: "dirname"}
_WORDS = {"rm": "*/last.json", "dirname": "*"}


def gates(folder: Path) -> dict[str, str]:
    """Commands for the hosts' PATH that wait while `COMMAND.HOST.shut` is in `folder`."""
    folder.mkdir(exist_ok=True)
    for name in _GATES.values():
        gate = folder / name
        gate.write_text(
            f'#!/bin/sh\ng={gate}.$(uname -n)\ncase "$*" in {_WORDS[name]})\n'
            '  if [ -e "$g.shut" ]; then : >"$g.arrived"; fi\n'
            f'  while [ -e "$g.shut" ]; do sleep 0.05; done ;;\nesac\n'
            f'exec {shutil.which(name)} "$@"\n'
        )
        gate.chmod(0o755)
    return {"PATH": f"{folder}:{PATH}"}


class Scene:
    """`inv` for two hosts; the fault is of `victim`, and the other host is held meanwhile."""

    def __init__(self, inv: Inv, rig: Rig, folder: Path, gate_folder: Path) -> None:
        self.inv, self.rig, self.folder, self.gates = inv, rig, folder, gate_folder
        self.victim, self.other = "mac2", "mac1"
        self.undo: list[Callable[[], Any]] = []
        self.started: list[subprocess.Popen[str]] = []
        self.data: dict[str, Any] = {}
        self.model = folder / "model"
        self.model.mkdir()
        for path in (folder.parent, folder, folder / "logs", gate_folder):
            path.chmod(0o777)  # the hosts' user is not root
        (self.model / "config.json").write_text("{}")
        (self.model / "model.safetensors").touch()
        for path in gate_folder.glob("*.shut"):
            path.unlink()
        for (host, port), address in rig.links.items():
            ip = address.partition("/")[0]
            rig.run(host, f"ifconfig {port} inet {ip} netmask 255.255.255.252", root=True)
        for name in rig.names:
            rig.run(name, f"{STRANGER} >/dev/null 2>&1 &")
        self.write()

    def write(self, **more: Any) -> None:
        """The hostfile and the configuration, with settings of `tp` in `more`."""
        hosts: list[dict[str, Any]] = [
            {"ssh": name, "ips": [self.rig.ring_address(name)], **self.data.get(name, {})}
            for name in self.rig.names
        ]
        words = {"engine": "light", "python": sys.executable, "envs": [f"LIGHT_RANK={self.folder}"]}
        file = self.folder / "hosts.json"
        hostfile(file, hosts, self.model, self.inv.port, **words)
        engine = {"command": [str(PROGRAM)], "ready": "/v1/models", "model": "light"}
        tp = {
            "engines": {"light": engine},
            "timeout": 60,
            "stop_timeout": 20,
            "cooldown": 0,
            **more,
        }
        self.inv.config = self.folder / "config.json"
        self.inv.config.write_text(json.dumps({"tp": tp}))
        self.inv.env["INVOKE_TP_HOSTFILE"] = str(file)
        self.inv.env["INVOKE_TP_SSH_CONFIG"] = str(self.rig.ssh_config)

    def serve_for_real(self) -> None:
        """Ranks of mlx_lm with the tiny model, in the place of light ones."""
        from tasks.commands.dev import tiny_model

        tiny_model.make(self.model)
        self.write(engines={"mlx-lm": {"process": f"-m mlx_lm server .*{self.model}"}})
        file = Path(self.inv.env["INVOKE_TP_HOSTFILE"])
        data = json.loads(file.read_text())
        more = {"engine": "mlx-lm", "envs": [*data.get("envs", ()), *waits.envs()]}
        file.write_text(json.dumps({**data, **more}))

    # Commands.

    def begin(self, *words: str) -> subprocess.Popen[str]:
        process = self.inv.start(*words)
        self.started.append(process)
        return process

    def end(self, process: subprocess.Popen[str]) -> Done:
        out, err = process.communicate(timeout=DEADLINE)
        return Done(process.returncode, out, err)

    def run(self, words: str) -> Done:
        return self.inv.run(*words.split())

    # Stages.

    def arrive(self, stage: str) -> subprocess.Popen[str] | None:
        """Bring the cluster to a stage; the command that is held there, if there is one."""
        if stage == PREFLIGHT:
            return None
        if stage in _GATES:
            return self._held_in_script(stage)
        if stage == LOADING:
            return self._held_in_rank("load", "tp.start")
        started = self.run("tp.start")
        assert started.code == 0, f"{started.out}\n{started.err}"
        # A rank that is held must not be killed before the fault is there.
        stop = "tp.stop --timeout 40"
        return self._held_in_rank("term", stop) if stage == STOPPING else None

    def _held_in_script(self, stage: str) -> subprocess.Popen[str]:
        gate = self.gates / f"{_GATES[stage]}.{self.other}"
        (gate.parent / f"{gate.name}.arrived").unlink(missing_ok=True)
        (gate.parent / f"{gate.name}.shut").touch()
        process = self.begin("tp.start")
        wait_for(lambda: (gate.parent / f"{gate.name}.arrived").exists() or process.poll())
        return process

    def _held_in_rank(self, point: str, task: str) -> subprocess.Popen[str]:
        (self.folder / f"{point}.shut").touch()
        process = self.begin(*task.split())
        count = 1 if point == "term" else 2  # rank 0 is the first to be told to end
        wait_for(lambda: len(list(self.folder.glob(f"{point}.*.arrived"))) >= count)
        return process

    def release(self) -> None:
        for folder in (self.folder, self.gates):
            for path in folder.glob("*.shut"):
                path.unlink()

    # What is there, and what is done to it.

    def rank(self, point: str, code: str, rank: int = 1) -> None:
        """Let a rank do `code` at one of its points."""
        new = self.folder / "new"
        new.write_text(code)
        new.rename(self.folder / f"{point}.{rank}.py")

    def pid(self, rank: int = 1) -> int:
        """The pid of a rank as its host numbers it, from its record."""
        return int(
            self.rig.run(
                self.rig.names[rank], f"{layout.NEWEST} && head -n 1 rank-{rank}.pid"
            ).stdout
        )

    def left(self, host: str) -> list[str]:
        """Command lines of ranks that live on a host."""
        shown = self.rig.run(host, "ps axww -o stat=,command=").stdout.splitlines()
        rows = [line.split(None, 1) for line in shown]
        is_rank = re.compile(rf"\S*python\S* ({re.escape(str(PROGRAM))}|-m mlx_lm) ")
        return [row[1] for row in rows if not row[0].startswith("Z") and is_rank.match(row[-1])]

    def strangers(self, host: str) -> int:
        return self.rig.run(host, "ps axww -o command=").stdout.splitlines().count(STRANGER)

    def heal(self) -> None:
        while self.undo:
            self.undo.pop()()
        for path in self.folder.glob("*.py"):
            path.unlink()

    def close(self) -> None:
        self.release()
        self.heal()
        for process in self.started:
            if process.poll() is None:
                process.kill()
            process.communicate()
