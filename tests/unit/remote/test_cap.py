"""A rank's log is kept short while it is written and read: remote/launch/cap.py, logs/new.sh."""

from __future__ import annotations

import errno
import importlib.util
import os
import random
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from conftest import DEADLINE, ROOT

from tasks.cluster.server import logs
from tasks.cluster.server.logs import LogChunk

HEADER = b"# mlx-tp run=a rank=0 host=mac1 by=me\n"
SHELLS = [name for name in ("dash", "bash", "yash", "busybox") if shutil.which(name)]


def load() -> Any:
    spec = importlib.util.spec_from_file_location("cap", ROOT / "tasks/remote/launch/cap.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


CAP = load()


class Log:
    """A rank's log: `all` is what was ever written to it, `before` how much was cut off."""

    def __init__(self, path: Path, shell: str = "sh") -> None:
        self.path, self.all, self.before, self.shell = path, HEADER, 0, shell
        self.file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT)
        os.write(self.file, HEADER)

    def write(self, data: bytes) -> None:
        self.all += data
        os.write(self.file, data)

    def cut(self, rank: int = os.getpid()) -> None:
        self.before = CAP.cut(str(self.path), self.file, len(HEADER), self.before, rank)

    def read(self, key: str, offset: int, limit: int, stream: bool = False) -> list[LogChunk]:
        script = logs.read_script([(0, str(self.path), key, offset)], "nonce", limit, stream)
        line = [self.shell, *(["sh"] if self.shell == "busybox" else []), "-s"]
        done = subprocess.run(
            line, input=script.encode(), capture_output=True, check=True, timeout=DEADLINE
        )
        assert done.stderr == b""
        return logs.parse("mac1", done.stdout.decode("latin-1"), "nonce")


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path / "rank-0.log")


@pytest.mark.parametrize("shell", SHELLS)
def test_what_is_taken_in_parts_is_all_of_it(tmp_path: Path, shell: str) -> None:
    """Where it is cut no faster than it is taken, whatever is in it, and wherever it is cut."""
    chance = random.Random(15)
    log, key, offset, got = Log(tmp_path / "log", shell), "", 0, b""
    for turn in range(30):
        log.write(chance.randbytes(chance.randrange(3000)))
        if turn % 4 == 3:
            log.cut()
        for piece in log.read(key, offset, 2500, stream=True):
            assert (piece.offset, piece.data) == (len(got), log.all[len(got) : piece.end])
            key, offset, got = piece.key, piece.end, got + piece.data
    while len(got) < len(log.all):
        for piece in log.read(key, offset, 2500, stream=True):
            key, offset, got = piece.key, piece.end, got + piece.data
    assert got == log.all


def test_of_much_the_begin_and_the_end_are_taken(log: Log) -> None:
    log.write(b"x" * 10_000)
    head, tail = log.read("", 0, 1000)
    assert (head.offset, tail.end) == (0, len(log.all))
    assert head.data + tail.data == log.all[: head.end] + log.all[-500:]
    assert len(log.all) > sum(map(len, (head.data, tail.data))) <= 1000 + len(HEADER)


def test_what_was_cut_off_twice_is_passed_over(log: Log) -> None:
    for letter in (b"a", b"b", b"c"):
        log.write(letter * 100)
        log.cut()
    log.write(b"d" * 100)
    header, rest = log.read("", 0, 10_000)
    assert (header.data, rest.data) == (HEADER, b"c" * 100 + b"d" * 100)
    assert rest.offset == len(HEADER) + 200
    (new,) = log.read(rest.key, len(HEADER) + 150, 10_000)
    assert (new.offset, new.data) == (rest.offset, rest.data)
    assert log.read(rest.key, rest.end, 10_000) == []


def test_what_a_rank_said_last_stays_in_its_log(log: Log) -> None:
    """It ended while the log was about to be cut: nothing is, and nothing is there twice."""
    log.write(b"old\n" * 100)
    log.cut()
    log.write(b"Fatal Python error\n")
    gone = subprocess.Popen(["true"])
    gone.wait()
    log.cut(gone.pid)
    assert log.path.read_bytes() == HEADER + b"Fatal Python error\n"
    header, rest = log.read("", 0, 10_000)
    assert (header.data, rest.data) == (HEADER, b"Fatal Python error\n")
    assert (rest.offset, rest.end) == (len(HEADER) + 400, len(log.all))


def test_another_log_is_taken_from_its_begin(log: Log) -> None:
    log.write(b"new\n")
    (piece,) = log.read("1 2", 1000, 10_000)
    assert (piece.offset, piece.data) == (0, log.all)


def test_a_log_that_was_emptied_goes_on(log: Log) -> None:
    """By hand, or by the cap while nothing can be written beside it: a full disk."""
    log.write(b"old\n" * 100)
    (piece,) = log.read("", 0, 10_000)
    os.truncate(log.path, len(HEADER))
    log.write(b"new\n")
    (new,) = log.read(piece.key, piece.end, 10_000)
    assert new.data == b"new\n"


def test_a_full_disk_does_not_let_a_log_grow(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    log.write(b"old\n" * 100)
    monkeypatch.setattr(CAP, "copy", full)
    log.cut()
    assert log.path.read_bytes() == HEADER
    log.write(b"new\n")
    (header, new) = log.read("", 0, 10_000)
    assert (header.data, new.data, new.end) == (HEADER, b"new\n", len(log.all))


def test_a_link_that_was_laid_is_not_followed(log: Log, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    for name in (".older", ".older.new"):
        log.path.with_name(log.path.name + name).symlink_to(victim)
    log.write(b"text\n")
    log.cut()
    assert victim.read_text() == "mine"
    assert log.path.with_name("rank-0.log.older").read_bytes().endswith(b"\ntext\n")
