"""The run record: what runs, kept on the nodes so that any control machine can tell and stop it.

A node's state directory (`~/.mlx-tp`, mode 0700; not /tmp, which macOS cleans) holds per rank
`rank<N>.json` (the record), `rank<N>.pid` (pid, start, boot), `rank<N>.exit` (run, status), and
`ready` (run) and `sigkill` (epoch, boot). A pid with another start or boot is a stranger's.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from . import shell
from .facts import Fact

# What a script needs to tell a process by pid and start, on Linux and macOS alike.
PRELUDE = r"""
boot_id() {
  cat /proc/sys/kernel/random/boot_id 2>/dev/null || sysctl -n kern.bootsessionuuid 2>/dev/null ||
    sysctl -n kern.boottime | sed 's/.*{ sec = \([0-9]*\).*/\1/'
}
start_id() { # pid: when it began, empty if it is gone or only waits to be reaped
  if [ -d /proc/self ]; then
    stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 0
    set -f; set -- ${stat##*) }; set +f
    [ "$1" = Z ] || echo "${20}"
  else
    echo $(TZ=UTC0 LC_ALL=C ps -o lstart= -p "$1" 2>/dev/null)
  fi
}
is_alive() { # pid start boot
  [ -n "$2" ] && [ "$3" = "$(boot_id)" ] && [ "$2" = "$(start_id "$1")" ]
}
"""


@dataclass(frozen=True)
class Record:
    """One rank as it was started; it holds names of environment variables, never values."""

    run: str
    rank: int
    size: int
    host: str
    backend: str
    engine: str
    ready: str
    model: str
    command: list[str]
    env: list[str]
    bind: str
    port: int
    ports: list[int]
    log: str | None
    started: float
    by: str


@dataclass(frozen=True)
class RankState:
    """A rank as its node tells it: `exit` is its exit status, None while unknown."""

    rank: int
    record: Record | None
    pid: int | None = None
    start: str = ""
    boot: str = ""
    alive: bool = False
    exit: int | None = None


@dataclass(frozen=True)
class State:
    """A node's state directory; times are seconds since the epoch by the node's clock.

    `sigkill` is when a rank was last killed in this boot, `ready` the run that was once ready.
    """

    now: float
    ranks: Mapping[int, RankState]
    sigkill: float | None
    ready: str | None


def dump(record: Record) -> str:
    return json.dumps(asdict(record))


def fact(directory: str) -> Fact:
    """The node's whole state in one reading; a missing directory is an empty state."""
    return Fact(
        "state",
        f'{PRELUDE}\nb=$(boot_id); printf \'now %s\\nboot %s\\n\' "$(date +%s)" "$b"\n'
        # A directory that is there but can't be entered is no empty state.
        f'D={shell.path(directory)}; [ -e "$D" ] || {{ echo end; exit 0; }}\n'
        'cd "$D" || exit\n'
        "for f in rank*.json; do\n"
        '  [ -f "$f" ] || continue\n'
        "  f=${f%.json}; printf 'rank %s\\n' \"${f#rank}\"\n"
        "  printf 'record %s\\n' \"$(head -c 65536 \"$f.json\" | tr -d '\\n\\000')\"\n"
        '  P= T= B=; { read -r P; read -r T; read -r B; } <"$f.pid"\n'
        "  case $P in ''|*[!0-9]*) ;;\n"
        '  *) printf \'pid %s\\nstart %s\\nof %s\\n\' "$P" "$T" "$B"\n'
        '     is_alive "$P" "$T" "$B" && echo alive ;;\n'
        "  esac\n"
        '  [ -f "$f.exit" ] && printf \'exit %s\\n\' "$(head -c 200 "$f.exit")"\n'
        "done 2>/dev/null\n"
        "[ -f ready ] && printf 'ready %s\\n' \"$(head -c 200 ready)\"\n"
        "[ -f sigkill ] && printf 'sigkill %s\\n' \"$(head -c 200 sigkill)\"\n"
        "echo end",
        parse,
    )


def parse(text: str, status: int) -> State:
    """The output of `fact`; a damaged record is None, and its rank is still listed."""
    head, *blocks = re.split(r"^rank (?=\d+$)", text, flags=re.MULTILINE)
    now = re.search(r"^now (\d+)$", head, re.MULTILINE)
    boot = re.search(r"^boot (.*)$", head, re.MULTILINE)
    if status != 0 or not now or not boot or not re.search(r"^end\s*$", text, re.MULTILINE):
        raise ValueError("the state directory can't be read")
    killed = re.search(r"^sigkill (\d{1,12}) (.+)$", text, re.MULTILINE)
    ready = re.search(r"^ready (\S+)$", text, re.MULTILINE)
    ranks = [_rank(block) for block in blocks]
    return State(
        now=float(now.group(1)),
        ranks={rank.rank: rank for rank in ranks},
        sigkill=float(killed.group(1)) if killed and killed.group(2) == boot.group(1) else None,
        ready=ready.group(1) if ready else None,
    )


def _rank(block: str) -> RankState:
    rows = dict(re.findall(r"^(record|pid|start|of|exit) (.*)$", block, re.MULTILINE))
    record = _record(rows.get("record", ""))
    run, _, code = rows.get("exit", "").partition(" ")
    # An exit status of an earlier run says nothing of this one.
    is_ours = record is not None and run == record.run and code.isdigit()
    pid = rows.get("pid", "")
    return RankState(
        rank=int(block.split("\n", 1)[0]),
        record=record,
        pid=int(pid) if pid else None,
        start=rows.get("start", ""),
        boot=rows.get("of", ""),
        alive=re.search(r"^alive$", block, re.MULTILINE) is not None,
        exit=int(code) if is_ours else None,
    )


def _record(text: str) -> Record | None:
    try:
        data: dict[str, Any] = json.loads(text)
        record = Record(**{field.name: data[field.name] for field in fields(Record)})
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return record if isinstance(record.run, str) and isinstance(record.command, list) else None
