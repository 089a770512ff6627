"""A connection to a port as a node sees it, by a program there, where sshd forwards none."""

from __future__ import annotations

import errno
import os
import secrets
from typing import TYPE_CHECKING

from . import scripts

if TYPE_CHECKING:
    import paramiko

FORBIDDEN = 1  # SSH_OPEN_ADMINISTRATIVELY_PROHIBITED (RFC 4254, 5.1)
START = 10.0  # seconds that a node has to start the program
_HEAD = 65536  # bytes that a login shell may say before it


class NoWayError(ConnectionError):
    """No way leads to the port: sshd forwards nothing, and no python is there to go between."""


def channel(transport: paramiko.Transport, python: str, host: str, port: int) -> paramiko.Channel:
    """A channel joined to `host:port` by the node's python; raise OSError, or NoWayError."""
    nonce = secrets.token_hex(8)
    script = scripts.script(
        "relay/relay.sh",
        python=python,
        between=scripts.text("relay/relay.py"),
        host=host,
        port=port,
        nonce=nonce,
    )
    made = transport.open_session(timeout=START)
    try:
        made.settimeout(START)
        # What follows on stdin is sent once the program has said that it reads: sh reads ahead.
        made.exec_command("/bin/sh -s")
        made.sendall(script.encode())
        _check(_said(made, nonce))
    except BaseException:
        made.close()
        raise
    return made


def _said(channel: paramiko.Channel, nonce: str) -> str:
    """What the program says first; nothing of what comes behind that is taken."""
    head = b""
    while not head.endswith(b"\n") or nonce.encode() not in head:
        byte = channel.recv(1)
        if not byte or len(head) > _HEAD:
            return "no python3"
        head += byte
    return head.decode("utf-8", "replace").partition(nonce)[2].strip()


def _check(said: str) -> None:
    number = getattr(errno, said, None) if said.startswith("E") else None
    if number is not None:
        raise OSError(number, os.strerror(number))  # ConnectionRefusedError, TimeoutError
    if said != "connected":
        raise NoWayError(said)
