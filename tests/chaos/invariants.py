"""What holds after each step, whatever was done: looked up in processes and files, and asked."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rig.machine import is_alive

from .rules import Model, digest
from .world import SETTLE, BrokenError, Process, World

Check = Callable[[Model], None]
INVARIANTS: list[Check] = []


def invariant(check: Check) -> Check:
    INVARIANTS.append(check)
    return check


def hold(model: Model) -> None:
    """Raise BrokenError for the first that does not hold."""
    for each in INVARIANTS:
        each(model)


def eventually(why: Callable[[], str], seconds: float = SETTLE) -> str:
    """What `why` still says after so many seconds; "" as soon as it says nothing."""
    end = time.monotonic() + seconds
    while (said := why()) and time.monotonic() < end:
        time.sleep(0.1)
    return said


@invariant
def bystanders_live(model: Model) -> None:
    for what, known in model.world.bystanders.items():
        gone = [each for each in known if not is_alive(each)]
        if gone:
            raise BrokenError("bystanders live", f"{what}: {gone} of {known}")


@invariant
def what_was_seen_meanwhile(model: Model) -> None:
    """Of files and numbers that the world looks at all the time."""
    if model.world.problems:
        raise model.world.problems[0]


@invariant
def each_rank_has_its_record(model: Model) -> None:
    """At any time: from before it starts until it is gone."""
    for rank in model.world.ranks():
        why = _why_unknown(model.world, rank)
        if why and is_alive(rank.known):
            raise BrokenError("each rank is known", f"rank {rank.rank} on {rank}: {why}")


def _why_unknown(world: World, rank: Process) -> str:
    folder = f"runs/{rank.run}"
    if world.read(rank.host, f"{folder}/ended") is not None:
        return "its run is over"
    record = world.read(rank.host, f"{folder}/record.json")
    if record is None:
        return f"{folder} has no record"
    return "" if f'"rank": {rank.rank}' in record else "the record has no such rank"


@invariant
def files_are_whole(model: Model) -> None:
    world = model.world
    for host in world.rig.names:
        for path in world.state(host).glob("runs/*/record.json"):
            _json(host, path.parent.name, path.read_text())
        for path in world.state(host).glob("runs/*/rank-*.exit"):
            text = path.read_text()
            if not re.fullmatch(r"\d{1,3}\n", text):
                raise BrokenError("no file is torn", f"{host}: {path.name} is {text!r}")
        _synced(model, host)
    for cluster in world.clusters.values():
        if Path(cluster["hostfile"]).read_text() != cluster["text"]:
            raise BrokenError("no file is torn", "the hostfile has changed")


def _json(host: str, run: str, text: str) -> None:
    try:
        json.loads(text)
    except ValueError:
        raise BrokenError("no file is torn", f"{host}: record of {run} is {text[-60:]!r}") from None


def _synced(model: Model, host: str) -> None:
    """Each file of a target is some version of it, whole; none that was there is gone."""
    target = model.world.home(host) / "copy"
    for name in model.versions:
        path = target / name
        if not path.exists():
            if name in model.synced:
                raise BrokenError("no file is lost", f"{host}: {path.name} of dev.sync's target")
            continue
        if digest(path.read_bytes()) not in model.versions[name]:
            raise BrokenError("no file is torn", f"{host}: {path.name} of dev.sync's target")


@invariant
def no_rank_was_killed(model: Model) -> None:
    """Ranks that can end in order are never ended by SIGKILL, but for ours."""
    world = model.world
    for host in world.rig.names:
        for path in world.state(host).glob("runs/*/rank-*.exit"):
            if path.read_text() == "137\n":
                pid = path.with_suffix(".pid").read_text().split()[0]
                if f"{host}.{pid}" not in world.killed:
                    what = f"{host}: {path.parent.name} {path.name}: 137"
                    raise BrokenError("ranks end in order", what)


@invariant
def a_stop_stays(model: Model) -> None:
    if not model.stopped:
        return
    if model.watch:
        # Who watches ends soon, or is about to undo it.
        eventually(lambda: "" if model.world.ranks() else _watches(model))
    if ranks := model.world.ranks():
        raise BrokenError("a stop by a person stays", f"of {model.stopped}: {ranks[0]} lives")


def _watches(model: Model) -> str:
    return "it watches" if model.watch and model.watch.poll() is None else ""


@invariant
def what_was_started_lives(model: Model) -> None:
    """Nobody has ended it who had the cluster, nor have we."""
    left = {each.known for each in model.world.ranks()}
    if model.ready - left:
        raise BrokenError("what was started lives", f"{len(model.ready - left)} ranks are gone")


@invariant
def no_lock_stays(model: Model) -> None:
    """Once no command lives it is gone; but for one whose keeper we have killed."""
    if model.commands or model.watch:
        return
    world = model.world

    def why() -> str:
        holder = world.read("mac1", "lock/holder")
        if holder is None:
            return ""
        words = holder.split("\n")
        pid = words[1] if len(words) > 1 else "?"
        lives = any(each.host == "mac1" and str(each.pid) == pid for each in world.processes())
        return "" if model.excused and not lives else f"the lock of {' '.join(words[5:])}"

    said = eventually(why)
    if said:
        raise BrokenError("no lock stays", said)
    if world.read("mac1", "lock/holder") is None:
        model.excused = False


@invariant
def status_tells_what_is_there(model: Model) -> None:
    """Where no command changes it meanwhile, or as soon as one has changed it."""
    if model.suspended(False):
        return

    def why() -> str:
        before = model.world.ranks()
        code, out, err = model.world.run("dora", "tp.status", "--json")
        if code == 5:
            return f"a node can't be reached: {err}"
        after = model.world.ranks()
        if [each.known for each in before] != [each.known for each in after]:
            return "ranks come and go"
        return _differs(
            model, json.loads(out)["data"] if '"data"' in out else json.loads(out), after
        )

    said = eventually(why)
    if said:
        raise BrokenError("status tells what is there", said)


@invariant
def each_that_lives_is_told(model: Model) -> None:
    """Also while a command changes it: who lives before a look and after it is seen by it."""
    if not model.suspended(False):
        return  # then all is looked up

    def why() -> str:
        before = {each.known for each in model.world.ranks()}
        code, out, _ = model.world.run("dora", "tp.status", "--json")
        if code == 5:
            return ""
        data = json.loads(out)
        told = {(row["host"], row["pid"]) for row in data.get("data", data)["ranks"]}
        there = [each for each in model.world.ranks() if each.known in before]
        unknown = [each for each in there if (each.host, each.pid) not in told]
        return ", ".join(map(str, unknown))

    # Who has only just begun may be written down a moment later.
    said = [why() for _ in range(3)] if why() else []
    if said and all(said):
        raise BrokenError("status tells what is there", f"it does not tell {said[-1]}")


def _differs(model: Model, told: dict[str, Any], ranks: list[Process]) -> str:
    """How what is told differs from what is there; "" where it does not."""
    there = {(each.host, each.pid, int(each.rank)) for each in ranks}
    rows = [row for row in told["ranks"] if row["state"] == "running"]
    running = {(row["host"], row["pid"], row["rank"]) for row in rows}
    if there != running:
        return f"there are {sorted(there)}, told are {sorted(running)}: {told['state']}"
    state = told["state"]
    if not there:
        return "" if state in ("stopped", "dead", "degraded", "starting") else f"none live: {state}"
    if state == "stopped":
        return f"{len(there)} live: stopped"
    if state == "ready" and len(there) < 2:
        return f"{len(there)} of 2 live: ready"
    if model.ready and state != "ready":
        return f"all that was started lives: {state}: {told['why']}"
    return ""
