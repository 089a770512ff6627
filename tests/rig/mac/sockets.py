"""lsof of TCP sockets, from the real /proc: of the user's own processes, as a Mac's shows them."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Iterator
from typing import NamedTuple

from . import node, processes

STATES = {1: "ESTABLISHED", 2: "SYN_SENT", 6: "TIME_WAIT", 8: "CLOSE_WAIT", 10: "LISTEN"}


class Socket(NamedTuple):
    """`mine` and `theirs` are (address, port)."""

    family: int
    mine: tuple[str, int]
    theirs: tuple[str, int]
    state: str
    inode: str


def sockets() -> Iterator[Socket]:
    for family, name in ((4, "tcp"), (6, "tcp6")):
        try:
            with open(f"{node.PROC}/net/{name}") as file:
                rows = [line.split() for line in file.read().splitlines()[1:]]
        except FileNotFoundError:
            continue
        for row in rows:
            state = STATES.get(int(row[3], 16), "CLOSED")
            yield Socket(family, _end(row[1]), _end(row[2]), state, row[9])


def _end(text: str) -> tuple[str, int]:
    address, _, port = text.partition(":")
    packed = b"".join(bytes.fromhex(address[i : i + 8])[::-1] for i in range(0, len(address), 8))
    ip = ipaddress.ip_address(packed)
    return "*" if ip.is_unspecified else str(ip), int(port, 16)


def _name(each: Socket) -> str:
    ends = [f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in each[1:3]]
    return ends[0] if each.state == "LISTEN" else "->".join(ends)


def lsof(words: list[str]) -> int:
    """Only `-nP [-a -p PIDS] -iTCP[:PORT] [-sTCP:STATE] [-F FIELDS]`; 1 where there is nothing."""
    text = " ".join(words)
    state = re.search(r"-sTCP:(\w+)", text)
    port = re.search(r"-i\s?TCP:(\d+)", text)
    asked = re.search(r"-p ?([\d,]+)", text)
    pids = {int(each) for each in asked[1].split(",")} if asked else None
    by_inode = {
        each.inode: each for each in sockets()
        if (not state or each.state == state[1]) and (not port or each.mine[1] == int(port[1]))
    }  # fmt: skip
    fields = "F" in "".join(word for word in words if word.startswith("-F"))
    found = False
    shown = [one for one in processes.processes() if pids is None or one.pid in pids]
    for one in sorted(shown if by_inode else [], key=lambda one: one.pid):
        is_seen = node.client.user in (0, one.uid)
        held = list(_held(one.pid, by_inode)) if is_seen else []
        if held and not fields and not found:
            print("COMMAND     PID  USER   FD   TYPE             DEVICE SIZE/OFF NODE NAME")
        if held and fields:
            print(f"p{one.pid}\nc{one.name}")
        for number, each in held:
            found = True
            print(f"f{number}\nn{_name(each)}" if fields else _row(one, number, each))
    return 0 if found else 1


def _row(one: processes.Process, number: int, each: Socket) -> str:
    user = processes.COLUMNS["user"][2](one)
    device = f"0x{int(each.inode):016x}"
    head = f"{one.name[:9]:<9} {one.pid:>5} {user:>5} {number:>4}u  IPv{each.family}"
    return f"{head} {device}      0t0  TCP {_name(each)} ({each.state})"


def _held(pid: int, by_inode: dict[str, Socket]) -> Iterator[tuple[int, Socket]]:
    try:
        names = sorted(map(int, os.listdir(f"{node.PROC}/{pid}/fd")))
    except OSError:
        return
    for number in names:
        try:
            leads = os.readlink(f"{node.PROC}/{pid}/fd/{number}")
        except OSError:
            continue
        each = by_inode.get(leads[len("socket:[") : -1])
        if each and leads.startswith("socket:["):
            yield number, each
