"""inv tp.watch on a real server: what it notices, what it leaves alone, and a restart."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import layout
import schemas
from commands import Commands
from commands import commands as commands
from commands import gates as gates
from conftest import DEADLINE, Inv, light_cluster, wait_for
from rig import Rig

from tasks.cluster import cluster as clusters
from tasks.cluster.server import lock


@contextmanager
def watching(inv: Inv, *words: str) -> Iterator[subprocess.Popen[str]]:
    process = inv.start("tp.watch", "--interval", "0.2", *words)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def until(process: subprocess.Popen[str], pattern: str) -> str:
    """The first line of its output that matches."""
    assert process.stdout is not None
    seen = ""
    late = threading.Timer(DEADLINE, process.kill)
    late.start()
    try:
        for line in process.stdout:
            seen += line
            if re.search(pattern, line):
                return line
    finally:
        late.cancel()
    raise AssertionError(f"no {pattern!r} in:\n{seen}\n{process.stderr and process.stderr.read()}")


def pids(inv: Inv) -> list[int]:
    return [row["pid"] for row in inv("tp.status", "--json").json()["ranks"]]


def test_a_dead_rank_is_told(light: Inv) -> None:
    light("tp.start")
    with watching(light) as process:
        assert re.match(r"\d\d:\d\d:\d\d  ready$", until(process, "ready"))
        os.kill(pids(light)[1], signal.SIGKILL)
        line = until(process, "degraded|dead")
        assert "died: rank 1 on 127.0.0.1 (killed by SIGKILL)" in line
        _, err = process.communicate(timeout=DEADLINE)
        assert process.returncode == 3
        assert "the server has failed: died: rank 1" in err


def test_no_server(light: Inv) -> None:
    done = light("tp.watch", code=3)
    assert "stopped: no server is recorded: inv tp.start" in done.err


def test_an_engine_without_tokens(light: Inv) -> None:
    """All ranks live, the page is green, and there is no token, as where rank 1 hangs."""
    light("tp.start")
    silent = "Pages.post = lambda self: time.sleep(999)\nPath(f'{FOLDER}/silent').touch()"
    (light.home / "light" / "serve.0.py").write_text(silent)
    wait_for((light.home / "light" / "silent").exists)
    with watching(light, "--patience", "3") as process:
        assert "all ranks live, but no token for" in until(process, "degraded")
        process.communicate(timeout=DEADLINE)
        assert process.returncode == 3


def test_restart(light: Inv) -> None:
    """What ran is started again, at once the first time, whatever would be started now."""
    light.env["INVOKE_TP_COOLDOWN"] = "1"
    light("tp.start", "--cwd", str(light.home), args=("--port", str(light.port), "--temp", "0.5"))
    first = pids(light)
    with watching(light, "--restart", "--max-restarts", "1") as process:
        until(process, "ready")
        os.kill(first[0], signal.SIGKILL)
        until(process, "(degraded|dead): died: rank 0")
        assert "again (0 restarts left after that)" in until(process, "starting it again")
        until(process, "ready")
        second = pids(light)
        assert not set(first) & set(second)
        ran = layout.record(light.home / layout.STATE)
        assert ran["cwd"] == str(light.home)
        assert "0.5" in ran["command"]
        os.kill(second[1], signal.SIGKILL)
        until(process, "(degraded|dead): died: rank 1")
        _, err = process.communicate(timeout=DEADLINE)
        assert process.returncode == 3
        assert "has failed after 1 restarts" in err


def test_documents_of_a_restart(inv: Inv, macs: Callable[..., Rig]) -> None:
    """On strict hosts: each line is a document as docs/schemas has it, to the last."""
    rig = macs()
    hosts = [{"ssh": name, "ips": [rig.address(name)]} for name in rig.names]
    inv.env["INVOKE_TP_HOSTFILE"] = str(light_cluster(inv, hosts, python=sys.executable))
    inv("tp.start")
    with watching(inv, "--restart", "--max-restarts", "1", "--json") as process:
        seen = until(process, '"ready"')
        rig.run("mac2", f"kill -9 {pids(inv)[1]}")
        seen += until(process, "died: rank 1") + until(process, '"ready"')
        rig.run("mac2", f"kill -9 {pids(inv)[1]}")
        rest, err = process.communicate(timeout=DEADLINE)
    *_, end = schemas.check_lines(["tp.watch"], seen + rest)
    assert (process.returncode, end["exit"]) == (3, 3)
    assert end["error"] == err.strip().splitlines()[-1]


def test_a_restart_waits_for_its_turn(light: Inv) -> None:
    """As long as --lock-wait says, while another command has the cluster."""
    light("tp.start")
    locks, cluster = lock.Locks(), clusters.build({"state_dir": str(light.home / layout.STATE)})
    with watching(light, "--restart", "--lock-wait", "60") as process:
        until(process, "ready")
        locks.hold(cluster, "tp.start", print)
        os.kill(pids(light)[0], signal.SIGKILL)
        until(process, "starting it again")
        assert process.stderr is not None
        waits = next(line for line in process.stderr if "waiting" in line or "busy" in line)
        assert "waiting up to 60 s for tp.start of" in waits
        locks.close()
        until(process, "ready")


def test_a_stop_is_not_undone(commands: Commands) -> None:
    """What a stop leaves for a moment is no failure: it is wanted so."""
    commands.run("ann", "tp.start")
    folder = commands.inv.home / "light"
    watch = commands.start("bob", "tp.watch", "--interval", "0.2", "--restart")
    watch.until("ready")
    (folder / "term.shut").touch()
    stop = commands.start("ann", "tp.stop", "--timeout", "60")
    wait_for((folder / "term.0.arrived").exists)
    os.kill(pids(commands.inv)[1], signal.SIGKILL)
    assert "stopped by ann@" in watch.end(3).err.splitlines()[-1]
    (folder / "term.shut").unlink()
    stop.end()
    assert commands.inv("tp.status").out.startswith("stopped")


def test_what_could_not_be_started_again(light: Inv) -> None:
    """It is refused while the server still runs."""
    light("tp.start", "--env", "TOKEN=s3cret")
    before = pids(light)
    refused = light("tp.watch", "--restart", code=2).one_line()
    assert "TOKEN, which is kept nowhere" in refused
    assert pids(light) == before
