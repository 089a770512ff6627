"""The lock: of all commands that change a server one acts, and a dead one's lock is broken."""

from __future__ import annotations

import itertools
import os
import re
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import layout
import pytest
from commands import Command, Commands, RigCommands
from commands import commands as commands
from commands import gates as gates
from commands import rig_commands as rig_commands
from conftest import DEADLINE, Done, Inv, Sshd, processes, require, wait_for
from gates import LAUNCH, RANK, Gates
from hypothesis import given
from hypothesis import strategies as st

from tasks.cluster import cluster as clusters
from tasks.cluster.server import lock
from tasks.cluster.server.launch import Run

BUSY = re.compile(
    r"(\S+): busy with (tp\.\w+) of (\w+)@\S+, since \d\d:\d\d:\d\d \(\d+ s\); nothing was changed:"
    r" wait for it \(--lock-wait SECONDS\), or take its lock away \(inv tp\.unlock\)"
)


def folder(inv: Inv) -> Path:
    return inv.home / layout.CLUSTER / "lock"


def left(inv: Inv) -> list[str]:
    """What there is of the cluster on this node."""
    return sorted(each.name for each in folder(inv).parent.iterdir())


def holds(path: Path, command: str) -> bool:
    """Whether the lock is had for this command."""
    holder = path / "holder"
    return holder.exists() and command in holder.read_text().splitlines()


def refused(done: Done) -> tuple[str, ...]:
    """(node, command, user) of the holder, as the one line says it."""
    found = BUSY.fullmatch(done.one_line())
    assert found, done.err
    assert not done.out
    return found.groups()


# Who wins.


def race(commands: Commands, gates: Gates, *words: str) -> tuple[Command, Done]:
    """Two at once, held before their ranks do anything: the winner, and the loser's end."""
    gates.shut(RANK)
    pair = [commands.start(user, *words) for user in ("ada", "bob")]
    wait_for(lambda: any(each.is_over for each in pair))
    loser = next(each for each in pair if each.is_over)
    winner = next(each for each in pair if each is not loser)
    gates.wait_for(RANK)
    assert not winner.is_over
    done = loser.end(3)
    _, command, user = refused(done)
    assert (command, user) == (words[0], "ada" if winner is pair[0] else "bob")
    return winner, done


def test_two_starts_at_once(commands: Commands, gates: Gates) -> None:
    winner, _ = race(commands, gates, "tp.start")
    assert (folder(commands.inv).stat().st_mode & 0o777) == 0o700
    assert all(path.stat().st_mode & 0o077 == 0 for path in folder(commands.inv).iterdir())
    gates.open(RANK)
    assert "healthy: a token" in winner.end().err
    assert len(commands.inv("tp.status", "--json").json()["ranks"]) == 2
    assert not folder(commands.inv).exists()


def test_two_starts_at_once_on_two_nodes(rig_commands: RigCommands, gates: Gates) -> None:
    """From two control machines; the lock is on rank 0's node, and on no other."""
    commands, rig = rig_commands()
    winner, done = race(commands, gates, "tp.start")
    assert refused(done)[0] == "mac1"
    rig.run("mac1", "[ -d ~/.mlx-tp/default/lock ]")
    rig.run("mac2", "[ ! -e ~/.mlx-tp/default/lock ]")
    gates.open(RANK)
    assert "healthy: a token" in winner.end().err
    assert commands.inv("tp.status", "--json").json()["state"] == "ready"
    # One connection per command and node carries the lock as well; the loser may have got to
    # mac2, to which it connects while it asks for the lock.
    assert (rig.connections("mac1"), rig.connections("mac2")) in ((3, 2), (3, 3))
    commands.run("bob", "tp.stop")
    rig.run("mac1", "[ ! -e ~/.mlx-tp/default/lock ]")


def test_start_and_stop_during_a_stop(commands: Commands, gates: Gates) -> None:
    gates.shut(RANK)
    gates.deafen()
    commands.run("ada", "tp.launch")
    first = commands.start("ada", "tp.stop", "--timeout", str(DEADLINE))
    wait_for(lambda: gates.ignored)
    for words in (("tp.start",), ("tp.stop",), ("tp.stop", "--force"), ("tp.launch",)):
        node, command, user = refused(commands.run("bob", *words, code=3))
        assert (node, command, user) == ("127.0.0.1", "tp.stop", "ada")
    # What only reads is not kept from it.
    rows = commands.run("bob", "tp.status", "--json").json()["ranks"]
    for row in rows:
        os.kill(row["pid"], signal.SIGKILL)
    assert re.search(r"^stopped +127.0.0.1 +rank 0, rank 1", first.end().out, re.MULTILINE)
    assert "nothing was running" in commands.run("bob", "tp.stop").err


def test_wait_for_the_lock(commands: Commands, gates: Gates) -> None:
    gates.shut(RANK)
    start = commands.start("ada", "tp.start")
    gates.wait_for(RANK)
    waits = commands.start("bob", "tp.stop", "--lock-wait", str(DEADLINE))
    waits.until("waiting up to")
    line = waits.err.read_text()
    assert re.match(rf"127.0.0.1: waiting up to {DEADLINE} s for tp.start of ada@\S+, since ", line)
    late = commands.run("eve", "tp.start", "--lock-wait", "0.5", code=3)
    assert "tp.start of ada" in late.err
    assert BUSY.search(late.err.splitlines()[-1])
    assert not waits.is_over
    gates.open(RANK)
    assert "healthy: a token" in start.end().err
    assert re.search(r"^stopped .*rank 0, rank 1", waits.end().out, re.MULTILINE)


def test_wait_as_configured(commands: Commands, gates: Gates) -> None:
    """tp.lock_wait; the second start, at its turn, finds that a server runs."""
    commands.inv.env["INVOKE_TP_LOCK_WAIT"] = str(DEADLINE)
    gates.shut(RANK)
    first = commands.start("ada", "tp.start")
    gates.wait_for(RANK)
    second = commands.start("bob", "tp.start")
    second.until("waiting up to")
    gates.open(RANK)
    first.end()
    assert "already runs: rank 0" in second.end(3).err
    assert commands.inv("tp.status", "--json").json()["state"] == "ready"


def test_one_command_with_two_tasks(commands: Commands) -> None:
    """Each takes the lock, and gives it back before what comes after it."""
    process = commands.start("ada", "tp.stop", "tp.start", "tp.logs", "--follow")
    process.until("rank 1 | ")
    assert not folder(commands.inv).exists()
    commands.run("bob", "tp.stop")
    process.send(signal.SIGINT)
    assert "healthy: a token" in process.end(130).err


def test_a_failing_start_cleans_up_before_it_lets_go(commands: Commands, gates: Gates) -> None:
    gates.shut(RANK)
    start = commands.start("ada", "tp.start")
    gates.wait_for(RANK)
    waits = commands.start("bob", "tp.stop", "--lock-wait", str(DEADLINE))
    waits.until("waiting up to")
    start.until("rank 1 on 127.0.0.1: running")
    os.kill(commands.inv("tp.status", "--json").json()["ranks"][1]["pid"], signal.SIGKILL)
    assert "rank 1 on 127.0.0.1 died: killed by SIGKILL" in start.end(4).err
    assert "nothing was running" in waits.end().err


# A holder that is gone.


@pytest.mark.parametrize("place", [RANK, LAUNCH])
def test_killed_holder(commands: Commands, gates: Gates, place: str) -> None:
    """SIGKILL of a start that waits, or is in between its ranks: its lock goes with it."""
    gates.shut(place, after=1 if place == LAUNCH else 0)
    start = commands.start("ada", "tp.start")
    gates.wait_for(place)
    if place == RANK:
        start.until("rank 1 on 127.0.0.1: running")
    assert holds(folder(commands.inv), "tp.start")
    start.process.kill()
    wait_for(lambda: not folder(commands.inv).exists())
    status = commands.inv.run("tp.status", "--json").json()
    assert status["state"] == ("loading" if place == RANK else "starting")
    assert "rank 0" in commands.run("bob", "tp.stop").out
    # A script that was held up on its way starts nothing any more.
    gates.open()
    wait_for(lambda: not processes(commands.inv.home))
    assert commands.inv("tp.status").out.startswith("stopped")
    start.end(-signal.SIGKILL)


def pids() -> list[int]:
    return [int(path.name) for path in Path("/proc").glob("[0-9]*")]


def parent(pid: int) -> int:
    fields = read(f"/proc/{pid}/stat").rpartition(b")")[2].split()
    return int(fields[1]) if fields else 0


def read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError:
        return b""


def test_silent_holder(commands: Commands, gates: Gates) -> None:
    """A control machine that sleeps keeps its connection, and loses its lock; nothing else."""
    gates.shut(RANK)
    start = commands.start("ada", "tp.start")
    gates.wait_for(RANK)
    refused(commands.run("bob", "tp.stop", code=3))
    # It has started all of its ranks: one asleep before that would be refused when it wakes up.
    start.until("rank 1 on 127.0.0.1: running")
    os.kill(start.pid, signal.SIGSTOP)
    # As old as it would be after a while: nobody beats now.
    (folder(commands.inv) / "quiet").write_text(f"{lock.SILENCE + 60}\n")
    stop = commands.run("bob", "tp.stop")
    assert re.search(
        r"127.0.0.1: removed the lock of tp.start of ada@\S+, since \d\d:\d\d:\d\d \(\d+ s\):"
        r" its control machine gave no sign of life for \d+ s",
        stop.err,
    )
    gates.open(RANK)
    commands.run("bob", "tp.start")
    running = commands.inv("tp.status", "--json").json()["ranks"]
    # It wakes up: what it has begun is no more, and what another has begun is not its own.
    os.kill(start.pid, signal.SIGCONT)
    assert "the cluster was taken over by tp.start of bob@" in start.end(4).err
    now = commands.inv("tp.status", "--json").json()
    assert now["state"] == "ready"
    assert [row["pid"] for row in now["ranks"]] == [row["pid"] for row in running]


def test_reboot(rig_commands: RigCommands, gates: Gates) -> None:
    commands, rig = rig_commands()
    gates.shut(RANK)
    commands.start("ada", "tp.start")
    gates.wait_for(RANK)
    # The power is cut: no keeper has the time to remove anything.
    keeper = rig.run("mac1", "sed -n 2p ~/.mlx-tp/default/lock/holder").stdout.strip()
    rig.run("mac1", f"kill -STOP {keeper}")
    rig.reboot("mac1")
    gates.open(RANK)
    stop = commands.run("bob", "tp.stop")
    assert re.search(
        r"^mac1: removed the lock of tp.start of ada@.*: the node has rebooted since$",
        stop.err,
        re.MULTILINE,
    )
    assert commands.inv("tp.status").out.startswith("stopped")


def holder(**changed: str) -> str:
    """A holder's file as a keeper writes it, for this very process, or changed."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    start = Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19]
    fields = {"token": "abc", "pid": str(os.getpid()), "start": start, "boot": boot}
    fields |= {"since": str(int(time.time())), "what": "tp.start", "who": "ada@laptop", **changed}
    return "".join(f"{value}\n" for value in fields.values())


def plain_files(beat: str, text: str) -> Callable[[Path], None]:
    def lay(path: Path) -> None:
        path.mkdir()
        (path / "beat").write_text(beat)
        (path / "holder").write_text(text)

    return lay


def link(path: Path) -> None:
    elsewhere = path.parents[2] / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "canary").touch()
    path.symlink_to(elsewhere)


NOW = f"{int(time.time()) + 3600}\n"
DAMAGED = "nobody can tell who: it is damaged"
ADA = r"tp.start of ada@laptop, since \S+ \(\d+ s\)"
LEFT: dict[str, tuple[Callable[[Path], None], str]] = {
    "empty": (lambda path: path.mkdir(), DAMAGED),
    "a file": (lambda path: path.write_text("x"), DAMAGED),  # type: ignore[dict-item]
    "a link": (link, DAMAGED),
    "a dead link": (lambda path: path.symlink_to("/nowhere"), DAMAGED),
    "a folder in it": (lambda path: (path / "holder").mkdir(parents=True), DAMAGED),
    "no beat": (plain_files("", holder()), f"{ADA}: it is damaged"),
    "beat of words": (plain_files("08$(touch canary)\n", holder()), f"{ADA}: it is damaged"),
    "cut": (plain_files(NOW, holder()[:10]), DAMAGED),
    "binary": (plain_files(NOW, "\0\1\2\x1b[2J\n" * 100), "nobody can tell who: .*rebooted.*"),
    "shell": (plain_files(NOW, "$(touch canary)\n`touch canary`\n" * 9), r".*(damaged|rebooted).*"),
    "another boot": (plain_files(NOW, holder(boot="b")), f"{ADA}: the node has rebooted since"),
    "a pid used again": (
        plain_files(NOW, holder(start="1")),
        f"{ADA}: its command has ended without a word",
    ),
    "an old beat": (
        plain_files("1000000000\n", holder()),
        rf"{ADA}: its control machine gave no sign of life for \d+ s",
    ),
}


@pytest.mark.parametrize("name", LEFT)
def test_lock_of_nobody(inv: Inv, home: Path, name: str) -> None:
    """It is removed with a word about it, by whoever comes next, and nothing but it."""
    lay, says = LEFT[name]
    path = folder(inv)
    path.parent.mkdir(mode=0o700, parents=True)
    lay(path)
    done = inv("tp.stop")
    assert re.match(rf"127.0.0.1: removed the lock of {says}\n", done.err), done.err
    assert "nothing was running" in done.err
    assert left(inv) == ["fence"]
    assert sorted(each.name for each in path.parents[1].iterdir()) == ["audit.log", "default"]
    assert not list(home.rglob("canary")) or (home / "elsewhere" / "canary").exists()


def test_a_living_holder_is_left_alone(inv: Inv) -> None:
    path = folder(inv)
    path.parent.mkdir(mode=0o700, parents=True)
    text = holder()
    plain_files(NOW, text)(path)
    assert refused(inv("tp.stop", code=3)) == ("127.0.0.1", "tp.start", "ada")
    assert (path / "holder").read_text() == text


def test_many_who_find_a_dead_lock(inv: Inv) -> None:
    """Of those who all see it, at any time one has the lock: none breaks that of another."""
    path = folder(inv)
    path.parent.mkdir(mode=0o700, parents=True)
    words = ["/bin/sh", "-s"]
    log = inv.home / "log"
    for number in range(3):
        plain_files(NOW, holder(boot="b"))(path)
        keepers = []
        for index in range(8):
            script = keeper(inv, run=f"{number}{index}", wait=DEADLINE)
            # Who has it writes so twice; another one in between would show.
            enter = f"echo {index} >>'{log}'; sleep 0.02; echo {index} >>'{log}'; exec </dev/null\n"
            process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
            assert process.stdin
            assert HELD in script
            process.stdin.write(script.replace(HELD, enter).encode())
            process.stdin.close()
            keepers.append(process)
        for process in keepers:
            assert process.wait(DEADLINE) == 0
        lines = log.read_text().split()
        assert len(lines) == 16
        assert lines[::2] == lines[1::2], lines
        log.unlink()
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)


HELD = "printf 'held\\t%s\\n' \"$fence\" 2>/dev/null\n"


def keeper(inv: Inv, run: str = "abc", wait: float = 0) -> str:
    config = {"state_dir": str(folder(inv).parents[1]), "lock_wait": wait}
    return lock.script(clusters.build(config), "tp.start", Run(run, "ada@laptop", 0.0))


@pytest.mark.parametrize("shell", ["dash", "bash", "bash --posix", "zsh --emulate sh"])
def test_shells(inv: Inv, shell: str) -> None:
    """The keeper in the shells that /bin/sh may be: dash here, bash on macOS."""
    words = shlex.split(shell)
    require(shutil.which(words[0]), f"needs {words[0]}")
    process = subprocess.Popen(
        [*words, "-s"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdin
    assert process.stdout
    process.stdin.write(keeper(inv))
    process.stdin.flush()
    assert "held\t1\n" in iter(process.stdout.readline, "")
    assert holds(folder(inv), "tp.start")
    refused(inv("tp.stop", code=3))
    beat = folder(inv) / "beat"
    beat.write_text("1\n")
    process.stdin.write("\n")
    process.stdin.flush()
    wait_for(lambda: beat.read_text() not in ("1\n", ""))
    assert process.communicate(timeout=DEADLINE) == ("", "")
    assert process.returncode == 0
    assert left(inv) == ["fence"]


@given(st.text(alphabet=st.sampled_from("busy\t 0123456789ada@x\x1b[2Jé\r")) | st.text())
def test_any_line_can_be_told(line: str) -> None:
    told = str(lock.parse(line.replace("\n", "")))
    assert not re.search(r"[\x00-\x1f\x7f]", told)


# tp.unlock


def test_unlock(commands: Commands, gates: Gates) -> None:
    """A start that hangs is ended from elsewhere, and says how it was."""
    assert commands.run("bob", "tp.unlock").out == "127.0.0.1: there is no lock\n"
    gates.shut(RANK)
    start = commands.start("ada", "tp.start")
    gates.wait_for(RANK)
    start.until("rank 1 on 127.0.0.1: running")
    dry = commands.run("bob", "tp.unlock", "--dry-run")
    assert dry.out.startswith("rm -rf ~/.mlx-tp/default/lock")
    assert holds(folder(commands.inv), "tp.start")
    done = commands.run("bob", "tp.unlock", "tp.stop")
    assert re.match(r"127.0.0.1: removed the lock of tp.start of ada@\S+, since [^:]+:", done.out)
    assert "gone" not in done.out
    assert re.search(r"^stopped .*rank 0, rank 1", done.out, re.MULTILINE)
    failed = start.end(4)
    taken = r"127.0.0.1: the cluster was taken over by tp.(unlock|stop) of bob@\S+ at \d\d:\d\d;"
    assert re.match(taken, failed.err.splitlines()[-1])
    assert commands.inv("tp.status").out.startswith("stopped")
    assert commands.run("bob", "tp.unlock").out == "127.0.0.1: there is no lock\n"


def test_a_keeper_that_lost_its_lock(inv: Inv) -> None:
    """It says so at its next beat, and removes nothing of whoever has the lock now."""
    process = subprocess.Popen(
        ["/bin/sh", "-s"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin
    assert process.stdout
    process.stdin.write(keeper(inv))
    process.stdin.flush()
    assert "held\t1\n" in iter(process.stdout.readline, "")
    inv("tp.unlock")
    path = folder(inv)
    plain_files(NOW, holder(token="def"))(path)
    assert process.communicate("\n", timeout=DEADLINE)[0] == "lost\n"
    assert (path / "holder").exists()


def test_who_has_waited_is_named(inv: Inv) -> None:
    """The number is of who has it, not of who had the lock before."""
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with (
        subprocess.Popen(["/bin/sh", "-s"], **pipes) as first,
        subprocess.Popen(["/bin/sh", "-s"], **pipes) as second,
    ):
        for process, text, said in (
            (first, keeper(inv), "held\t1\n"),
            (second, keeper(inv, "def", wait=DEADLINE), "busy\t"),
        ):
            assert process.stdin
            assert process.stdout
            process.stdin.write(text)
            process.stdin.flush()
            lines = iter(process.stdout.readline, "")
            assert any(line.startswith(said) for line in lines)
        assert first.stdin
        assert second.stdin
        assert second.stdout
        first.stdin.close()
        assert "held\t2\n" in iter(second.stdout.readline, "")
        fence = (folder(inv).parent / "fence").read_text()
        second.stdin.close()
    assert re.fullmatch(r"2 def \d+ tp.start of ada@laptop\n", fence)


@pytest.mark.parametrize("task", ["tp.unlock", "tp.start"])
def test_rank_0_is_not_reached(light_remote: Inv, sshd: Sshd, task: str) -> None:
    sshd.stop("mac1")
    failed = light_remote(task, code=5)
    assert "mac1" in failed.err
    assert re.search(r"ssh (-F \S+ )?-v mac1 true", failed.err)


def test_stop_without_a_lock(light_remote: Inv, sshd: Sshd) -> None:
    """Rank 0's node is gone: that keeps nobody from stopping the others."""
    light_remote("tp.start")
    sshd.stop("mac1")
    stopped = light_remote("tp.stop", code=5)
    assert re.search(r"^warn: stopping without the lock: mac1: SSH failed", stopped.err, re.M)
    assert re.search(r"^stopped +mac2 +rank 1", stopped.out, re.MULTILINE)
    sshd.start("mac1")
    light_remote("tp.stop")


def test_state_directory_that_can_not_be(inv: Inv, home: Path) -> None:
    (home / "file").touch()
    inv.env["INVOKE_TP_STATE_DIR"] = str(home / "file" / "state")
    failed = inv("tp.start", "--skip-checks", code=3)
    assert re.match(r"127.0.0.1: the lock can't be made: .*Not a directory", failed.one_line())
    warned = inv.run("tp.stop").err
    assert "warn: stopping without the lock: 127.0.0.1: the lock can't be made: " in warned


def test_few_sessions(rig_commands: RigCommands) -> None:
    """An sshd that lets a connection have one session: the lock has it, and the rest another."""
    commands, rig = rig_commands()
    for name in rig.names:
        rig.ssh(name, MaxSessions="1")
    commands.run("ada", "tp.start")
    assert commands.inv("tp.status", "--json").json()["state"] == "ready"
    before = rig.connections("mac1"), rig.connections("mac2")
    commands.run("ada", "tp.stop")
    assert (rig.connections("mac1"), rig.connections("mac2")) == (before[0] + 2, before[1] + 1)


def test_what_changes_nothing_takes_no_lock(commands: Commands) -> None:
    path = folder(commands.inv)
    path.parent.mkdir(mode=0o700, parents=True)
    plain_files(NOW, holder())(path)
    before = sorted((each.name, each.read_text()) for each in path.iterdir())
    for words in (
        ("tp.status",),
        ("tp.preflight",),
        ("tp.start", "--dry-run"),
        ("-R", "tp.start"),
        ("tp.stop", "--dry-run"),
        ("tp.cooldown",),
    ):
        commands.run("bob", *words)
        assert sorted((each.name, each.read_text()) for each in path.iterdir()) == before


# Many at once, for a while.


class Watch:
    """Looks, as often as it can, how many processes there are of each rank of this test's."""

    def __init__(self, model: Path) -> None:
        self.model = str(model).encode()
        self.most: dict[bytes, int] = {}
        self.looks = 0

    def is_it(self, pid: int) -> bool:
        command = read(f"/proc/{pid}/cmdline")
        is_rank = b"mlx_lm\0server" in command or b"light_rank.py" in command
        return is_rank and self.model in command

    def look(self) -> dict[bytes, list[int]]:
        found: dict[bytes, list[int]] = {}
        for pid in pids():
            if self.is_it(pid):
                rank = re.search(rb"(?:^|\0)MLX_RANK=(\d+)\0", read(f"/proc/{pid}/environ"))
                if rank:
                    found.setdefault(rank[1], []).append(pid)
        # Until its exec a child that a rank forks has the rank's command line.
        found = {
            name: [pid for pid in each if self.is_it(pid) and parent(pid) not in each]
            for name, each in found.items()
        }
        for name, pids_of in found.items():
            self.most[name] = max(self.most.get(name, 0), len(pids_of))
        self.looks += 1
        return found


TURNS = (("tp.start",), ("tp.stop",), ("tp.start", "--lock-wait", "5"), ("tp.stop", "--force"))
QUIET: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


def test_ten_loops_at_once(light: Inv) -> None:
    """Ten users start and stop as fast as they can: never two of a rank, and nothing is left."""
    ten_loops(light, 3)


@pytest.mark.long
def test_ten_loops_for_long(served: Inv, record_property: Callable[[str, object], None]) -> None:
    """The same with real ranks."""
    seconds = 180
    record_property("fault", "race: ten loops of tp.start and tp.stop at once")
    record_property("stage", f"for {seconds:g} s")
    record_property("after", "at no time two of a rank; at the end nothing is left")
    ten_loops(served, seconds)


def ten_loops(served: Inv, seconds: float) -> None:
    """For `seconds`, and until each has had its turn and each has been refused."""
    served.env["INVOKE_TP_COOLDOWN"] = "0"
    until = time.monotonic() + seconds
    last = until + DEADLINE
    wanted = {("tp.start", 0), ("tp.start", 3), ("tp.stop", 0), ("tp.stop", 3)}
    watch = Watch(served.home / "model")
    turns = itertools.cycle(TURNS)
    running: dict[int, tuple[str, subprocess.Popen[str]]] = {}
    ended: list[tuple[str, int]] = []
    try:
        while time.monotonic() < until or running:
            found = watch.look()
            assert all(len(each) <= 1 for each in found.values()), found
            if until < last and not (wanted <= set(ended) and len(watch.most) == 2):
                until = max(until, time.monotonic() + 1)
            for user in range(10):
                task, process = running.get(user, ("", None))
                if process is not None and process.poll() is not None:
                    ended.append((task, process.returncode))
                    del running[user]
                if user not in running and time.monotonic() < until:
                    words = next(turns)
                    running[user] = words[0], served.start(*words, **QUIET)
            assert time.monotonic() < until + 2 * DEADLINE, "a command hangs"
    finally:
        for _, process in running.values():
            process.kill()
            process.wait()
    assert watch.most.keys() == {b"0", b"1"}
    assert {code for _, code in ended} <= {0, 3}, ended
    assert wanted <= set(ended)
    served("tp.stop")
    assert served("tp.status").out.startswith("stopped")
    assert not any(watch.look().values())
    assert not folder(served).exists()
    wait_for(lambda: not processes(served.home), 10)  # what keeps logs short sees the end, too
