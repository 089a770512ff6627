"""The fence: who lost the cluster while asleep changes nothing, and no clock says who is alive."""

from __future__ import annotations

import os
import re
import shutil
import signal
from pathlib import Path
from typing import Any

import layout
import pytest
from commands import Command, Commands, RigCommands
from commands import commands as commands
from commands import gates as gates
from commands import rig_commands as rig_commands
from conftest import Done, Inv, Sshd, wait_for
from gates import RANK, Gates
from rig import Rig
from rig.strict import GID, UID

from tasks.cluster import cluster as clusters
from tasks.cluster.server import lock
from tasks.cluster.server.fence import TakenOver

LOCK = f"~/{layout.CLUSTER}/lock"


def taken_over(done: Done, by: str) -> None:
    """Its last line says by whom."""
    words = rf"mac\d: the cluster was taken over by {by}@\S+ at \d\d:\d\d; nothing was changed here"
    assert re.fullmatch(words, done.err.splitlines()[-1]), done.err


def asleep(commands: Commands, rig: Rig, *words: str) -> Command:
    """A command of ada's that sleeps (a closed lid) since it has had the lock, for long by now."""
    command = commands.start("ada", *words)
    held = f"while ! grep -q {words[0]} {LOCK}/holder; do sleep 0.02; done"
    rig.run("mac1", f"({held}) 2>/dev/null")
    os.kill(command.pid, signal.SIGSTOP)
    rig.run("mac1", f"echo 90 >{LOCK}/quiet")
    return command


def files(rig: Rig) -> list[str]:
    """All that is known of runs, on both hosts."""
    find = f"cd ~/{layout.STATE} && find . -path '*/runs/*' -o -name wanted | sort"
    return [rig.run(name, find).stdout for name in rig.names]


def test_a_lid_that_was_closed(rig_commands: RigCommands) -> None:
    """A start and a stop that wake up after another has acted: exit 4, and nothing has changed."""
    commands, rig = rig_commands()
    start = asleep(commands, rig, "tp.start")
    done = commands.run("bob", "tp.stop")
    gone = r"mac1: removed the lock of tp.start of ada@.*gave no sign of life for \d\d+ s"
    assert re.search(gone, done.err)
    before = files(rig)
    os.kill(start.pid, signal.SIGCONT)
    taken_over(start.end(4), "tp.stop of bob")
    assert files(rig) == before
    assert commands.inv("tp.status").out.startswith("stopped")

    commands.run("bob", "tp.start")
    stop = asleep(commands, rig, "tp.stop")
    commands.run("bob", "tp.restart")
    running, before = commands.inv("tp.status", "--json").json(), files(rig)
    os.kill(stop.pid, signal.SIGCONT)
    taken_over(stop.end(4), "tp.restart of bob")
    now = commands.inv("tp.status", "--json").json()
    assert now["state"] == "ready"
    assert [row["pid"] for row in now["ranks"]] == [row["pid"] for row in running["ranks"]]
    assert files(rig) == before


def test_no_clock_says_who_is_alive(commands: Commands, gates: Gates) -> None:
    """A clock that is set takes no lock away; silence is counted, until the next beat."""
    clock = gates.folder / "date"
    gates.shut(RANK)
    start = commands.start("ada", "tp.start")
    gates.wait_for(RANK)
    for hours in (1, -1):
        clock.write_text(f'#!/bin/sh\nexec {shutil.which("date")} -d "{hours} hour" "$@"\n')
        clock.chmod(0o755)
        refused = commands.run("bob", "tp.stop", "--lock-wait", "1", code=3)
        assert "busy with tp.start of ada@" in refused.err.splitlines()[-1]
    os.kill(start.pid, signal.SIGSTOP)
    quiet = commands.inv.home / layout.CLUSTER / "lock" / "quiet"
    quiet.write_text("20\n")
    wait_for(lambda: number(quiet) > 21)
    os.kill(start.pid, signal.SIGCONT)
    wait_for(lambda: 0 <= number(quiet) < 5)
    gates.open(RANK)
    assert "healthy: a token" in start.end().err


def number(file: Path) -> int:
    text = file.read_text().strip()
    return int(text) if text else -1


def fences(sshd: Sshd) -> list[int]:
    """The highest number that each node has seen; 0 for none."""
    paths = [sshd.node_home(name) / layout.CLUSTER / "fence" for name in sshd.names]
    return [int(path.read_text().split()[0]) if path.exists() else 0 for path in paths]


def test_a_node_that_was_wiped(light_remote: Inv, sshd: Sshd) -> None:
    """The number goes on above what the others have seen, be it rank 0's; and unlock moves it."""
    for _ in range(2):
        light_remote("tp.stop")
    assert fences(sshd) == [2, 2]
    for name, after in (("mac1", 3), ("mac2", 4)):
        shutil.rmtree(sshd.node_home(name) / layout.STATE)
        light_remote("tp.stop")
        assert fences(sshd) == [after, after]
    light_remote("tp.unlock")
    assert fences(sshd) == [5, 5]
    sshd.stop("mac2")
    missed = light_remote("tp.unlock", "--json", code=5).json()
    assert (missed["holder"], missed["unreachable"]) == (None, ["mac2"])
    assert "mac2: can't be reached: there, whoever had the lock may still" in missed["error"]
    assert fences(sshd) == [6, 5]


def test_full_disks(rig_commands: RigCommands, tmp_path: Path) -> None:
    """The number moves on where there is no room for it: who slept changes nothing after tp.unlock.

    Where it can't be written down at all that is said, by who deletes as well; and all can still be
    stopped. What needs room says that there is none.
    """
    commands, rig = rig_commands()
    places = {name: f"{rig.home(name)}/{layout.STATE}" for name in rig.names}
    for name, place in places.items():
        rig.run(name, f"mkdir -p {place}")
        line = f"mount -t tmpfs -o mode=700,uid={UID},gid={GID},size=4m tmpfs {place}"
        rig.run(name, line, root=True)
    commands.run("ada", "tp.start")
    slept = asleep(commands, rig, "tp.stop")
    fill = "cat /dev/zero >>{}/full 2>/dev/null; true"
    for name, place in places.items():
        rig.run(name, fill.format(place))
    commands.run("bob", "tp.unlock")
    os.kill(slept.pid, signal.SIGCONT)
    taken_over(slept.end(4), "tp.unlock of bob")
    rig.run("mac1", fill.format(places["mac1"]))  # where the lock was
    refused = commands.run("bob", "tp.restart", code=3).err.splitlines()[-1]
    assert re.fullmatch("mac1: the lock can't be made: .*: No space left on device", refused)

    # Room for a lock.
    rig.run("mac1", f"truncate -s -$((3 * $(getconf PAGESIZE))) {places['mac1']}/full")
    rig.run("mac2", f"mount -o remount,ro {places['mac2']}", root=True)
    missed = commands.run("bob", "tp.unlock", code=5).err.splitlines()[-1]
    why = "can't note its number: Read-only file system: there, whoever had the lock may still act"
    assert missed == f"mac2: {why}"
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "one").touch()
    words = ("--source", str(tmp_path / "source"), "--target", "copy", "--hosts", "mac1,mac2")
    deleted = commands.run("bob", "dev.sync", *words, "--delete", code=4)
    kept = "the number of this command can't be kept there, and so nothing deleted"
    assert deleted.err.splitlines()[-1] == f"mac2: {kept}: Read-only file system"
    stopped = commands.run("bob", "tp.stop").out
    assert re.findall(r"^stopped +(mac\d)", stopped, re.MULTILINE) == ["mac1", "mac2"]
    for name, place in places.items():
        rig.unmount(name, place)


def test_an_unlock_that_slept(light: Inv, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes no lock from who has got the cluster meanwhile: exit 4, and that one goes on."""
    cluster = clusters.build({"state_dir": str(light.home / layout.STATE)})
    other = clusters.build({"state_dir": str(light.home / layout.STATE)})
    take_over, locks = lock.take_over, lock.Locks()

    def sleep(*words: Any) -> Any:
        found = take_over(*words)
        locks.hold(other, "tp.start", print)
        return found

    monkeypatch.setattr(lock, "take_over", sleep)
    with pytest.raises(TakenOver) as refused:
        lock.unlock(cluster)
    assert "taken over by tp.start of" in str(refused.value.message)
    assert (light.home / layout.CLUSTER / "lock" / "holder").exists()
    locks.close()
    monkeypatch.undo()
    assert lock.unlock(other)[0] is None


# A rank takes 600 MB when it loads, and at SIGTERM needs some seconds to free them.
LOADS = 'held = [b"x" * 10_000_000 for _ in range(60)]'
UNLOADS = """
signal.signal(signal.SIGTERM, signal.SIG_IGN)
while held:
    time.sleep(0.13)
    held.pop()
"""


def test_no_sigkill_while_memory_falls(light: Inv) -> None:
    """A rank that unloads its model is waited for; --timeout is obeyed, and told of."""
    (light.home / "light" / "load.0.py").write_text(LOADS)
    (light.home / "light" / "term.0.py").write_text(UNLOADS)
    light.env["INVOKE_TP_STOP_TIMEOUT"] = "1"
    light("tp.start")
    done = light("tp.stop")
    falls = r"^waiting for rank 0 on 127.0.0.1.*: memory still falls \(\d+\.\d MiB\)$"
    assert re.search(falls, done.err, re.MULTILINE)
    assert done.out.startswith("stopped")
    light("tp.start")
    light.env["LOGNAME"] = "ann"
    done = light("tp.stop", "--timeout", "1")
    assert "what it has wired may stay so until a reboot" in done.err
    assert done.out.startswith("killed")
    log = (light.home / layout.STATE / "audit.log").read_text()
    who_and_why = r"\tann@\S+\tSIGKILL to rank 0.*: not ended within 1 s\tdone$"
    assert re.search(who_and_why, log, re.MULTILINE)
