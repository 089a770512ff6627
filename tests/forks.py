"""`inv` as a fork of one process that has imported what `inv` imports, which is most of its time.

All else is a process of its own as ever: words, environment, folder, output, exit status. What
Python itself reads of its environment before the first line stays that of the first process, so a
test that sets such a variable starts `inv` anew; so does one with tasks that are not this
checkout's.
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
import threading
import time
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
OF_PYTHON = ("PYTHON", "LC_", "LANG", "TZ", "LD_")  # how the names of such variables begin
PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
MUCH = 1 << 20  # bytes: more than words and an environment have


def can_run(words: list[str], env: dict[str, str], cwd: Path) -> bool:
    """Whether a fork would be what a new Python is: with our tasks, in such an environment."""
    if sys.platform != "linux":
        return False
    ours = cwd == ROOT or ("-r", str(ROOT)) in itertools.pairwise(words)
    return ours and _of_python(env) == _of_python(dict(os.environ))


def _of_python(env: dict[str, str]) -> dict[str, str]:
    return {key: value for key, value in env.items() if key.startswith(OF_PYTHON)}


class Forked(subprocess.Popen[str]):
    """`python -m invoke WORDS`, a child of this process like any other, only not begun anew.

    In the network namespace `network` (/proc/PID/ns/net), if one is said.
    """

    def __init__(self, words: list[str], *, network: Path | None = None, **options: Any) -> None:
        self._network = str(network or "")
        super().__init__(words, **options)

    def _execute_child(self, args: list[str], *rest: Any) -> None:
        """Have it forked in place of fork and exec; `rest` is as subprocess gives it."""
        cwd, env, pipes, has_session = rest[4], rest[5], rest[9:15], rest[20]
        theirs = [pipes[0], pipes[3], pipes[5]]
        streams = [number if pipe == -1 else pipe for number, pipe in enumerate(theirs)]
        words = [os.fsdecode(word) for word in args]
        order = json.dumps([words, env, str(cwd), self._network, has_session]).encode()
        try:
            self.pid = _adopted(order, streams)
            self._child_created = True
        finally:
            self._close_pipe_fds(*pipes)  # type: ignore[attr-defined]


def _adopted(order: bytes, streams: list[int]) -> int:
    """The pid of the fork, once it is this process's child: its parent ends at once."""
    _prctl(PR_SET_CHILD_SUBREAPER, 1)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as asked:
            asked.connect(_server())
            asked.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, MUCH)
            socket.send_fds(asked, [order], streams)
            pid = int(asked.recv(MUCH))
        while _parent(pid) != os.getpid():
            time.sleep(0.001)
    finally:
        _prctl(PR_SET_CHILD_SUBREAPER, 0)
    return pid


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def _prctl(*words: int) -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(*words):
        raise OSError(ctypes.get_errno(), "prctl")


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
    sys.modules["tasks.cluster.config.hostfile"].validator()  # nearly every command makes it
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
                os._exit(leave_one(asked))
            asked.close()


def leave_one(asked: socket.socket) -> int:
    """Fork once more, tell that pid and end, by which whoever asked becomes the parent."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    order, streams, _, _ = socket.recv_fds(asked, MUCH, 3)
    words, env, cwd, network, has_session = json.loads(order)
    pid = os.fork()
    if not pid:
        asked.close()
        if has_session:
            os.setsid()
        enter(network)
        be_invoke(words, env, cwd, streams)
    asked.send(str(pid).encode())
    return 0


def enter(network: str) -> None:
    """Be in that network namespace; Python knows setns from 3.12 on."""
    if network:
        with Path(network).open() as opened:
            if ctypes.CDLL(None, use_errno=True).setns(opened.fileno(), 0):
                raise OSError(ctypes.get_errno(), network)


def be_invoke(words: list[str], env: dict[str, str], cwd: str, streams: list[int]) -> None:
    """What `python -m invoke WORDS` does after its own start, to the end."""
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.environ.clear()
    os.environ.update(env)
    time.tzset()
    os.chdir(cwd)
    sys.path[0] = cwd  # as `python -m` has it
    sys.argv[1:] = words
    try:
        runpy.run_module("invoke", run_name="__main__", alter_sys=True)
    except SystemExit as ended:
        if not isinstance(ended.code, int):
            raise
        end(ended.code)
    end(0)


def end(status: int) -> None:
    """What Python does at its end, but for taking apart all that was imported.

    Of that a fork has no copy of its own until then, and to make one took half of most commands.
    """
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in filter(None, (sys.stdout, sys.stderr)):
        stream.flush()
    os._exit(status)


if __name__ == "__main__":
    serve(sys.argv[1])
