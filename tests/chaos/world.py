"""The world of a walk: two hosts, two control machines, bystanders, and what is really there."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import layout
from conftest import ROOT, Inv, free_ports, hostfile
from rig import Rig, names, two_nodes
from rig.machine import PATH, identity, is_alive
from rig.strict import GID, UID

PROGRAM = str(ROOT / "tests" / "light_rank.py")
LIMIT = 240.0  # seconds in which any command that is not held ends, on a machine that is busy too
SETTLE = 40.0  # seconds in which what is told must come to be what is there
SLEEPER = "sleep 86399"
SQUATTER = (
    "use IO::Socket::INET; $s = IO::Socket::INET->new("
    "LocalPort => shift, Listen => 5, ReuseAddr => 1) or exit 1; sleep 86397"
)
# A clock that is wrong, where `clock.HOST` says by how many seconds.
DATE = """#!/bin/sh
f={}/clock.$(uname -n)
[ "$*" = +%s ] && [ -e "$f" ] || exec /usr/bin/date "$@"
echo $(($(/usr/bin/date +%s) + $(cat "$f")))
"""


class BrokenError(Exception):
    """An invariant that does not hold: its name, and what was seen."""

    def __init__(self, invariant: str, what: str) -> None:
        super().__init__(f"{invariant}: {what}")
        self.invariant = invariant


@dataclass(frozen=True)
class Process:
    """A process of a host; `known` is what no later process has, `pid` as its host numbers it."""

    host: str
    known: str
    pid: int
    uid: int
    command: tuple[str, ...]
    mark: str
    rank: str

    @property
    def outer(self) -> int:
        return int(self.known.partition(":")[0])

    @property
    def run(self) -> str:
        return self.mark.rpartition(".")[0]

    def __str__(self) -> str:
        return f"{self.host} pid {self.pid} ({' '.join(self.command)[:60]})"


@dataclass
class Command:
    """A command of somebody's that was begun, and was not waited for yet."""

    number: int
    user: str
    words: tuple[str, ...]
    process: subprocess.Popen[str]
    out: IO[str]
    err: IO[str]
    is_suspended: bool = False
    ended_by: int = 0
    awake: float = field(default_factory=time.monotonic)

    @property
    def kind(self) -> str:
        return self.words[0]

    def __str__(self) -> str:
        return f"{' '.join(self.words)} of {self.user}"

    def poll(self, seconds: float = 0) -> int | None:
        """Its exit status; None if it has not ended within so many seconds."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self.process.wait(seconds)
        return None

    def send(self, number: int) -> None:
        if self.poll() is None:
            self.process.send_signal(number)

    def said(self) -> tuple[str, str]:
        """What it has written, to stdout and stderr."""
        texts = []
        for file in (self.out, self.err):
            file.seek(0)
            texts.append(file.read())
            file.close()
        return texts[0], texts[1]


class World:
    """What there is; `draws` is made by whoever walks."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for path in (folder, *(folder / name for name in ("bin", "light", "src"))):
            path.mkdir(exist_ok=True)
            path.chmod(0o777)  # the hosts' user is not root
        (folder / "bin" / "date").write_text(DATE.format(folder))
        (folder / "bin" / "date").chmod(0o755)
        self.port = free_ports(16)
        self.http = {"ours": self.port, "second": self.port + 4, "lone": self.port + 8}
        environment = {"PATH": f"{folder / 'bin'}:{PATH}"}
        self.rig = Rig(
            Path(tempfile.mkdtemp(dir=folder)) / "rig",
            names(2),
            two_nodes(),
            bridged=False,
            share=[folder],
            environment=environment,
        )
        self.begun: list[Command] = []
        self.bystanders: dict[str, list[str]] = {}
        self.protected: set[str] = set()
        self.killed: set[str] = set()  # what we have killed ourselves, by `known`
        self.spaces: dict[str, str] = {}
        self.fences: dict[str, int] = {}  # command -> the highest number that it had
        self.problems: list[BrokenError] = []
        self._over = threading.Event()
        self._seen: dict[str, tuple[int, str]] = {}
        self._watcher = threading.Thread(target=self._watch, daemon=True)

    # Up and down.

    def up(self) -> None:
        self.rig.up()
        for name in self.rig.names:
            first = self.rig.machines[name].pid
            self.spaces[str(Path(f"/proc/{first}/ns/pid").readlink())] = name
            self._mount(name)
            self.wire(name)
        self.clusters = {name: self._cluster(name) for name in ("ours", "second")}
        self.settle_bystanders(*self.rig.names)
        self._watcher.start()

    def down(self) -> None:
        self._over.set()
        self.rig.down()

    def _mount(self, host: str) -> None:
        """The state has a disk of its own, to be filled."""
        place = f"{self.rig.home(host)}/{layout.STATE}"
        self.rig.run(host, f"mkdir -p {place}")
        line = f"mount -t tmpfs -o mode=700,uid={UID},gid={GID},size=6m tmpfs {place}"
        self.rig.run(host, line, root=True)

    def wire(self, host: str) -> None:
        for (name, port), address in self.rig.links.items():
            if name == host:
                ip = address.partition("/")[0]
                line = f"ifconfig {port} inet {ip} netmask 255.255.255.252"
                self.rig.run(host, line, root=True)

    def _cluster(self, name: str) -> dict[str, str]:
        """Its hostfile and configuration, which both control machines have."""
        model = self.folder / f"model-{name}"
        model.mkdir()
        (model / "config.json").write_text("{}")
        (model / "model.safetensors").touch()
        hosts = [{"ssh": host, "ips": [self.rig.ring_address(host)]} for host in self.rig.names]
        path = self.folder / f"{name}.json"
        envs = [f"LIGHT_RANK={self.folder / 'light'}"]
        words: dict[str, Any] = {"engine": "light", "python": sys.executable, "envs": envs}
        hostfile(path, hosts, model, self.http[name], **words)
        engine = {"command": [PROGRAM], "ready": "/v1/models", "model": "light"}
        tp = {
            "engines": {"light": engine},
            "timeout": 20,
            "stop_timeout": 20,
            "cooldown": 0,
            "cluster": "default" if name == "ours" else name,
        }
        config = self.folder / f"{name}.config.json"
        config.write_text(json.dumps({"tp": tp}))
        return {"hostfile": str(path), "config": str(config), "text": path.read_text()}

    # Who acts.

    def inv(self, user: str, cluster: str = "ours") -> Inv:
        home = self.folder / user.rstrip("0123456789")
        for path in (home, home / "logs"):
            path.mkdir(exist_ok=True)
            path.chmod(0o777)
        env = {
            "LOGNAME": user,
            "INVOKE_TP_HOSTFILE": self.clusters[cluster]["hostfile"],
            "INVOKE_TP_SSH_CONFIG": str(self.rig.ssh_config),
        }
        port = self.http[cluster]
        config = Path(self.clusters[cluster]["config"])
        return Inv(home, port, port + 1, env=env, config=config)

    def begin(self, user: str, *words: str, cluster: str = "ours") -> Command:
        """A command of a user whose name is this command's own: `ada12`."""
        number = len(self.begun) + 1
        inv = self.inv(f"{user}{number}", cluster)
        out, err = tempfile.TemporaryFile("w+"), tempfile.TemporaryFile("w+")  # noqa: SIM115
        process = inv.start(*words, stdout=out, stderr=err)
        self.begun.append(Command(number, f"{user}{number}", words, process, out, err))
        return self.begun[-1]

    def end(self, command: Command) -> tuple[int, str, str]:
        """Wait for it; it must end, and in order."""
        code = command.poll(LIMIT)
        out, err = command.said()
        if code is None:
            command.send(signal.SIGKILL)
            said = f"{command}: not within {LIMIT:g} s\n{out}\n{err}"
            raise BrokenError("every command ends", said)
        ended = (-command.ended_by, 128 + command.ended_by) if command.ended_by else ()
        if "Traceback" in err or code not in (0, 3, 4, 5, *ended):
            raise BrokenError("no error is unknown", f"{command}: exit {code}\n{out}\n{err}")
        return code, out, err

    def run(self, user: str, *words: str, cluster: str = "ours") -> tuple[int, str, str]:
        return self.end(self.begin(user, *words, cluster=cluster))

    def fill(self, host: str, files: int = 0) -> None:
        """Leave no byte on the disk of a host's state, or room for so many small files."""
        full = f"{self.rig.home(host)}/{layout.STATE}/full"
        cut = f"truncate -s -$(({files} * $(getconf PAGESIZE))) {full}"
        self.rig.run(host, f"cat /dev/zero >{full} 2>/dev/null; {cut}")

    def free(self, host: str) -> None:
        self.rig.run(host, f"rm -f {self.rig.home(host)}/{layout.STATE}/full")

    # Bystanders.

    def settle_bystanders(self, *hosts: str) -> None:
        """Start those of these hosts (anew, after a reboot) and write down who they are."""
        for host in hosts:
            log = shlex.quote(str(self.folder / f"{host}.lone.log"))
            lone = shlex.join(
                [sys.executable, PROGRAM, "--model", "/lone", "--port", str(self.http["lone"])]
            )
            light = shlex.quote(f"LIGHT_RANK={self.folder / 'light'}")
            self.rig.run(host, f"{SLEEPER} >/dev/null 2>&1 & env {light} {lone} >{log} 2>&1 &")
        for words in (("tp.stop",), ("tp.start",)):
            code, out, err = self.run("carl", *words, cluster="second")
            if code:
                raise BrokenError(
                    "another cluster goes its way", f"{words}: exit {code}\n{out}\n{err}"
                )
        second = f"{self.folder}/model-second"
        self.bystanders = {"squatter": self.bystanders.get("squatter", [])}
        for each in self.processes():
            text = " ".join(each.command)
            is_one = text == SLEEPER or "/lone" in text or second in each.command
            if is_one:
                self.bystanders.setdefault(text[:60], []).append(each.known)
            if each.uid == UID and not self.is_ours(each):
                self.protected.add(each.known)

    def squat(self) -> None:
        """Somebody takes our HTTP port, if it is free."""
        line = shlex.join(["perl", "-e", SQUATTER, str(self.http["ours"])])
        self.rig.run("mac1", f"{line} >/dev/null 2>&1 &")
        time.sleep(0.3)
        found = [each.known for each in self.processes() if SQUATTER in each.command]
        self.bystanders["squatter"] = found
        self.protected |= {*found}

    def unsquat(self) -> None:
        for known in self.bystanders.pop("squatter", []):
            if is_alive(known):
                os.kill(int(known.partition(":")[0]), signal.SIGKILL)

    # What is there.

    def processes(self) -> list[Process]:
        """All of the hosts' processes, as this machine sees them."""
        found = []
        for path in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError, IndexError, ValueError):
                host = self.spaces.get(str((path / "ns" / "pid").readlink()))
                command = (path / "cmdline").read_bytes().decode().split("\0")[:-1]
                known = identity(int(path.name))
                if not host or not command or not known:
                    continue
                env = dict(
                    line.partition("=")[::2]
                    for line in (path / "environ").read_text(errors="replace").split("\0")
                )
                status = (path / "status").read_text()
                pid = int(re.findall(r"^NSpid:.*\t(\d+)$", status, re.M)[0])
                uid = int(re.findall(r"^Uid:\t(\d+)", status, re.M)[0])
                mark = env.get("MLX_TP_RANK_OF", "")
                rank = env.get("MLX_RANK", "")
                found.append(Process(host, known, pid, uid, tuple(command), mark, rank))
        return found

    def is_ours(self, each: Process) -> bool:
        return f"{self.folder}/model-ours" in each.command

    def ranks(self) -> list[Process]:
        """Those of our cluster that live."""
        return [p for p in self.processes() if PROGRAM in p.command and self.is_ours(p) and p.mark]

    def home(self, host: str) -> Path:
        """A host's home, past ssh."""
        return Path(f"/proc/{self.rig.machines[host].pid}/root{self.rig.home(host)}")

    def state(self, host: str) -> Path:
        return self.home(host) / layout.CLUSTER

    def read(self, host: str, name: str) -> str | None:
        try:
            return (self.state(host) / name).read_text(errors="replace")
        except OSError:
            return None

    def kill(self, *found: Process) -> None:
        for each in found:
            self.killed.add(each.known)
            self.killed.add(f"{each.host}.{each.pid}")
            with contextlib.suppress(ProcessLookupError):
                os.kill(each.outer, signal.SIGKILL)

    # Who has it.

    def number(self, command: Command) -> int:
        """The highest number of a hold of this command's; 0 where it had none."""
        return self.fences.get(command.user, 0)

    @property
    def highest(self) -> int:
        return max((number for number, _ in self._seen.values()), default=0)

    def is_superseded(self, command: Command) -> bool:
        return 0 < self.number(command) < self.highest

    def _watch(self) -> None:
        """Look who has the cluster, and at files that must be whole, as often as it goes."""
        acted: dict[tuple[str, str], str] = {}
        while not self._over.wait(0.05):
            for host in self.rig.names:
                try:
                    self._look(host, acted)
                except BrokenError as broken:
                    self.problems.append(broken)
                except (OSError, RuntimeError):
                    if self._over.is_set():
                        return

    def _check_over(self, host: str, run: str) -> None:
        """A run that has just been written off has no rank any more."""
        for rank in self.ranks():
            if (rank.host, rank.run) == (host, run) and is_alive(rank.known):
                raise BrokenError("each rank is known", f"{rank}: its run is over, and it lives")

    def _look(self, host: str, acted: dict[tuple[str, str], str]) -> None:
        for path in self.state(host).glob("runs/*/ended"):
            run = path.parent.name
            if acted.setdefault((host, run), "") == "":
                acted[host, run] = "ended"
                self._check_over(host, run)
        before = self._seen.get(host, (0, ""))
        wanted = self.read(host, "wanted")
        if wanted is not None and acted.get((host, "wanted")) != wanted:
            match = re.match(r"(running|stopped) \S+ \d+ (\S+)@\S+\n", wanted)
            if not match:
                raise BrokenError("no file is torn", f"{host}: wanted is {wanted!r}")
            acted[host, "wanted"] = wanted
            number = self.fences.get(match[2], 0)
            if 0 < number < before[0]:
                what = f"{host}: {match[2]} (number {number}) has acted, {before} has the cluster"
                raise BrokenError("who lost the cluster does not act", what)
        text = self.read(host, "fence")
        if text is None:
            if before[0]:
                raise BrokenError(
                    "no file is lost", f"{host}: the fence is gone, it was {before[0]}"
                )
            return
        # Written in place, where a disk is full, the end of what was there may follow.
        match = re.match(r"(\d+) \S+ \d+ .* of (\S+?)@\S+\n", text)
        if not match:
            raise BrokenError("no file is torn", f"{host}: fence is {text!r}")
        number, user = int(match[1]), match[2]
        if number < before[0]:
            raise BrokenError("the number never falls", f"{host}: {number} after {before[0]}")
        self._seen[host] = number, user
        self.fences[user] = max(number, self.fences.get(user, 0))
