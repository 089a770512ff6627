"""The run record: what runs, kept on the nodes so that any control machine can tell and stop it.

A node's state directory (`~/.mlx-tp`, mode 0700; not /tmp, which macOS cleans) holds per rank
`rank<N>.json` (the record), `rank<N>.pid` (pid, start, boot), `rank<N>.exit` (run, status), and
`ready` (run), `last.json` (rank 0 of the last start), `sigkill` (epoch, boot) and `baseline` (boot,
and what the node said of its memory before this boot's first start). A pid with another start or
boot is a stranger's.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from .facts import Fact, Key, memory
from .ssh import scripts


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

    `sigkill` is when a rank was last killed in this boot, `ready` the run that was once ready,
    `baseline` how many bytes were wired before this boot's first start (None if that is unknown),
    `last` is rank 0 as it was last started here, running or not. `folder` is where it all is.
    """

    now: float
    ranks: Mapping[int, RankState]
    sigkill: float | None
    ready: str | None
    baseline: int | None = None
    last: Record | None = None
    folder: str = ""


def dump(record: Record) -> str:
    return json.dumps(asdict(record))


KEY = Key[State]("state")


def fact(directory: str) -> Fact[State]:
    """The node's whole state in one reading; a missing directory is an empty state."""
    return Fact(KEY, scripts.script("state.sh", state_dir=directory), parse)


def parse(text: str, status: int) -> State:
    """The output of `fact`; a damaged record is None, and its rank is still listed."""
    head, *blocks = re.split(r"^rank (?=\d+$)", text, flags=re.MULTILINE)
    now = re.search(r"^now (\d+)$", head, re.MULTILINE)
    boot = re.search(r"^boot (.*)$", head, re.MULTILINE)
    if status != 0 or not now or not boot or not re.search(r"^end\s*$", text, re.MULTILINE):
        raise ValueError("the state directory can't be read")
    killed = re.search(r"^sigkill (\d{1,12}) (.+)$", text, re.MULTILINE)
    ready = re.search(r"^ready (\S+)$", text, re.MULTILINE)
    last = re.search(r"^last (.*)$", text, re.MULTILINE)
    folder = re.search(r"^at (/.*)$", head, re.MULTILINE)
    ranks = [_rank(block) for block in blocks]
    return State(
        now=float(now.group(1)),
        ranks={rank.rank: rank for rank in ranks},
        sigkill=float(killed.group(1)) if killed and killed.group(2) == boot.group(1) else None,
        ready=ready.group(1) if ready else None,
        baseline=_baseline(text, boot.group(1)),
        last=_record(last.group(1)) if last else None,
        folder=folder.group(1) if folder else "",
    )


def _baseline(text: str, boot: str) -> int | None:
    """A baseline of an earlier boot says nothing of this one."""
    first, *rows = [*re.findall(r"^baseline (.*)$", text, re.MULTILINE), ""]
    try:
        return memory.parse("\n".join(rows), 0).wired if first == boot else None
    except ValueError:
        return None


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
    return record if all(_is_right(*field) for field in vars(record).items()) else None


def _is_right(name: str, value: Any) -> bool:
    """Whether a field of a record is of its kind: a node may answer anything."""
    if name in ("command", "env", "ports"):
        kind = int if name == "ports" else str
        is_list = isinstance(value, list) and all(type(each) is kind for each in value)
        return is_list and (name != "command" or bool(value))
    if name in ("rank", "size", "port"):
        return type(value) is int and 0 <= value < 65536
    if name == "started":
        return type(value) in (int, float) and math.isfinite(value)
    if name == "log" and value is None:
        return True
    pattern = _PATTERNS.get(name, "(?s:.*)")
    return isinstance(value, str) and re.fullmatch(pattern, value) is not None


# What goes into the address of a page, or into another script.
_PATTERNS = {
    "run": r"[0-9A-Za-z]+",
    "bind": r"[0-9A-Za-z.:%_-]*",
    "ready": r"/[!-~]*",
    "log": r"[^\x00-\x1f\x7f]+",
}
