"""The processes of a node."""

import re
from collections.abc import Mapping
from typing import NamedTuple, TypedDict

from ...ssh import scripts
from .. import LIMIT, Fact, Key


class Process(NamedTuple):
    """`program` is `ps -o comm=` (a path on macOS, a name on Linux); `rss` is in bytes.

    `mark` says of which rank it is, or was started: it is inherited, and empty if it can't be seen.
    `rank` is MLX_RANK of its environment, `meets` are the ports at which its ranks meet: that of
    MLX_JACCL_COORDINATOR (then `is_rdma`), or those in the file MLX_HOSTFILE, whose path is in
    `lost_file` where it is gone.
    """

    pid: int
    ppid: int
    pgid: int
    rss: int
    program: str
    command: str
    mark: str = ""
    user: str = ""
    since: str = ""
    is_own: bool = False
    rank: int | None = None
    meets: frozenset[int] = frozenset()
    is_rdma: bool = False
    lost_file: str = ""


MARK = "MLX_TP_RANK_OF"  # the variable that a rank, and all that it starts, has in its environment


def mark(run: str, rank: int) -> str:
    """What that variable says of a rank."""
    return f"{run}.{rank}"


def parse(text: str, status: int) -> dict[int, Process]:
    """What is known of owners and environments, then rows `pid program` and `pid ... command`."""
    seen, *parts = _TITLES.split(text)
    is_whole = parts[::2] == ["programs", "processes", "end"]
    rows = _PROCESS.findall(parts[3]) if is_whole else []
    # A server that a cut list does not show would pass for stopped.
    if not rows:
        raise ValueError("the process list can't be read")
    marks = dict(_MARKED.findall(seen))
    more = _more(seen)
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
            **more.get(pid, {}),
        )
        for pid, ppid, pgid, rss, command in rows
    }


class _Seen(TypedDict, total=False):
    user: str
    since: str
    is_own: bool
    rank: int
    is_rdma: bool
    meets: frozenset[int]
    lost_file: str


def _more(seen: str) -> dict[str, _Seen]:
    """What the rows owner, rank, rdma, meets and lost say of each process; "me" is who asks."""
    me = re.findall(r"^me (\d+)$", seen, re.MULTILINE)
    found: dict[str, _Seen] = {
        pid: {"user": user, "since": " ".join(since.split()), "is_own": [uid] == me}
        for pid, uid, user, since in _OWNED.findall(seen)
    }
    for kind, pid, value in _RANKS.findall(seen):
        entry = found.setdefault(pid, {})
        if kind == "lost":
            entry["lost_file"] = value
        elif value.isdigit() and kind == "rank":
            entry["rank"] = int(value)
        elif value.isdigit():
            entry["meets"] = entry.get("meets", frozenset()) | {int(value)}
            entry["is_rdma"] = entry.get("is_rdma", False) or kind == "rdma"
    return found


_OWNED = re.compile(r"^owner +(\d+) +(\d+) +(\S+) *(.*)$", re.MULTILINE)
_RANKS = re.compile(r"^(rank|rdma|meets|lost) (\d+) (.*)$", re.MULTILINE)
_TITLES = re.compile(r"^== (programs|processes|end)[ \r]*$", re.MULTILINE)
_MARKED = re.compile(rf"(\d+)(?:/environ:| ){MARK}=([0-9A-Za-z]+\.\d+)[\0\r\n]")
_PROGRAM = re.compile(r"^ *(\d+) (.*)$", re.MULTILINE)
_PROCESS = re.compile(r"^ *(\d+) +(\d+) +(-?\d+) +(\d+) (.*)$", re.MULTILINE)

KEY = Key[Mapping[int, Process]]("processes")
FACT = Fact(KEY, scripts.script("facts/processes.sh", mark=MARK), parse, 4 * LIMIT, is_raw=True)
