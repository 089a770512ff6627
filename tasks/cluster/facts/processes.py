"""The processes of a node."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from . import Fact


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


def _more(seen: str) -> dict[str, dict[str, Any]]:
    """What the rows owner, rank, rdma, meets and lost say of each process; "me" is who asks."""
    me = re.findall(r"^me (\d+)$", seen, re.MULTILINE)
    found: dict[str, dict[str, Any]] = {
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

# A bare Debian has no ps; /proc tells the same (rss in pages of 4 KiB).
_PROC = r"""
printf '\n== programs\n'
for d in /proc/[0-9]*; do
  printf '%s %s\n' "${d#/proc/}" "$(tr '\n' ' ' <$d/comm 2>/dev/null)"
done
echo '== processes'
for d in /proc/[0-9]*; do
  s=$(cat $d/stat 2>/dev/null) || continue
  rest=${s##*) }; set -f; set -- $rest; set +f
  c=$(tr '\000\n' '  ' <$d/cmdline 2>/dev/null)
  printf '%s %s %s %s %s\n' "${d#/proc/}" "$2" "$3" "$((${22} * 4))" "$c"
done
echo '== end'"""

# Of an environment, which may hold secrets, only the mark leaves the node. macOS shows those of the
# user's own processes after the command (ps -E), but of none that the system protects.
_MARKS = (
    "if [ -d /proc/self ]; then\n"
    f"  grep -aHosz '^{MARK}=[0-9A-Za-z.]*' /proc/[0-9]*/environ\n"
    "else\n"
    f"  ps axwwE -o pid=,command= | sed -n"
    f" 's/^ *\\([0-9]*\\) .* \\({MARK}=[0-9A-Za-z.]*\\).*/\\1 \\2/p'\n"
    "fi 2>/dev/null"
)

# Whose each process is, and what of a rank's environment says with whom it meets: the rank, the
# coordinator's port, the ports in the ring's file. A line break in a value can't begin a row.
_RANKS_OF = r"""
told() { # pid word: a NAME=value of its environment
  case $2 in
  MLX_RANK=*[!0-9]* | MLX_RANK=) ;;
  MLX_RANK=*) printf 'rank %s %s\n' "$1" "${2#*=}" ;;
  MLX_JACCL_COORDINATOR=* | JACCL_COORDINATOR=*) printf 'rdma %s %s\n' "$1" "${2##*:}" ;;
  MLX_HOSTFILE=?*)
    h=${2#*=}
    if [ -f "$h" ] && [ -r "$h" ]; then
      head -c 65536 "$h" | tr '"' '\n' | sed -n "s/^.*:\([0-9][0-9]*\)$/meets $1 \1/p"
    else
      printf 'lost %s %s\n' "$1" "$h"
    fi ;;
  esac
}
printf '\nme %s\n' "$(id -u)"
if [ -d /proc/self ]; then
  # Of another network (a container's) the ports are others.
  net=$(readlink /proc/self/ns/net)
  for f in $(grep -lasz '^MLX_RANK=[0-9]' /proc/[0-9]*/environ); do
    p=${f#/proc/}
    [ "$net" = "$(readlink "${f%environ}ns/net")" ] || continue
    tr '\n\000' '?\n' <"$f" | grep -aE '^(MLX_RANK|(MLX_)?JACCL_COORDINATOR|MLX_HOSTFILE)=' |
      while read -r w; do told "${p%/environ}" "$w"; done
  done
else
  # ps shows the arguments before: mlx.launch and its ssh have the same words there.
  ps axwwE -o pid=,command= | grep ' MLX_RANK=[0-9]' | while read -r p w; do
    a=$(ps -ww -o command= -p "$p"); w=${w#"$a"}
    set -f; for w in $w; do told "$p" "$w"; done; set +f
  done
fi 2>/dev/null
if command -v ps >/dev/null; then ps axww -o pid=,uid=,user=,lstart= | sed 's/^/owner /'
else
  for d in /proc/[0-9]*; do
    printf 'owner %s %s\n' "${d#/proc/}" "$(stat -c '%u %U' "$d" 2>/dev/null)"
  done
fi
"""

FACT = Fact(
    "processes",
    f"{_MARKS}\n{_RANKS_OF}\nif command -v ps >/dev/null; then\n"
    "printf '\\n== programs\\n' && ps axww -o pid=,comm= &&\n"
    "echo '== processes' && ps axww -o pid=,ppid=,pgid=,rss=,command= && echo '== end'\n"
    f"else {_PROC}\nfi",
    parse,
)
