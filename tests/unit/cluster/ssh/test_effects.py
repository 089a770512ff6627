"""What the files for nodes do, done for real by each shell that may be a node's /bin/sh."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import pytest
from conftest import DEADLINE, free_ports, require, wait_for
from test_injection import RUN, Scratch, cluster_of

from tasks.cluster.facts import Fact
from tasks.cluster.facts.machine import files, ports, processes
from tasks.cluster.facts.server import state
from tasks.cluster.facts.server.state import Seen
from tasks.cluster.server import audit_log, launch, lock, logs, stop, targets
from tasks.cluster.server.fence import Fence, begin
from tasks.cluster.server.stop import StopReport
from tasks.cluster.ssh import scripts

# macOS's is bash 3.2 with xpg_echo set, Debian's dash, busybox's ash.
SHELLS = ["dash", "bash --posix -O xpg_echo", "mksh", "yash --posix", "busybox sh"]
# A rank that says what it is, listens where it is told, and takes a backslash for a word.
RANK = """\
import os, socket, sys, time
print("rank", os.environ["MLX_RANK"], sys.argv[-1], flush=True)
listener = socket.create_server(("127.0.0.1", int(os.environ["AT"])))
time.sleep(60)
"""


# Its first thread has ended, which is all that its state tells of; it still holds its port.
LINGERS = """\
import ctypes, socket, sys, threading, time
listener = socket.create_server(("127.0.0.1", 0))
threading.Thread(target=time.sleep, args=(60,)).start()
ctypes.CDLL(None).pthread_exit(None)
"""


HOLDS = ((6, "early", "tp.start"), (7, "late", "tp.stop"))


class Place:
    """A node's home, where each script goes to the shell's stdin, as it does over SSH."""

    def __init__(self, home: Path, shell: str) -> None:
        self.home, self.shell = home, [*shlex.split(shell), "-s"]
        require(shutil.which(self.shell[0]), f"needs {self.shell[0]}")

    def _done(self, script: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.shell, input=script, cwd=self.home, env={**os.environ, "HOME": str(self.home)},
            capture_output=True, text=True, timeout=DEADLINE, check=False,
        )  # fmt: skip

    def run(self, script: str, status: int = 0) -> str:
        done = self._done(script)
        assert (done.returncode, done.stderr) == (status, ""), done.stdout
        return done.stdout

    def refused(self, script: str) -> str:
        done = self._done(script)
        assert (done.returncode, done.stdout) == (76, "")
        return done.stderr

    def read(self, fact: Fact[Any]) -> Any:
        return fact.parse(self.run(fact.command), 0)

    def begin(self, script: str) -> subprocess.Popen[str]:
        """With its stdin open, as what keeps a lock has it."""
        process = subprocess.Popen(
            self.shell, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=self.home,
            env={**os.environ, "HOME": str(self.home)},
        )  # fmt: skip
        assert process.stdin
        process.stdin.write(script)
        process.stdin.flush()
        return process


@pytest.fixture(params=SHELLS)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    home = tmp_path / "my home"
    home.mkdir()
    yield Place(home, request.param)
    for path in home.rglob("*.pid"):
        with suppress(ValueError, ProcessLookupError):
            os.kill(int(path.read_text().split()[0]), signal.SIGKILL)


def test_a_ranks_life(place: Place) -> None:
    """Launched, seen with its log and port, signalled, gone with its status, and forgotten."""
    port = free_ports(1)
    (place.home / "rank.py").write_text(RANK)
    engine = {"probe": {"command": [str(place.home / "rank.py")]}}
    cluster = cluster_of(
        Scratch(place.home, place.shell),
        args=["a\\nb"],
        env=[f"AT={port}"],
        python=shutil.which("python3"),
        state_dir="~/.state",
        log_dir="~/logs",
        engines=engine,
    )
    assert place.read(state.fact("~/.state", "default")).ranks == {}
    assert place.run(launch.background(cluster, cluster.ranks, RUN)) == ""
    rank = place.read(state.fact("~/.state", "default")).ranks[0]
    assert rank.alive
    assert rank.record is not None
    assert rank.record.run == RUN.id
    wait_for(lambda: port in place.read(ports.fact([port])))
    assert rank.pid in place.read(processes.FACT)
    log = launch.log_path(cluster, cluster.ranks[0], RUN.id)
    piece, *_ = logs.parse("mac1", place.run(logs.read_script([(0, log, "", 0)], "n")), "n")
    assert piece.data.splitlines()[-1] == rb"rank 0 a\nb"

    target = targets.Target(
        "mac1", rank.pid, "rank 0", ("start", rank.boot, rank.start), True, True
    )
    # One that is another by now is left alone.
    other = replace(target, same=("start", rank.boot, "1"))
    assert place.run(stop.script(cluster, [other], [other], "TERM", 0)).strip() == "left"
    holds = stop.Held.parse({"mac1": place.run(stop.script(cluster, [target], [], "0", 0))})
    assert holds.own["mac1", rank.pid] > 2**20
    assert place.read(state.fact("~/.state", "default")).ranks[0].alive
    left = place.run(stop.script(cluster, [target], [target], "KILL", 20))
    assert left.splitlines()[-1] == "left"
    after = place.read(state.fact("~/.state", "default"))
    assert (after.ranks[0].alive, after.ranks[0].exit) == (False, 128 + signal.SIGKILL)
    assert after.sigkill is not None
    for script in stop.forget_scripts(cluster, [StopReport("mac1")]).values():
        assert place.run(script) == ""
    assert place.read(state.fact("~/.state", "default")).ranks == {}


def test_a_command_line_with_a_backslash(place: Place) -> None:
    """Of a server that was begun by hand: it is told as it is, known again, and signalled."""
    cluster = cluster_of(Scratch(place.home, place.shell))
    words = ["/bin/sh", "-c", "sleep 60; :", r"a\nb\c"]
    with subprocess.Popen(words, start_new_session=True) as server:
        try:
            seen = place.read(processes.FACT)[server.pid].command
            assert seen.endswith(r"a\nb\c")
            same = ("command", "", " ".join(seen.split()))
            target = targets.Target("mac1", server.pid, "a server", same, True)
            told = place.run(stop.script(cluster, [target], [target], "TERM", 40))
            # Who has not been waited for yet is still told of; its end is what counts.
            assert server.wait(DEADLINE) == -signal.SIGTERM, told
        finally:
            with suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGKILL)


@pytest.mark.parametrize("is_mac", [False, True], ids=["linux", "mac"])
def test_what_only_waits_to_be_reaped_is_gone(place: Place, is_mac: bool) -> None:
    """A Mac has no /proc: there ps is asked, which tells a zombie's start, too."""
    script = scripts.script("prelude.sh")
    assert "[ -d /proc/self ]" in script
    if is_mac:
        script = script.replace("[ -d /proc/self ]", "false")
    with subprocess.Popen(["true"]) as ended:
        os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)
        asked = [f"look_up {pid}; echo :$began" for pid in (ended.pid, os.getpid())]
        zombie, living = place.run("\n".join([script, *asked])).splitlines()
    assert zombie == ":"
    assert living > ":"


@pytest.mark.skipif(sys.platform != "linux", reason="a Mac's process is whole until its end")
def test_what_is_not_wholly_gone_is_there(place: Place) -> None:
    """A rank that is ending: who is told that it has gone would take its port for a stranger's."""
    with subprocess.Popen([sys.executable, "-c", LINGERS]) as rank:
        stat = Path(f"/proc/{rank.pid}/stat")
        wait_for(lambda: stat.read_text().split(") ")[1].startswith("Z"))
        asked = f"look_up {rank.pid}; echo :$began"
        assert place.run("\n".join([scripts.script("prelude.sh"), asked])) > ":\n"
        rank.kill()
        wait_for(lambda: stat.read_text().rsplit(") ", 1)[1].split()[17] == "1")
        assert place.run("\n".join([scripts.script("prelude.sh"), asked])) == ":\n"


def test_a_lock(place: Place) -> None:
    """One has it, another is told who, its end gives it back, and unlock takes it."""
    cluster = cluster_of(Scratch(place.home, place.shell), state_dir="~/.state", lock_wait=0)
    first = place.begin(lock.script(cluster, "tp.start", RUN))
    assert first.stdout
    assert "held\t1\n" in iter(first.stdout.readline, "")
    assert "refused" in place.run(lock.script(cluster, "tp.stop", RUN))
    first.communicate()
    assert not (place.home / ".state" / "default" / "lock").exists()
    second = place.begin(lock.script(cluster, "tp.start", RUN))
    assert second.stdout
    assert "held\t2\n" in iter(second.stdout.readline, "")
    where = {"state_dir": "~/.state", "cluster": "default"}
    unlock = scripts.script("lock/unlock.sh", **where, **state.NO_HOLD, silence=lock.SILENCE)
    assert lock.parse(place.run(unlock).strip("\n")).what == "tp.start"
    second.communicate()


def test_a_fence(place: Place) -> None:
    """Once a later hold has been seen, what an earlier one sends changes nothing."""
    cluster = cluster_of(Scratch(place.home, place.shell), state_dir="~/.state")
    copied = {"folder": str(place.home), "id": ""} | {"fence": f"{cluster.folder}/fence"}
    where, fences = cluster.folder, cluster.leader.fences
    early, late = (Fence(n, hold, f"{what} of a\\nb", "default") for n, hold, what in HOLDS)
    with subprocess.Popen(["sleep", "60"]) as process:
        target = targets.Target("mac1", process.pid, "it", ("command", "", "sleep 60"))

        def scripts_of(fence: Fence) -> list[str]:
            fences[where] = fence
            return [
                launch.background(cluster, cluster.ranks, RUN),
                launch.foreground(cluster, cluster.ranks[0], RUN),
                stop.script(cluster, [target], [target], "KILL", 5),
                *stop.forget_scripts(cluster, [StopReport("mac1")], "abc123").values(),
                f"{begin(cluster)}touch ~/changed\n",
                "IFS=';'\n" + scripts.script("sync.sh", ["--version"], **copied, hold=fence.hold),
            ]

        late_scripts, early_scripts = scripts_of(late), scripts_of(early)
        place.run(state.fact("~/.state", "default", early.values).command)
        assert place.read(state.fact("~/.state", "default", late.values)).fence == Seen(
            7, "late", ANY, "tp.stop of a\\nb"
        )
        (place.home / ".state" / "default" / "runs").mkdir()
        before = sorted(place.home.rglob("*"))
        for script in early_scripts:
            assert re.fullmatch(r"fence 7 late \d+ tp.stop of a\\nb\n", place.refused(script))
        assert sorted(place.home.rglob("*")) == before
        assert process.poll() is None
        assert place.read(state.fact("~/.state", "default", early.values)).fence.hold == "late"
        assert place.run(late_scripts[2]) == "\nleft\n"
        for script in late_scripts[3:]:
            place.run(script)
        assert (place.home / "changed").exists()


def test_an_audit_log(place: Place) -> None:
    """A line is added as it is, and the last ones are told."""
    for number in range(3):
        entry = audit_log.AuditEntry(
            f"2026-11-30T00:00:0{number}Z", "me", f"{number} a\\nb 'c' $x", "done"
        )
        place.run(audit_log.script("~/.state", entry))
    told = place.read(audit_log.fact("~/.state", 2))
    assert [each.what for each in told] == ["1 a\\nb 'c' $x", "2 a\\nb 'c' $x"]


def test_where_a_copy_goes(place: Place) -> None:
    """By any name, the home and what holds it is known for what it is."""
    (place.home / "copy").mkdir()
    (place.home / "link").symlink_to(".")
    copy = place.read(files.place("~/copy", "/nowhere", "-"))
    assert (copy.folder, copy.near) == (str((place.home / "copy").resolve()), ())
    assert ("is", "home") in place.read(files.place("~/link", "/nowhere", "-")).near
    assert ("holds", "home") in place.read(files.place("~/link/..", "/nowhere", "-")).near


def test_a_listing(place: Place) -> None:
    (place.home / "ü\\n").write_text("x")
    (place.home / "large ü").write_bytes(bytes(2**20 + 1))
    (place.home / "gone").symlink_to("nowhere")
    found = place.read(files.fact("~"))
    assert found.keys() == {"ü\\n", "large ü", "gone"}
    assert found["large ü"] == "1048577"


def test_old_runs_cost_no_program(place: Place) -> None:
    """However many runs are over, a stop and the next start begin as many programs as with none."""
    cluster = cluster_of(Scratch(place.home, place.shell), state_dir="~/.state")
    report = StopReport(cluster.leader.name)
    forget = stop.forget_scripts(cluster, [report])[report.node]
    look = state.fact("~/.state", "default").command
    start = launch.background(cluster, cluster.ranks, RUN)
    enrol = start[: start.index("fenced enrol\n") + len("fenced enrol\n")]
    runs = place.home / ".state/default/runs"

    def begun() -> list[int]:
        shutil.rmtree(runs / RUN.id, ignore_errors=True)
        return [count_programs(place, script) for script in (look, forget, enrol)]

    begun()
    few = begun()
    for number in range(30):
        run = runs / f"20000101T{number:06}"
        run.mkdir()
        (run / "ended").touch()
        (run / "rank-0.log").touch()
    many = begun()
    assert all(few)
    assert many == few
    assert len(list(runs.iterdir())) == cluster.keep_logs + 1
    assert (runs / "20000101T000029").is_dir()


def test_what_ranks_read_is_there_whole(place: Place) -> None:
    """While a node's second rank is started the first may just begin to read its entry."""
    engines = {"probe": {"command": ["-m", "probe"]}}
    cluster = cluster_of(Scratch(place.home, place.shell), state_dir="~/.state", engines=engines)
    start = launch.background(cluster, cluster.ranks, RUN)
    enrol = start[: start.index("fenced enrol\n") + len("fenced enrol\n")]
    at = place.home / ".state/default/runs" / RUN.id
    assert place.run(enrol) == ""
    with (at / "entry.py").open() as entry, (at / "record.json").open() as record:
        assert place.run(enrol) == ""
        for each in (entry, record):
            assert os.fstat(each.fileno()).st_nlink == 0, "it was written over"
            assert each.read()
    assert not list(at.glob("*.[0-9]*"))


def count_programs(place: Place, script: str) -> int:
    """How many programs a script begins: each leaves a line here before it does what it does."""
    folder, told = place.home / "counted", place.home / "told"
    folder.mkdir(exist_ok=True)
    for name in ("rm", "mv", "cat", "head", "tr", "date", "chmod", "mkdir", "perl", "sed", "xargs"):
        shim = folder / name
        shim.write_text(f'#!/bin/sh\necho >>"{told}"\nexec {shutil.which(name)} "$@"\n')
        shim.chmod(0o755)
    told.write_text("")
    place.run(f"PATH={shlex.quote(str(folder))}:$PATH\n{script}")
    return len(told.read_text().splitlines())
