"""One run of `inv maintain.big`: its cluster, its commands, its rows, and how much time is left."""

import shutil
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tasks.cli import screen
from tasks.cluster.cluster import Cluster
from tasks.cluster.facts import known
from tasks.cluster.facts.machine import memory
from tasks.cluster.server import snapshots

from . import view
from .job import Job
from .report import TrialRow
from .view import Look

PAUSE = 0.2  # seconds between two looks
SPARE = 20.0  # seconds that are kept for the last stop


@dataclass(frozen=True)
class TrialOptions:
    """What was asked for; `limit` is in seconds for all, `slow` for the slow load."""

    gigabytes: float
    ranks: int
    limit: float
    slow: float
    nccl: bool
    port: int
    words: Sequence[str]  # of every inner command that has a cluster


@dataclass
class Trial:
    """What the steps share."""

    cluster: Cluster
    wanted: TrialOptions
    kind: str  # metal, cuda or cpu
    folder: str
    model: str
    bytes: int
    environment: Mapping[str, str]
    end: float
    speed: float = 0.0  # bytes/s of one reader
    rows: list[TrialRow] = field(default_factory=list)
    jobs: list[Job] = field(default_factory=list)
    up: int = 0  # ranks of the server that runs
    before: str = ""  # the run before it
    seconds: float = 60.0  # that a start takes
    load: float = 0.0
    empty: int | None = None  # bytes in use before anything was started
    reference: str = ""
    rates: dict[int, float] = field(default_factory=dict)  # tokens/s by ranks
    # What the last start's ranks were told besides: a restart wants a value of each, none is kept.
    extra: Mapping[str, str] = field(default_factory=dict)

    def row(
        self, step: str, what: str, found: str, goal: str = "", holds: bool | None = None
    ) -> None:
        """Write a row, and say it."""
        self.rows.append(TrialRow(step, what, found, goal, holds))
        cells = filter(None, self.rows[-1].cells)
        screen.say(f"{time.strftime('%H:%M:%S')}  {'  '.join(cells)}")

    @property
    def left(self) -> float:
        return self.end - time.time() - SPARE

    def has_time(self, step: str, starts: int, more: float = 0) -> bool:
        """Whether so many starts and seconds more fit in; a row says so if not."""
        need = starts * (self.seconds + 5) + more
        if need <= self.left:
            return True
        self.row(step, "", f"not run: {self.left:.0f} s are left, it may take {need:.0f}")
        return False

    def begin(
        self,
        *words: str,
        limit: float = 60,
        env: Mapping[str, str] | None = None,
        model: bool = False,
    ) -> Job:
        """Begin an inner command; with `model` it starts a server, with `env` of its ranks."""
        line = [*words, *self.wanted.words]
        if model:
            both = {**self.environment, **(env or {})}
            line += [word for name, value in both.items() for word in ("--env", f"{name}={value}")]
        if words[0] == "tp.start":
            line += ["--", "--model", self.model, "--port", str(self.wanted.port)]
        job = Job(line, self._inner(), min(limit, max(self.end - time.time() - 5, 5)))
        self.jobs.append(job)
        return job

    def inv(self, *words: str, limit: float = 60) -> Job:
        """An inner command to its end."""
        return self.begin(*words, limit=limit).wait()

    def _inner(self) -> dict[str, str]:
        found = {
            "INVOKE_TP_CLUSTER": self.cluster.name,
            "INVOKE_TP_STARTING_PORT": str(self.wanted.port + 1),
        }
        # Only RDMA's resources want a pause after a SIGKILL.
        cools = self.cluster.backend.startswith("jaccl")
        return found if cools else {**found, "INVOKE_TP_COOLDOWN": "0"}

    def launch(self, *words: str, env: Mapping[str, str] | None = None) -> Job:
        """Begin a start or a restart: looks from now on are at its run."""
        self.before = view.look(self.cluster).run
        limit = 3 * self.seconds + 60 + float((env or {}).get("MLX_BIG_SLOW") or 0)
        return self.begin(*words, limit=limit, env=env, model=True)

    def start(self, ranks: int, env: Mapping[str, str] | None = None) -> Job:
        self.extra = dict.fromkeys(env or {}, "")
        return self.launch("tp.start", "-n", str(ranks), env=env)

    def restart(self) -> Job:
        return self.launch("tp.restart", env=self.extra)

    def watch(self, job: Job, until: Callable[[Look], bool] = lambda _: False) -> list[Look]:
        """Look at the ranks while a command runs, or until something is so."""
        series: list[Look] = []
        while job.runs and time.time() < job.begun + job.limit:
            seen = view.look(self.cluster)
            if seen.run != self.before:
                series.append(seen)
                if until(seen):
                    break
            time.sleep(PAUSE)
        return series

    def serve(self, ranks: int, env: Mapping[str, str] | None = None) -> tuple[Job, list[Look]]:
        """Have a server of so many ranks; RuntimeError with what was said where it did not come."""
        self.clear()
        job = self.start(ranks, env)
        series = self.watch(job)
        job.wait()
        if job.code:
            raise RuntimeError(f"tp.start -n {ranks}: {job.ending}")
        self.up, self.seconds = ranks, job.seconds if not env else self.seconds
        return job, series

    def have(self, ranks: int) -> None:
        """The same where none runs yet."""
        if self.up != ranks:
            self.serve(ranks)

    def clear(self) -> None:
        """Let nothing run."""
        for job in self.jobs:
            job.end()
        self.jobs.clear()
        if self.up or any(rank.lives for rank in view.look(self.cluster).ranks.values()):
            self.inv("tp.unlock")
            self.inv("tp.stop", "--timeout", "5")
        self.up = 0

    def lives(self) -> list[str]:
        """The ranks that live."""
        ranks = view.look(self.cluster).ranks.items()
        return [f"rank {number} (pid {rank.pid})" for number, rank in ranks if rank.lives]

    def kill(self, *numbers: int) -> float:
        """SIGKILL to ranks, and when."""
        seen = view.look(self.cluster).ranks
        at = time.time()
        for number in numbers or seen:
            node = next(n for n in self.cluster.nodes if n.name == seen[number].node)
            node.sh(f"kill -9 {seen[number].pid}")
        return at

    def memory_back(self, begun: float, step: str, limit: float = 20) -> None:
        """A row: how long until memory in use is about what it was before anything was started."""
        if self.empty is None:
            return
        room = self.empty + max(self.bytes // 10, 300_000_000)
        while (used := self.used()) > room and time.time() < begun + limit:
            time.sleep(PAUSE)
        took, over = time.time() - begun, (used - self.empty) / 1e9
        found = f"{took:.1f} s" if used <= room else f"{over:.1f} GB more after {took:.0f} s"
        # Where only the CPU works, others of the machine use the same memory.
        holds = None if self.kind == "cpu" else used <= room
        self.row(step, f"memory back ({self.whose})", found, holds=holds)

    @property
    def whose(self) -> str:
        return {"cuda": "GPUs'", "metal": "wired"}.get(self.kind, "all of this machine's")

    def used(self) -> int:
        """Bytes in use on all nodes: wired ones of Macs, the GPUs' own, or this machine's."""
        if self.kind == "cuda":
            ask = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
            said = subprocess.run(ask, capture_output=True, text=True, check=True).stdout
            return sum(int(each) for each in said.split()) << 20
        if self.kind == "metal":
            read = snapshots.read(self.cluster.nodes, lambda _: [memory.FACT])
            found = [known(values, memory.KEY) for values in read.nodes.values()]
            return sum(each.wired for each in found if each)
        rows = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        return sum(
            sign * int(rows[name].split()[0]) * 1024
            for name, sign in (("MemTotal", 1), ("MemAvailable", -1))
        )


def gpus() -> int:
    """How many GPUs `nvidia-smi` lists here."""
    if not shutil.which("nvidia-smi"):
        return 0
    said = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False).stdout
    return len(said.splitlines())
