"""Process 1 does what the host's commands are asked: no Python starts for each of them.

A command is `client.pl`, which connects and waits. All that there is to know of it, its words,
environment, folder and open files, the kernel tells by its pid. A child of this process then takes
its place: as its user, with its stdin, stdout and stderr. It is killed when the client dies. What
is asked most only looks, and is answered here: a child costs more than the answer.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import io
import os
import selectors
import signal
import socket
import struct
import sys
import time
import traceback
from collections.abc import Callable

from . import apple, node

SOCKET = "/run/rig.socket"
ALONE = ("launchd", "sudo")  # not asked for here: see run.py
LOOKS = (
    "ps", "sysctl", "vm_stat", "sw_vers", "ioreg", "netstat", "route", "ibv_devices", "ibv_devinfo",
    "ioclasscount", "rdma_ctl", "system_profiler", "networksetup", "lsof", "pgrep", "pmset",
    "fdesetup", "defaults", "socketfilterfw",
)  # fmt: skip
PIDFD_GETFD = 438  # on every architecture; Python has no name for it
_libc = ctypes.CDLL(None, use_errno=True)
Commands = dict[str, str]  # name -> module


class Server:
    """`running` has the connection of each child, by its pid."""

    def __init__(self, commands: Commands) -> None:
        self.commands = {
            name: getattr(importlib.import_module(f".{module}", __package__), name)
            for name, module in commands.items()
            if name not in ALONE
        }
        self.running: dict[int, socket.socket] = {}
        self.selector = selectors.DefaultSelector()
        apple.rows()

    def serve(self) -> None:
        read, write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(SOCKET)
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(SOCKET)
        os.chmod(SOCKET, 0o666)
        listener.listen(256)
        node.kept = node.Kept()
        self.selector.register(read, selectors.EVENT_READ, lambda: self._reap(read))
        self.selector.register(listener, selectors.EVENT_READ, lambda: self._begin(listener))
        gc.freeze()  # else each child copies what its first collection looks at
        while True:
            for key, _ in self.selector.select():
                key.data()

    def _begin(self, listener: socket.socket) -> None:
        client, _ = listener.accept()
        pid, user, group = struct.unpack(
            "3i", client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        )
        try:
            path, *words = _strings(pid, "cmdline")[1:]  # the first one is perl
            environment = dict(each.split("=", 1) for each in _strings(pid, "environ"))
        except (OSError, ValueError):
            return client.close()  # it has died
        name = os.path.basename(path)
        node.log([name, *words])
        self.selector.register(client, selectors.EVENT_READ, lambda: self._died(client))
        if name in node.fault("hang"):
            return None
        command = self.commands[name]
        client_of = node.Client(pid, user)
        if _only_looks(name, words):
            said = _look(client_of, environment, lambda: _checked(command, path, words))
            if said is not None:
                return self._end(client, said)
        child = os.fork()
        if child:
            self.running[child] = client
            return None
        self._leave()
        _be(client_of, group, environment, name == "ps", lambda: _checked(command, path, words))

    def _leave(self) -> None:
        """In the child: let go of all that is the server's."""
        node.kept = None  # what tells of changes is one socket
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for key in list(self.selector.get_map().values()):
            os.close(key.fd)

    def _end(self, client: socket.socket, said: str) -> None:
        with contextlib.suppress(OSError):
            client.sendall(said.encode(errors="surrogateescape"))
        self.selector.unregister(client)
        client.close()

    def _died(self, client: socket.socket) -> None:
        for child in [pid for pid, each in self.running.items() if each is client]:
            os.kill(child, signal.SIGKILL)
            del self.running[child]
        self.selector.unregister(client)
        client.close()

    def _reap(self, read: int) -> None:
        os.read(read, 4096)
        with contextlib.suppress(ChildProcessError):
            while True:
                child, status = os.waitpid(-1, os.WNOHANG)
                if not child:
                    break
                code = os.waitstatus_to_exitcode(status)
                if client := self.running.pop(child, None):
                    self._end(client, str(code if code >= 0 else 128 - code))


def _only_looks(name: str, words: list[str]) -> bool:
    if name == "ifconfig":  # of one interface, or of all
        return len(words) < 2
    return name in LOOKS and not (name == "sysctl" and any("=" in word for word in words))


def _strings(pid: int, file: str) -> list[str]:
    with open(f"{node.PROC}/{pid}/{file}", "rb") as opened:
        data = opened.read()
    return [os.fsdecode(each) for each in data.split(b"\0")[:-1]]


def _checked(command: Callable[[list[str]], int], path: str, words: list[str]) -> int:
    """Run it, unless Apple's would know one of the words not."""
    refusal = apple.check(path, words)
    if refusal and not path.endswith("/sysctl"):  # which goes on, and says it of each
        node.say(refusal.line)
        return 1 if refusal.status is None else refusal.status
    return command(words)


def _look(client: node.Client, environment: dict[str, str], what: Callable[[], int]) -> str | None:
    """The answer to a command that only looks; None where that is not all, or goes wrong."""
    before = dict(os.environ), node.client
    said, wrong = io.StringIO(), io.StringIO()
    try:
        _live_as(client, environment)
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(wrong):
            failed = what()
    except Exception:
        return None
    finally:
        _live_as(before[1], before[0])
    text = said.getvalue()
    if wrong.getvalue() or (failed and text):
        return None
    return str(failed) if failed else f"={text}"  # as lsof and pgrep, where there is nothing


def _live_as(client: node.Client, environment: dict[str, str]) -> None:
    node.client = client
    os.environ.clear()
    os.environ.update(environment)
    time.tzset()


def _be(
    client: node.Client,
    group: int,
    environment: dict[str, str],
    is_setuid: bool,  # as Apple's ps is, which shows everybody's processes
    what: Callable[[], int],
) -> None:
    """Be the client for as long as `what` takes, and end."""
    status = 1
    try:
        handle = os.pidfd_open(client.pid)
        for number in (0, 1, 2):
            opened = _libc.syscall(PIDFD_GETFD, handle, number, 0)
            if opened < 0:
                raise OSError(ctypes.get_errno(), f"file {number} of {client.pid}")
            os.dup2(opened, number)
            os.close(opened)
        os.close(handle)
        os.chdir(f"{node.PROC}/{client.pid}/cwd")
        if not is_setuid:
            os.setgroups([])
            os.setgid(group)
            os.setuid(client.user)
        _live_as(client, environment)
        sys.stdout, sys.stderr = (
            open(number, "w", encoding="utf-8", errors="surrogateescape", closefd=False)  # noqa: SIM115
            for number in (1, 2)
        )
        status = what()
        sys.stdout.flush()
    except BrokenPipeError:
        status = 141
    except SystemExit as ended:
        status = int(ended.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.flush()
        os._exit(status)
