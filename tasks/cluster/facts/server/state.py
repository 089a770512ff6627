"""A cluster's state on a node, so that any control machine can tell what runs, and stop it.

It lies in `~/.mlx-tp/CLUSTER/` (0700; not /tmp, which macOS cleans): `wanted` (running or stopped,
run, since, by whom), `lock`, and for each start `runs/RUN/` with `record.json` (the ranks of this
node as they were started), of each rank `rank-N.pid` (pid, start, boot), `.marks` (how far it
came), `.exit` (status) and `.log`, `token` (when rank 0 last gave one), and `ended` once nothing of
it is left. Beside the clusters lie what is the node's: `sigkill` (epoch, boot) and `baseline`
(boot, and what the node said of its memory before this boot's first start). A pid with another
start or boot is a stranger's. The layout before this one (`rank0.json` ... in `~/.mlx-tp`) is read
and never written.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields

from ...ssh import scripts
from ...text import one_line
from ...version import WRITER
from .. import Fact, Key
from ..machine import memory
from .marks import Marks
from .marks import parse as parse_marks

NO_MARKS = Marks()
HoldValues = Mapping[str, str]
NO_HOLD: HoldValues = dict.fromkeys(("fence", "fence_of", "hold", "holder"), "")
LAYOUT = 1  # of the record; what a later one has besides is passed over, and told of


@dataclass(frozen=True)
class Record:
    """One rank as it was started; it holds names of environment variables, never values.

    `hosts` are the nodes of the run in the order of its ranks, `log` the path of the rank's log
    (None: attached), `log_dir` the folder that the user named for logs. With `entry` it leaves
    marks of how far it is. `served` is what requests call its `model`.
    """

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
    hosts: list[str] = field(default_factory=list)
    cwd: str | None = None
    log_dir: str | None = None
    entry: bool = False
    fast_synch: str = "unset"
    keeps_env: bool = False
    served: str = ""

    @property
    def asked_by(self) -> str:
        """What requests call the model; a start of a version before wrote down its path alone."""
        return self.served or self.model


@dataclass(frozen=True)
class RankState:
    """A rank as its node tells it: `exit` is its exit status, None while unknown.

    `booted` is when the node was, by its clock, where it was after the rank's start.
    """

    rank: int
    record: Record | None
    pid: int | None = None
    start: str = ""
    boot: str = ""
    alive: bool = False
    exit: int | None = None
    marks: Marks = NO_MARKS
    suspended: bool = False
    booted: float | None = None


@dataclass(frozen=True)
class Wanted:
    """What is wanted of a cluster: `state` is running or stopped, `since` by the node's clock."""

    state: str
    run: str
    since: float
    by: str


@dataclass(frozen=True)
class Seen:
    """The highest number that a node has seen: of which hold, since when by its clock, of whom."""

    number: int
    hold: str
    since: float
    holder: str


@dataclass(frozen=True)
class State:
    """A cluster on a node; times are seconds since the epoch by the node's clock.

    `ranks` are those of runs that are not over. `sigkill` is when a rank was last killed in this
    boot, `ready` the run that has given a token and `token` when it last did, `baseline` how many
    bytes were wired before this boot's first start (None if that is unknown), `last` are the
    records of the run that was wanted last, over or not, by rank. `folders` are where it all is,
    `fence` who acted there last, and `unwritten` why the number of who asks can't be kept there.
    `later` lines on runs that a later version of these tasks has started, `others` the runs of
    other clusters there that are not over.
    """

    now: float
    ranks: Mapping[int, RankState]
    sigkill: float | None
    ready: str | None
    baseline: int | None = None
    last: Mapping[int, Record] = field(default_factory=dict)
    folders: tuple[str, ...] = ()
    wanted: Wanted | None = None
    token: float | None = None
    fence: Seen | None = None
    unwritten: str = ""
    later: tuple[str, ...] = ()
    others: frozenset[str] = frozenset()


def dump(run: str, records: Sequence[Record]) -> str:
    """Give the record of a run as a node keeps it, in one line."""
    ranks = [asdict(record) for record in records]
    return json.dumps({"version": LAYOUT, "writer": WRITER, "run": run, "ranks": ranks})


KEY = Key[State]("state")


def fact(state_dir: str, cluster: str, held: HoldValues = NO_HOLD) -> Fact[State]:
    """The whole state of a cluster on a node in one reading; a missing folder is an empty state.

    With `held`, the values of a hold (fence.py), the node lets nobody with a lower number act
    from then on.
    """
    text = scripts.script("state.sh", state_dir=state_dir, cluster=cluster, **held)
    return Fact(KEY, text, parse, is_raw=True)


def parse(text: str, status: int) -> State:
    """The output of `fact`; a rank whose record is damaged is still listed."""
    head, *blocks = re.split(r"^(?=run \w|ended \w|old$|last$)", text, flags=re.MULTILINE)
    now = re.search(r"^now (\d+)$", head, re.MULTILINE)
    boot = re.search(r"^boot (.*)$", head, re.MULTILINE)
    if status != 0 or not now or not boot or not re.search(r"^end\s*$", text, re.MULTILINE):
        raise ValueError("the state directory can't be read")
    killed = re.search(r"^sigkill (\d{1,12}) (.+)$", head, re.MULTILINE)
    wanted = _wanted(head)
    runs = [_run(block) for block in blocks]
    open_runs = [each for each in runs if each.is_open]
    # Two of one rank are of a start that failed half-way: the one that lives is the rank.
    ranks = sorted((r for each in open_runs for r in each.ranks), key=lambda rank: rank.alive)
    tokens = [(each.run, each.token) for each in open_runs if each.token is not None]
    return State(
        now=float(now.group(1)),
        ranks={rank.rank: rank for rank in ranks},
        sigkill=float(killed.group(1)) if killed and killed.group(2) == boot.group(1) else None,
        ready=tokens[-1][0] if tokens else None,
        baseline=_baseline(head, boot.group(1)),
        last=_last(runs, wanted),
        folders=tuple(dict.fromkeys(re.findall(r"^(?:at|old) (/.*)$", head, re.MULTILINE))),
        wanted=wanted,
        token=tokens[-1][1] if tokens else None,
        fence=parse_fence(head),
        unwritten="".join(re.findall(r"^unwritten (.*)$", head, re.MULTILINE)[:1]),
        later=tuple(each.later for each in runs if each.later),
        others=frozenset(re.findall(r"^other (\w+)$", head, re.MULTILINE)),
    )


def parse_fence(text: str) -> Seen | None:
    """The line of a node that tells the highest number that it has seen."""
    found = re.search(r"^fence (\d{1,11}) (\w+) (\d{1,12}) (.*)$", text, re.MULTILINE)
    return found and Seen(int(found[1]), found[2], float(found[3]), one_line(found[4]))


def _wanted(head: str) -> Wanted | None:
    found = re.search(r"^wanted (running|stopped) (\w*) (\d{1,12}) (.*)$", head, re.MULTILINE)
    return found and Wanted(found[1], found[2], float(found[3]), found[4])


@dataclass(frozen=True)
class _Run:
    """What a node tells of one run; `run` is "" where its record is damaged."""

    run: str
    is_open: bool
    token: float | None
    records: Mapping[int, Record]
    ranks: Sequence[RankState]
    later: str = ""


def _run(block: str) -> _Run:
    head, *rows = re.split(r"^rank (?=\d+$)", block, flags=re.MULTILINE)
    word, _, run = head.split("\n", 1)[0].partition(" ")
    record = re.search(r"^record (.*)$", head, re.MULTILINE)
    layout, writer, found = _records(record.group(1) if record else "")
    records = {each.rank: each for each in found}
    run = run or next((each.run for each in records.values()), "")
    token = re.search(r"^token (.*)$", head, re.MULTILINE)
    if token and word == "old":
        # There the run stood in the file, and not when.
        at = 0.0 if token.group(1) == run else None
    else:
        at = float(token.group(1)) if token and re.fullmatch(r"\d{1,12}", token.group(1)) else None
    told = {int(row.split("\n", 1)[0]): row for row in rows}
    # One that has no pid yet is about to be started.
    listed = [] if word in ("ended", "last") else sorted({*records, *told})
    ranks = [_rank(number, records.get(number), told.get(number, "")) for number in listed]
    by = f"run {run} was started by {writer}, a later version: what it says besides is not shown"
    return _Run(run, bool(listed), at, records, ranks, by if layout > LAYOUT else "")


def _last(runs: Sequence[_Run], wanted: Wanted | None) -> Mapping[int, Record]:
    found = [each.records for each in runs if wanted is None or each.run == wanted.run]
    return {rank: record for records in found for rank, record in records.items()}


def _baseline(text: str, boot: str) -> int | None:
    """A baseline of an earlier boot says nothing of this one."""
    first, *rows = [*re.findall(r"^baseline (.*)$", text, re.MULTILINE), ""]
    try:
        return memory.parse("\n".join(rows), 0).wired if first == boot else None
    except ValueError:
        return None


def _rank(number: int, record: Record | None, text: str) -> RankState:
    rows = dict(re.findall(r"^(pid|start|of|exit|booted) (.*)$", text, re.MULTILINE))
    run, _, code = rows.get("exit", "").rpartition(" ")
    # The older layout names the run: an exit status of an earlier one says nothing of this one.
    is_ours = not run or (record is not None and run == record.run)
    pid, booted = rows.get("pid", ""), rows.get("booted", "")
    return RankState(
        rank=number,
        record=record,
        pid=int(pid) if pid else None,
        start=rows.get("start", ""),
        boot=rows.get("of", ""),
        alive=re.search(r"^alive$", text, re.MULTILINE) is not None,
        exit=int(code) if is_ours and code.isdigit() else None,
        marks=parse_marks("".join(f"{m}\n" for m in re.findall(r"^mark (.*)$", text, re.M))),
        suspended=re.search(r"^suspended$", text, re.MULTILINE) is not None,
        booted=float(booted) if re.fullmatch(r"\d{1,12}", booted) else None,
    )


_NEEDED = [f.name for f in fields(Record) if f.default is f.default_factory is MISSING]
_NAMES = {each.name for each in fields(Record)}


def _records(text: str) -> tuple[int, str, list[Record]]:
    """What a node keeps of a run: its layout, who wrote it, the records of its ranks.

    One of the layout before (0) stands alone.
    """
    try:
        data = json.loads(text)
        layout, writer = data.get("version", 0), one_line(str(data.get("writer", "one unknown")))
    except (ValueError, AttributeError, RecursionError):
        return 0, "", []
    try:
        rows = data.get("ranks", [data])
        records = [found for row in rows if (found := _record(row)) is not None]
    except (TypeError, AttributeError):
        records = []
    return layout if type(layout) is int else 0, writer[:64], records


def _record(data: Mapping[str, object]) -> Record | None:
    given = {name: value for name, value in data.items() if name in _NAMES}
    if not all(_is_right(*pair) for pair in given.items()) or not given.keys() >= {*_NEEDED}:
        return None
    return Record(**given)  # type: ignore[arg-type] # each is of its kind


def _is_right(name: str, value: object) -> bool:
    """Whether a field of a record is of its kind: a node may answer anything."""
    if name in ("command", "env", "ports", "hosts"):
        kind = int if name == "ports" else str
        if not isinstance(value, list) or not all(type(each) is kind for each in value):
            return False
        return (
            all(map(_HOST.fullmatch, value))
            if name == "hosts"
            else bool(value or name != "command")
        )
    if name in ("entry", "keeps_env"):
        return type(value) is bool
    if name in ("rank", "size", "port"):
        return type(value) is int and 0 <= value < 65536
    if name == "started":
        return type(value) in (int, float) and math.isfinite(float(str(value)))
    if name in ("log", "cwd", "log_dir") and value is None:
        return True
    pattern = _PATTERNS.get(name, "(?s:.*)")
    return isinstance(value, str) and re.fullmatch(pattern, value) is not None


_HOST = re.compile(r"[\w.@:%\[\]][\w.@:%\[\]-]*")  # as ssh takes it; no option
# What goes into the address of a page, or into another script.
_PATTERNS = {
    "run": r"[0-9A-Za-z]+",
    "fast_synch": r"unset|on|off",
    "bind": r"[0-9A-Za-z.:%_-]*",
    "ready": r"/[!-~]*",
    **dict.fromkeys(("log", "cwd", "log_dir"), r"[^\x00-\x1f\x7f]+"),
}
