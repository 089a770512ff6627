"""The TCP ports that a node listens on, and who holds them."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ...ssh import scripts
from .. import Fact, Key


@dataclass(frozen=True)
class PortHolder:
    """A process that listens; pid 0 where the node does not tell (another user's)."""

    pid: int
    program: str

    def __str__(self) -> str:
        return f"{self.program} (pid {self.pid})" if self.pid else "another user's process"


def parse(text: str, status: int) -> dict[int, tuple[PortHolder, ...]]:
    """Port -> holders, from a table of all listeners and what lsof may tell of their processes.

    lsof prints nothing both when nobody listens and when it may not see who does: the table
    decides whether a port is taken, lsof only who holds it.
    """
    table, _, lsof = text.partition("== lsof")
    # A port that a cut table does not show would pass for free.
    if "== table" not in table or "== whole" not in table:
        raise ValueError("the table of listeners can't be read")
    decimal = [*_BSD.findall(table), *_SS.findall(table)]
    ports = {int(port, 16) for port in _PROC.findall(table)} | {int(port) for port in decimal}
    listeners = re.findall(r"^(?:tcp.*\b)?LISTEN\b", table, re.MULTILINE)
    is_table = re.search(r"local_address|Local Address", table)
    if not is_table or len(listeners) != len(decimal):
        raise ValueError("the table of listeners can't be read")
    holders = _holders(lsof)
    ports |= set(holders)
    return {port: tuple(holders.get(port, [PortHolder(0, "")])) for port in sorted(ports)}


# /proc/net/tcp: "  0: 0100007F:1F90 00000000:0000 0A": state 0A is LISTEN.
_PROC = re.compile(r"^\s*\d+: [0-9A-F]+:([0-9A-F]{4}) [0-9A-F]+:[0-9A-F]{4} 0A ", re.MULTILINE)
# ss -ltn: "LISTEN 0 128 [::1]:8000 [::]:*".
_SS = re.compile(r"^LISTEN +\d+ +\d+ +\S+:(\d+) +\S+", re.MULTILINE)
# netstat -an on macOS: "tcp4  0  0  *.8000  *.*  LISTEN"; some versions have more columns.
_BSD = re.compile(r"^tcp\S*\s+\d+\s+\d+\s+\S+\.(\d+)\s+\S+\s+LISTEN\b", re.MULTILINE)


def _holders(lsof: str) -> dict[int, list[PortHolder]]:
    """`lsof -F pcn`: per process `p<pid>`, `c<command>`, then per socket `f<fd>`, `n<name>`."""
    found: dict[int, list[PortHolder]] = {}
    pid, program = 0, ""
    for line in lsof.splitlines():
        kind, value = line[:1], line[1:]
        if kind == "p" and value.isdigit():
            pid, program = int(value), ""
        elif kind == "c":
            program = value
        elif kind == "n" and pid and re.search(r":\d+$", value):
            here = found.setdefault(int(value.rpartition(":")[2]), [])
            if PortHolder(pid, program) not in here:
                here.append(PortHolder(pid, program))
    return found


KEY = Key[Mapping[int, tuple[PortHolder, ...]]]("ports")


def fact(wanted: Iterable[int] | None = None) -> Fact[Mapping[int, tuple[PortHolder, ...]]]:
    """The listeners; their processes only if one of the `wanted` ports (None: any) may be taken."""
    words = [""]
    if wanted is not None:
        forms = (":{:04X} ", ":{} ", ".{} ")
        words = [form.format(port) for port in sorted(set(wanted)) for form in forms]
    return Fact(KEY, scripts.script("facts/ports.sh", words), parse)


FACT = fact()
