"""What this host knows of itself: `/.rig/NAME/state.json`, `/.rig/cables.json`, and its log."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

RIG = "/.rig"
# A Mac has neither: what runs in a host finds nothing in the usual places.
PROC = "/.proc"
SYS = "/.sys"
WORD_END, ROW_END = "\x1f", "\x1e"
NAME = os.uname().nodename


class Client(NamedTuple):
    """Who asked for a command: its process, and its user."""

    pid: int
    user: int


client = Client(os.getpid(), os.getuid())


def path(name: str, of: str = NAME) -> str:
    return f"{RIG}/{of}/{name}"


def state(of: str = NAME) -> dict[str, Any]:
    with open(path("state.json", of)) as file:
        found: dict[str, Any] = json.load(file)
    return found


def change(**values: Any) -> None:
    """Replace values of this host's state; written beside and moved, so that it is always whole."""
    new = path(f"state.json.{os.getpid()}")
    with open(new, "w") as file:
        json.dump({**state(), **values}, file)
    os.replace(new, path("state.json"))


def fault(name: str) -> list[str]:
    """What a fault is switched on for (devices, commands)."""
    found: list[str] = state()["faults"].get(name, [])
    return found


def peer(interface: str) -> tuple[str, str] | None:
    """(host, interface) at the other end of the cable in `interface`, or None."""
    with open(f"{RIG}/cables.json") as file:
        cables = json.load(file)
    for one, at_one, other, at_other in cables:
        if (one, at_one) == (NAME, interface):
            return other, at_other
        if (other, at_other) == (NAME, interface):
            return one, at_one
    return None


def is_root(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether sudo or launchd was asked: that the user is root too makes no difference."""
    if os.geteuid() != 0:
        return False
    return "SUDO_UID" in environment or "XPC_SERVICE_NAME" in environment


def log(argv: list[str]) -> None:
    """A row of words, which can hold what ends neither: the real sudo's shell writes one too."""
    with open(path("calls"), "a", encoding="utf-8", errors="surrogateescape") as file:
        file.write(WORD_END.join(argv) + ROW_END)


class Kept:
    """What `ip` has shown of addresses and routes, until the kernel tells of a change."""

    GROUPS = 0x1 | 0x4 | 0x10 | 0x40 | 0x100 | 0x400  # linux/rtnetlink.h, RTMGRP_

    def __init__(self) -> None:
        self.rows: dict[tuple[str, ...], Any] = {}
        self._changes = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        self._changes.bind((0, self.GROUPS))
        self._changes.setblocking(False)

    def get(self, words: tuple[str, ...]) -> Any:
        while self._has_changed():
            self.rows.clear()
        if words not in self.rows:
            self.rows[words] = _ip(words)
        return self.rows[words]

    def _has_changed(self) -> bool:
        try:
            return bool(self._changes.recv(65536))
        except BlockingIOError:
            return False
        except OSError:  # more changes than it could hold
            return True


kept: Kept | None = None


def ip(*words: str) -> Any:
    """The rows of `ip -json WORDS`; raise OSError with ip's message when it refuses."""
    is_steady = words in (("address", "show"), ("-4", "route", "show"))
    return kept.get(words) if kept and is_steady else _ip(words)


def _ip(words: Sequence[str]) -> Any:
    line = [f"{RIG}/bin/ip", "-json", *words]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise OSError(done.stderr.strip())
    return json.loads(done.stdout or "[]")


def has_carrier(interface: str) -> bool:
    try:
        with open(f"{SYS}/class/net/{interface}/carrier") as file:
            return file.read().strip() == "1"
    except OSError:
        return False


def bridge_of(interface: str) -> str | None:
    try:
        return os.path.basename(os.readlink(f"{SYS}/class/net/{interface}/master"))
    except OSError:
        return None


def join(interface: str, bridge: str) -> None:
    """Ports of one bridge must not pass on to each other: a mesh of bridges is a loop."""
    ip("link", "set", interface, "master", bridge)
    # Whoever works against configd may have taken it out again by now.
    with contextlib.suppress(OSError):
        ip("link", "set", interface, "type", "bridge_slave", "isolated", "on")


def say(text: str) -> None:
    print(text, file=sys.stderr)
