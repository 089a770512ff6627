"""The processes of a node."""

from __future__ import annotations

import re
from dataclasses import dataclass

from . import Fact


@dataclass(frozen=True)
class Process:
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
    """Rows of `c pid program` and of `p pid ppid pgid rss command`, by pid, each up to an `end`.

    Rows of `e pid mark` tell what could be seen of marks.
    """
    programs = dict(re.findall(r"^c +(\d+) +(.*?)[ \r]*$", text, re.MULTILINE))
    marks = dict(re.findall(r"^e (\d+) ([0-9A-Za-z]+\.\d+)\r?$", text, re.MULTILINE))
    rows = re.findall(r"^p +(\d+) +(\d+) +(-?\d+) +(\d+) (.*)$", text, re.MULTILINE)
    # A server that a cut list does not show would pass for stopped.
    is_whole = all(re.search(rf"^{kind} end\s*$", text, re.MULTILINE) for kind in "cp")
    if not rows or not is_whole:
        raise ValueError("the process list can't be read")
    return {
        int(pid): Process(
            int(pid),
            int(ppid),
            int(pgid),
            int(rss) * 1024,
            programs.get(pid, ""),
            command.strip(),
            marks.get(pid, ""),
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

# Of an environment, which may hold secrets, only the mark leaves the node. macOS shows those of the
# user's own processes after the command (ps -E), but of none that the system protects.
_MARKS = (
    "if [ -d /proc/self ]; then\n"
    f"  grep -aHosz '^{MARK}=[0-9A-Za-z.]*' /proc/[0-9]*/environ | tr '\\000' '\\n' |\n"
    f"    sed -n 's|^/proc/\\([0-9]*\\)/environ:{MARK}=|e \\1 |p'\n"
    "else\n"
    f"  ps axwwE -o pid=,command= | sed -n"
    f" 's/^ *\\([0-9]*\\) .* {MARK}=\\([0-9A-Za-z.]*\\).*/e \\1 \\2/p'\n"
    "fi 2>/dev/null"
)

FACT = Fact(
    "processes",
    f"{_MARKS}\nif command -v ps >/dev/null; then\n"
    # The exit status of ps is lost in a pipe; its mark is not.
    "{ ps axww -o pid=,comm= && echo end; } | sed 's/^/c /'\n"
    "{ ps axww -o pid=,ppid=,pgid=,rss=,command= && echo end; } | sed 's/^/p /'\n"
    f"else {_PROC}\necho 'c end'; echo 'p end'\nfi",
    parse,
)
