"""inv tp.watch on a real server: what it notices, what it leaves alone, and a restart."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from conftest import Inv
from tasks.cluster.verdict import Signs

from tasks.cluster import verdict
from tasks.cluster.facts import NodeFacts
from tasks.cluster.snapshot import Snapshot
from tasks.cluster.state import KEY as STATE
from tasks.cluster.state import RankState, Record, State


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
    for line in process.stdout:
        seen += line
        if re.search(pattern, line):
            return line
    raise AssertionError(f"no {pattern!r} in:\n{seen}\n{process.stderr and process.stderr.read()}")


def pids(inv: Inv) -> list[int]:
    return [row["pid"] for row in inv("tp.status", "--json").json()["ranks"]]


def test_a_dead_rank_is_told(light: Inv) -> None:
    light("tp.start")
    with watching(light) as process:
        assert re.match(r"\d\d:\d\d:\d\d  serving$", until(process, "serving"))
        os.kill(pids(light)[1], signal.SIGKILL)
        line = until(process, "failed")
        assert "died: rank 1 on 127.0.0.1 (killed by SIGKILL)" in line
        _, err = process.communicate(timeout=60)
        assert process.returncode == 3
        assert "the server has failed: died: rank 1" in err


def test_no_server(light: Inv) -> None:
    done = light("tp.watch", code=3)
    assert "stopped: no server is recorded: inv tp.start" in done.err


def test_an_engine_without_tokens(served: Inv) -> None:
    """Rank 1 hangs: all ranks live, the page is green, and there is no token."""
    served("tp.start")
    second = pids(served)[1]
    os.kill(second, signal.SIGSTOP)
    try:
        with watching(served, "--patience", "3") as process:
            assert "all ranks live, but no token for" in until(process, "failed")
            process.communicate(timeout=60)
            assert process.returncode == 3
    finally:
        os.kill(second, signal.SIGCONT)


def test_restart(light: Inv) -> None:
    """The server that failed is stopped properly, and another serves in its place."""
    light.env["INVOKE_TP_COOLDOWN"] = "1"
    light("tp.start")
    first = pids(light)
    with watching(light, "--restart", "--max-restarts", "1") as process:
        until(process, "serving")
        os.kill(first[0], signal.SIGKILL)
        until(process, "failed: died: rank 0")
        assert "in 10 s (0 restarts left after that)" in until(process, "starting it again")
        until(process, "serving")
        second = pids(light)
        assert not set(first) & set(second)
        os.kill(second[1], signal.SIGKILL)
        until(process, "failed: died: rank 1")
        _, err = process.communicate(timeout=60)
        assert process.returncode == 3
        assert "has failed after 1 restarts" in err


# The server as its nodes and its HTTP side tell it -> what is made of it. Pure.

RECORD = Record(
    run="r1", rank=0, size=2, host="a", backend="ring", engine="mlx-lm", ready="/health",
    model="", command=["python"], env=[], bind="127.0.0.1", port=8000, ports=[1], log=None,
    started=0.0, by="me",
)  # fmt: skip


def ranks(*alive: bool, ready: str | None = "r1") -> Snapshot:
    found = {
        index: RankState(index, RECORD, 100 + index, "1", "b", lives, None if lives else 137)
        for index, lives in enumerate(alive)
    }
    values = {STATE: State(0.0, found, None, ready)}
    return Snapshot({"a": NodeFacts("a", values)}, {})


GONE = Snapshot(ranks(True, True).nodes, {"b": ("SSH failed (Connection refused)", "ssh -v b")})
FINE = Signs(token=1.0)


@pytest.mark.parametrize(
    ("read", "signs", "state", "says"),
    [
        (ranks(True, True), FINE, verdict.SERVING, ""),
        (ranks(True, True), Signs(token=70.0), verdict.BUSY, ""),
        (ranks(True, True), Signs(token=599.0), verdict.BUSY, ""),
        (ranks(True, True), Signs(token=601.0), verdict.FAILED, "no token for 601 s"),
        (ranks(True, True), Signs(1.0, "GET /v1/models: no connection"), verdict.FAILED, "/models"),
        (
            ranks(True, True),
            Signs(700.0, "", "it wants a key"),
            verdict.UNASKED,
            "can't be asked: it",
        ),
        (ranks(True, False), Signs(1.0, "", "it wants a key"), verdict.FAILED, "rank 1 on a"),
        (ranks(True, False), FINE, verdict.FAILED, "rank 1 on a (killed by SIGKILL)"),
        (ranks(True), FINE, verdict.FAILED, "only 1 of 2 ranks"),
        (ranks(True, True, ready=None), Signs(601.0, "x"), verdict.STARTING, ""),
        (ranks(True, False, ready=None), FINE, verdict.FAILED, "rank 1"),
        (ranks(), FINE, verdict.STOPPED, ""),
        (GONE, FINE, verdict.UNKNOWN, "b (SSH failed"),
        (Snapshot({"a": NodeFacts("a", {})}, {}), FINE, verdict.UNKNOWN, "its state can't be read"),
    ],
)
def test_verdict(read: Any, signs: Signs, state: str, says: str) -> None:
    found = verdict.judge(read, 2, signs, patience=600)
    assert found.state == state
    assert says in found.why
