"""`inv` as a fork of one process that has imported what `inv` imports, which is most of its time.

All else is a process of its own as ever: words, environment, folder, output, exit status. What
Python itself reads of its environment before the first line stays that of the first process, so a
test that sets such a variable starts `inv` anew; so does one with tasks that are not this
checkout's, and one that interrupts its own child.
"""

from __future__ import annotations

import atexit
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
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
OF_PYTHON = ("PYTHON", "LC_", "LANG", "TZ", "LD_")  # how the names of such variables begin
MUCH = 1 << 20  # bytes: more than words and an environment have


def can_run(words: list[str], env: dict[str, str], cwd: Path) -> bool:
    """Whether a fork would be what a new Python is: with our tasks, in such an environment."""
    ours = cwd == ROOT or ("-r", str(ROOT)) in itertools.pairwise(words)
    return ours and _of_python(env) == _of_python(dict(os.environ))


def _of_python(env: dict[str, str]) -> dict[str, str]:
    return {key: value for key, value in env.items() if key.startswith(OF_PYTHON)}


def run(words: list[str], env: dict[str, str], cwd: Path, seconds: float) -> tuple[int, str, str]:
    """`python -m invoke WORDS` in the folder `cwd`: its exit status, stdout and stderr."""
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as asked,
        tempfile.TemporaryFile("w+") as out,
        tempfile.TemporaryFile("w+") as err,
    ):
        asked.connect(_server())
        asked.settimeout(seconds)
        asked.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, MUCH)
        text = json.dumps([[os.fsdecode(word) for word in words], env, str(cwd)]).encode()
        socket.send_fds(asked, [text], [out.fileno(), err.fileno()])
        pid = int(asked.recv(MUCH))
        try:
            code = int(asked.recv(MUCH))
        except TimeoutError as error:
            os.kill(pid, signal.SIGKILL)
            raise subprocess.TimeoutExpired(words, seconds) from error
        for file in (out, err):
            file.seek(0)
        return code, out.read(), err.read()


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
    words, env, cwd = json.loads(text)
    pid = os.fork()
    if not pid:
        asked.close()
        be_invoke(words, env, cwd, streams)
    asked.send(str(pid).encode())
    asked.send(str(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])).encode())
    return 0


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
