"""`inv` as a fork of one process that has imported what `inv` imports, which is most of its time.

All else is a process of its own as ever: words, environment, folder, output, exit status. What
Python itself reads of its environment before the first line stays that of the first process, so a
test that sets such a variable starts `inv` anew; so does one with tasks that are not this
checkout's, and one that interrupts its own child.
"""

from __future__ import annotations

import atexit
import ctypes
import gc
import importlib
import itertools
import json
import os
import pkgutil
import runpy
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO

ROOT = Path(__file__).parents[1]
OF_PYTHON = ("PYTHON", "LC_", "LANG", "TZ", "LD_")  # how the names of such variables begin
DEADLINE = 60.0  # seconds until a fork is there
MUCH = 1 << 20  # bytes: more than words and an environment have


def can_run(words: list[str], env: dict[str, str], cwd: Path) -> bool:
    """Whether a fork would be what a new Python is: with our tasks, in such an environment."""
    ours = cwd == ROOT or ("-r", str(ROOT)) in itertools.pairwise(words)
    return ours and _of_python(env) == _of_python(dict(os.environ))


def _of_python(env: dict[str, str]) -> dict[str, str]:
    return {key: value for key, value in env.items() if key.startswith(OF_PYTHON)}


@dataclass
class Fork:
    """A command that runs: its process, who tells of its end, and what it writes."""

    pid: int
    asked: socket.socket
    out: IO[str]
    err: IO[str]
    code: int | None = None

    def poll(self, seconds: float = 0) -> int | None:
        """Its exit status; None if it has not ended within so many seconds."""
        if self.code is None and select.select([self.asked], [], [], seconds)[0]:
            self.code = int(self.asked.recv(MUCH))
        return self.code

    def close(self) -> None:
        for each in (self.asked, self.out, self.err):
            each.close()

    def said(self) -> tuple[str, str]:
        """What it has written so far, to stdout and stderr."""
        texts = []
        for file in (self.out, self.err):
            file.seek(0)
            texts.append(file.read())
        return texts[0], texts[1]


def run(
    words: list[str], env: dict[str, str], cwd: Path, network: Path | None, seconds: float
) -> tuple[int, str, str]:
    """`python -m invoke WORDS` in the folder `cwd`: its exit status, stdout and stderr.

    In the namespace `network` (/proc/PID/ns/net), if one is said.
    """
    fork = begin(words, env, cwd, network)
    try:
        code = fork.poll(seconds)
        if code is None:
            os.kill(fork.pid, signal.SIGKILL)
            raise subprocess.TimeoutExpired(words, seconds)
        return code, *fork.said()
    finally:
        fork.close()


def begin(
    words: list[str], env: dict[str, str], cwd: Path = ROOT, network: Path | None = None
) -> Fork:
    """Start it, without waiting for its end."""
    out, err = tempfile.TemporaryFile("w+"), tempfile.TemporaryFile("w+")  # noqa: SIM115
    asked = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    asked.connect(_server())
    asked.settimeout(DEADLINE)
    asked.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, MUCH)
    said = [[os.fsdecode(word) for word in words], env, str(cwd), str(network or "")]
    text = json.dumps(said).encode()
    socket.send_fds(asked, [text], [out.fileno(), err.fileno()])
    return Fork(int(asked.recv(MUCH)), asked, out, err)


@cache
def _server() -> str:
    """Where the process listens that forks; it ends with this one, which holds its stdin."""
    folder = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    path = str(Path(folder, "forks"))
    process = subprocess.Popen(
        [sys.executable, __file__, path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
    )
    assert process.stdin
    assert process.stdout
    atexit.register(process.wait)
    atexit.register(process.stdin.close)
    assert process.stdout.readline() == b"ready\n"
    return path


def serve(path: str) -> None:
    """Fork for whoever asks, until stdin ends."""
    sys.path[0] = str(ROOT)
    tasks = pkgutil.walk_packages([str(ROOT / "tasks")], "tasks.")
    ours = [found.name for found in tasks if ".remote" not in found.name]
    for name in ["invoke.main", "fabric", "requests", *ours]:
        importlib.import_module(name)
    gc.freeze()  # else each fork copies all that its first collection looks at
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those who wait
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(path)
        listener.listen(64)
        print("ready", flush=True)
        while listener in select.select([listener, sys.stdin], [], [])[0]:
            asked, _ = listener.accept()
            if not os.fork():
                listener.close()
                os._exit(wait_for_one(asked))
            asked.close()


def wait_for_one(asked: socket.socket) -> int:
    """Tell the fork's pid and, when it has ended, its exit status, as subprocess has it."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    text, streams, _, _ = socket.recv_fds(asked, MUCH, 2)
    words, env, cwd, network = json.loads(text)
    pid = os.fork()
    if not pid:
        asked.close()
        enter(network)
        be_invoke(words, env, cwd, streams)
    asked.send(str(pid).encode())
    asked.send(str(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])).encode())
    return 0


def enter(network: str) -> None:
    """Be in that network namespace; Python knows setns from 3.12 on."""
    if network:
        with Path(network).open() as opened:
            if ctypes.CDLL(None, use_errno=True).setns(opened.fileno(), 0):
                raise OSError(ctypes.get_errno(), network)


def be_invoke(words: list[str], env: dict[str, str], cwd: str, streams: list[int]) -> None:
    """What `python -m invoke WORDS </dev/null` does after its own start, to the end."""
    for number, stream in enumerate([os.open(os.devnull, os.O_RDONLY), *streams]):
        os.dup2(stream, number)
        os.close(stream)
    os.environ.clear()
    os.environ.update(env)
    time.tzset()
    os.chdir(cwd)
    sys.path[0] = cwd  # as `python -m` has it
    sys.argv[1:] = words
    runpy.run_module("invoke", run_name="__main__", alter_sys=True)
    sys.exit()


if __name__ == "__main__":
    serve(sys.argv[1])
