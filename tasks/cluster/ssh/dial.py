"""The socket on which SSH is spoken: to an address of the host, or to ProxyCommand's command."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
import time
from contextlib import suppress

from ..text import said

_KEPT = 4096  # bytes of what a command says on stderr

Address = tuple[str, int] | tuple[str, int, int, int]  # IPv4's, IPv6's


def dial(host: str, port: int, family: int, timeout: float) -> socket.socket:
    """Connect to the first address of a host that lets us, as ssh does; raise OSError.

    Paramiko goes on to the next address only where this one refuses. All of them together have
    `timeout` seconds.
    """
    errors: dict[Address, Exception] = {}
    found = _addresses(host, port, family)
    end = time.monotonic() + timeout
    for number, (kind, address) in enumerate(found):
        share = (end - time.monotonic()) / (len(found) - number)
        try:
            return _connected(kind, address, max(share, 0.1))
        except OSError as error:
            errors[address] = error
    if all(isinstance(each, TimeoutError) for each in errors.values()):
        raise TimeoutError
    from paramiko.ssh_exception import NoValidConnectionsError

    raise NoValidConnectionsError(errors)


def _addresses(host: str, port: int, family: int) -> list[tuple[int, Address]]:
    try:
        rows = socket.getaddrinfo(host, port, family, socket.SOCK_STREAM)
    except UnicodeError as error:  # a..b, or a part that is too long for a name
        raise socket.gaierror(socket.EAI_NONAME, str(error)) from None
    return [(row[0], row[4]) for row in rows]  # type: ignore[misc]


def _connected(family: int, address: Address, timeout: float) -> socket.socket:
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.settimeout(timeout)
        made.connect(address)
    except OSError:
        made.close()
        raise
    return made


class ProxySocket(socket.socket):
    """Our end of a socket whose other end is a command's stdin and stdout; closing it ends that.

    Paramiko's own ProxyCommand does not see that its command has ended (it asks again and again),
    and reads nothing of its stderr: a command that says much there would wait for ever.
    """

    def __init__(self, command: str) -> None:
        ours, theirs = socket.socketpair()
        super().__init__(fileno=ours.detach())
        self._said = b""
        with theirs:
            end = theirs.fileno()
            # As ssh: by the user's own shell, which the command replaces.
            self._process = subprocess.Popen(
                [os.environ.get("SHELL") or "/bin/sh", "-c", f"exec {command}"],
                stdin=end,
                stdout=end,
                stderr=subprocess.PIPE,
            )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stderr
        with self._process.stderr as stderr:
            while part := os.read(stderr.fileno(), _KEPT):
                self._said = (self._said + part)[:_KEPT]
        self._process.wait()

    @property
    def why(self) -> str:
        """Why nothing came from the command any more: what it said, and its exit status."""
        self._reader.join(0.5)  # its last word may still be on the way
        words = said(self._said.decode(errors="replace"))
        status = self._process.poll()
        if status is None or status < 0:  # it went on, until we ended it
            return words and f"ProxyCommand: {words}"
        return f"ProxyCommand ended: {words or 'without a word'} (exit status {status})"

    def passed(self, timeout: float) -> socket.socket:
        """The socket that the command made and hands over (ProxyUseFdpass)."""
        self.settimeout(timeout)
        _, files, _, _ = socket.recv_fds(self, 1, 1)
        if not files:
            raise ConnectionError(self.why or "ProxyCommand handed no socket over")
        return socket.socket(fileno=files[0])

    def close(self) -> None:
        super().close()
        with suppress(OSError):
            self._process.terminate()
