"""The processes of a node."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from ..ssh import scripts
from . import Fact, Key


class Process(NamedTuple):
    """`program` is `ps -o comm=` (a path on macOS, a name on Linux); `rss` is in bytes.

    `mark` says of which rank it is, or was started: it is inherited, and empty if it can't be seen.
    """

    pid: int
    ppid: int
    pgid: int
    rss: int
    program: str
    command: str
    mark: str = ""


MARK = "MLX_TP_RANK_OF"  # the variable that a rank, and all that it starts, has in its environment


def mark(run: str, rank: int) -> str:
    """What that variable says of a rank."""
    return f"{run}.{rank}"


def parse(text: str, status: int) -> dict[int, Process]:
    """What could be seen of marks, then rows `pid program` and rows `pid ppid pgid rss command`."""
    seen, *parts = _TITLES.split(text)
    is_whole = parts[::2] == ["programs", "processes", "end"]
    rows = _PROCESS.findall(parts[3]) if is_whole else []
    # A server that a cut list does not show would pass for stopped.
    if not rows:
        raise ValueError("the process list can't be read")
    marks = dict(_MARKED.findall(seen))
    programs = dict(_PROGRAM.findall(parts[1]))
    return {
        int(pid): Process(
            int(pid),
            int(ppid),
            int(pgid),
            int(rss) * 1024,
            programs.get(pid, "").strip(),
            command.strip(),
            marks.get(pid, ""),
        )
        for pid, ppid, pgid, rss, command in rows
    }


_TITLES = re.compile(r"^== (programs|processes|end)[ \r]*$", re.MULTILINE)
_MARKED = re.compile(rf"(\d+)(?:/environ:| ){MARK}=([0-9A-Za-z]+\.\d+)[\0\r\n]")
_PROGRAM = re.compile(r"^ *(\d+) (.*)$", re.MULTILINE)
_PROCESS = re.compile(r"^ *(\d+) +(\d+) +(-?\d+) +(\d+) (.*)$", re.MULTILINE)

KEY = Key[Mapping[int, Process]]("processes")
FACT = Fact(KEY, scripts.script("facts/processes.sh", mark=MARK), parse)
