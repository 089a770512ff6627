"""The processes of a node."""

from __future__ import annotations

import re
from dataclasses import dataclass

from . import Fact


@dataclass(frozen=True)
class Process:
    """`program` is `ps -o comm=` (a path on macOS, a name on Linux); `rss` is in bytes."""

    pid: int
    ppid: int
    pgid: int
    rss: int
    program: str
    command: str


def parse(text: str, status: int) -> dict[int, Process]:
    """Rows of `c pid program` and of `p pid ppid pgid rss command`, by pid, each up to an `end`."""
    programs = dict(re.findall(r"^c +(\d+) +(.*?)[ \r]*$", text, re.MULTILINE))
    rows = re.findall(r"^p +(\d+) +(\d+) +(-?\d+) +(\d+) (.*)$", text, re.MULTILINE)
    # A server that a cut list does not show would pass for stopped.
    is_whole = all(re.search(rf"^{kind} end\s*$", text, re.MULTILINE) for kind in "cp")
    if not rows or not is_whole:
        raise ValueError("the process list can't be read")
    return {
        int(pid): Process(
            int(pid), int(ppid), int(pgid), int(rss) * 1024, programs.get(pid, ""), command.strip()
        )
        for pid, ppid, pgid, rss, command in rows
    }


# A bare Debian has no ps; /proc tells the same (rss in pages of 4 KiB).
_PROC = r"""
for d in /proc/[0-9]*; do
  s=$(cat $d/stat 2>/dev/null) || continue
  rest=${s##*) }; set -f; set -- $rest; set +f
  c=$(tr '\000\n' '  ' <$d/cmdline 2>/dev/null)
  printf 'c %s %s\n' "${d#/proc/}" "$(tr '\n' ' ' <$d/comm 2>/dev/null)"
  printf 'p %s %s %s %s %s\n' "${d#/proc/}" "$2" "$3" "$((${22} * 4))" "$c"
done"""

FACT = Fact(
    "processes",
    "if command -v ps >/dev/null; then\n"
    # The exit status of ps is lost in a pipe; its mark is not.
    "{ ps axww -o pid=,comm= && echo end; } | sed 's/^/c /'\n"
    "{ ps axww -o pid=,ppid=,pgid=,rss=,command= && echo end; } | sed 's/^/p /'\n"
    f"else {_PROC}\necho 'c end'; echo 'p end'\nfi",
    parse,
)
