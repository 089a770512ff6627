"""The dev loop on a real server: inv tp.restart --follow, and inv dev.loop from save to save."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import AS_NOBODY, DEADLINE, LISTENS, ROOT, Inv, wait_for
from test_watch import until

Stranger = Callable[..., "subprocess.Popen[bytes]"]

CYCLE = r"^\d\d:\d\d:\d\d  \d+\.\d s  "


@contextmanager
def running(inv: Inv, *words: str) -> Iterator[subprocess.Popen[str]]:
    process = inv.start(*words)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Its exit status, and the last line of stderr."""
    err = process.communicate(timeout=DEADLINE)[1]
    return process.returncode, err.strip().splitlines()[-1]


def ready(inv: Inv) -> bool:
    return inv.run("tp.status").out.startswith("ready")


def test_follow_from_the_start_to_the_first_error(light: Inv) -> None:
    """All ranks' lines from the first on; a traceback ends it, and the server is left."""
    light("tp.start")
    with running(light, "tp.restart", "--follow") as process:
        until(process, r"^rank 1 \| loading")
        until(process, "^curl http")
        text = "Traceback (most recent call last):\\n  File x\\nValueError: bad\\nmore"
        (light.home / "light" / "serve.1.py").write_text(f'print("{text}", flush=True)')
        until(process, r"^rank 1 \|   File x")
        code, last = ended(process)
    assert code == 4
    assert last.startswith("rank 1 | ValueError: bad; the server is left as it is: inv tp.status")
    assert ready(light)


def test_follow_ends_with_the_server(light: Inv) -> None:
    """A rank that dies without a word is told; so is a start that fails, after its own lines."""
    light("tp.start")
    with running(light, "tp.restart", "--follow") as process:
        until(process, "^curl http")
        rank = light("tp.status", "--json").json()["ranks"][1]
        os.kill(rank["pid"], signal.SIGKILL)
        code, last = ended(process)
    assert (code, "killed by SIGKILL" in last) == (3, True), last
    (light.home / "light" / "load.1.py").write_text("raise ValueError('broken')")
    done = light("tp.restart", "--follow", code=4)
    assert "rank 1 | ValueError: broken\n" in done.out
    assert "died: exit status 1; the other ranks were stopped" in done.err


@pytest.fixture
def source(light: Inv) -> Path:
    """A folder here that is to be the same on all nodes."""
    folder = light.home / "code"
    folder.mkdir()
    (folder / "server.py").write_text("one\n")
    assert light.config is not None
    config = json.loads(light.config.read_text())
    config["dev"] = {"source": str(folder), "target": "there", "exclude": ["*.log"]}
    light.config.write_text(json.dumps(config))
    return folder


def test_the_loop(light: Inv, source: Path) -> None:
    """A line for each save: restarted, failed and what is left, restarted again; then Ctrl-C."""
    there, load = light.home / "there" / "server.py", light.home / "light" / "load.1.py"
    light("tp.start")
    with running(light, "dev.loop") as process:
        assert re.search(f"{CYCLE}begun: copy .*, stop .*, load ", until(process, "begun"))
        (source / "noise.log").write_text("left out: no cycle\n")
        load.write_text("raise ValueError('broken')")
        (source / "server.py").write_text("two\n")
        line = until(process, CYCLE)
        assert re.search(f"{CYCLE}server.py: failed: rank 1 .* died: exit status 1; ", line)
        assert line.endswith("the server is now stopped: mend it and save\n")
        assert there.read_text() == "two\n"
        load.unlink()
        (source / "server.py").write_text("three\n")
        assert re.search(f"{CYCLE}server.py: copy ", until(process, CYCLE))
        assert there.read_text() == "three\n"
        process.send_signal(signal.SIGINT)
        err = process.communicate(timeout=DEADLINE)[1]
    assert process.returncode == 130
    assert "    rank 1, first error: ValueError: broken" in err
    assert not re.search("^Traceback", err, re.MULTILINE)
    wait_for(lambda: ready(light))


@pytest.fixture
def stranger(light: Inv, network: tuple[str, ...]) -> Iterator[Stranger]:
    """`stranger(port, *as_user)`: a server of our engine and user, or what another user has."""
    begun: list[subprocess.Popen[bytes]] = []

    def begin(port: int, *other: str) -> subprocess.Popen[bytes]:
        ours = [sys.executable, ROOT / "tests" / "light_rank.py", "--port", port]
        ours += ["--model", light.home / "model"]
        words = [*other, "perl", "-e", LISTENS, port] if other else ours
        env = {**os.environ, "LIGHT_RANK": str(light.home / "light")}
        begun.append(subprocess.Popen([*network, *map(str, words)], env=env))
        table = Path(f"/proc/{network[2]}/net/tcp")
        wait_for(lambda: begun[-1].poll() or f":{port:04X} 00000000:0000 0A" in table.read_text())
        return begun[-1]

    yield begin
    for process in begun:
        process.kill()
        process.wait(DEADLINE)


def test_strangers_live_through_it(
    light: Inv, source: Path, network: tuple[str, ...], stranger: Stranger
) -> None:
    """Ours and another user's servers; one on our port is named, and the loop goes on without."""
    inv = replace(light, inside=network)
    inv("tp.start")
    inv("tp.stop")
    lone = [stranger(inv.port + 5), stranger(inv.port + 6, *AS_NOBODY)]
    first = stranger(inv.port)
    with running(inv, "dev.loop") as process:
        held = rf"port {inv.port} is held by \S+ \(pid {{}}\), which is not ours; nothing was"
        assert re.search(held.format(first.pid), until(process, "begun"))
        first.kill()
        first.wait(DEADLINE)
        second = stranger(inv.port, *AS_NOBODY)
        (source / "server.py").write_text("two\n")
        assert re.search(held.format(second.pid), until(process, CYCLE))
        inv("dev.sync", "--delete")
        assert [each.poll() for each in (*lone, second)] == [None] * 3
        second.kill()
        second.wait(DEADLINE)
        (source / "server.py").write_text("three\n")
        assert re.search(f"{CYCLE}server.py: copy .*, load ", until(process, CYCLE))
    inv("tp.restart", "--sync")
    left = inv("tp.stop").err
    assert f"not ours, left alone: 127.0.0.1: pid {lone[0].pid}, root, since " in left
    assert [each.poll() for each in lone] == [None, None]


def test_no_loop_without_a_server_or_a_source(light: Inv) -> None:
    assert "no server was ever started there: inv tp.start" in light("dev.loop", code=3).err
    light("tp.start")
    # No --source: it has none.
    assert light("dev.loop", code=2).one_line().startswith("give dev.source in invoke.yaml")


def test_a_copy_and_its_document(light: Inv, source: Path) -> None:
    row = {"host": "127.0.0.1", "state": "ok"}
    found = light("dev.sync", "--json").json()["rows"]
    assert found == [row | {"what": "1 file sent (4 B); 1 file there as here"}]
    dry = light("dev.sync", "--json", "--dry-run", "--target", "other").json()
    assert dry["rows"] == [row | {"state": "send", "what": "server.py"}]
    assert any("rsync" in line for line in dry["lines"])
    (light.home / "there").rename(light.home / "file")
    (light.home / "there").touch()
    failed = light("dev.sync", "--json", code=4).json()
    assert failed["rows"][0]["state"] == "fail"
    assert failed["rows"][0]["what"] in failed["error"]
