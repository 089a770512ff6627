"""The lock of a cluster: of all commands that change its server, on any control machine, one acts.

It is the folder `lock` in the cluster's folder on rank 0's node, which only one can be. It is
kept by a shell on that node, the keeper, at the other end of a channel of our connection: its
stdin ends when the command does, however that ends, and the keeper then removes the lock. A control
machine that fell silent (its network gone, its lid closed) is known by the beats that are missing;
what it does when it wakes is refused (fence.py).
"""

from __future__ import annotations

import io
import math
import queue
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace

from ..cluster import Site
from ..errors import ActionFailed, CheckFailed, Unreachable
from ..facts import Fact, Key, known
from ..facts.server.state import NO_HOLD, HoldValues, State
from ..ssh import background, scripts
from ..ssh.node import CONNECT_TIMEOUT, SCRIPT_TIMEOUT, CommandResult, Node
from ..text import LINE, one_line
from . import fence, snapshots
from .fence import Fence
from .launch import Run

BEAT = 5.0  # seconds between two signs of life
SILENCE = 30  # seconds without one, as the node counts them, after which the holder is gone
CHATTER = 100  # lines that a login shell may say before the keeper speaks
RELEASE = 10.0  # seconds that a keeper has to remove its lock; it takes milliseconds

Say = Callable[[str], None]
Patience = Callable[[float], float]  # of the seconds to wait for a node, those that there are


class LockHeld(CheckFailed):
    """Another command holds the cluster; nothing was changed (exit 3)."""


@dataclass(frozen=True)
class Holder:
    """Who has the lock, what for, since when (the node's clock); `gone`: why it no longer acts."""

    what: str
    who: str
    since: float | None
    now: float
    gone: str = ""

    def __str__(self) -> str:
        if self.since is None:
            return "nobody can tell who"
        clock = time.strftime("%H:%M:%S", time.localtime(self.since))
        return f"{self.what} of {self.who}, since {clock} ({max(self.now - self.since, 0):.0f} s)"


class Locks:
    """The locks that a command has, with those who share its connections, and how often each."""

    def __init__(self, patience: Patience = lambda seconds: seconds) -> None:
        self._patience = patience
        self._times: Counter[tuple[Node, str]] = Counter()

    @contextmanager
    def held(self, cluster: Site, what: str, say: Say) -> Iterator[None]:
        """`hold`, and `release` at the end."""
        self.hold(cluster, what, say)
        try:
            yield
        finally:
            self.release(cluster)

    def hold(self, cluster: Site, what: str, say: Say) -> None:
        """Take the lock for `what`, waiting for it as long as the cluster's `lock_wait` allows.

        A command that has it already has it once more, and must release it as often. Raise
        LockHeld if another has it, Unreachable if the node gives no answer, CheckFailed if it
        can't be made and ActionFailed if it was ours and is not any more.
        """
        mine = client(cluster)
        if mine is None:
            mine = _taken(cluster, what, say, self._patience)
        elif mine.end.done():
            snapshots.states(cluster)  # raises TakenOver where somebody has taken it
            raise ActionFailed(f"{cluster.leader.name}: the lock was lost: {mine.why_lost()}")
        mine.times += 1
        self._times[_key(cluster)] += 1

    def release(self, cluster: Site) -> None:
        """Give back one hold of ours, if we have one; the last one removes the lock."""
        self._release(*_key(cluster))

    def _release(self, node: Node, folder: str) -> None:
        mine = node.locks.get(folder)
        if not self._times[node, folder]:
            if mine is None:
                node.fences.pop(folder, None)  # of who went on without the lock
            return
        self._times[node, folder] -= 1
        if mine is not None:
            mine.times -= 1
            if mine.times <= 0:
                _let_go(node, folder, self._patience)

    def let_go(self, cluster: Site) -> None:
        """Remove the lock, however often it is held; nothing happens if we have none."""
        del self._times[_key(cluster)]
        _let_go(*_key(cluster), self._patience)

    def close(self) -> None:
        """Give back all that we still hold."""
        for key in list(self._times.elements()):
            self._release(*key)


def held(cluster: Site, what: str, say: Say) -> AbstractContextManager[None]:
    """A context in which no other command changes the server, for code that has no session."""
    return Locks().held(cluster, what, say)


def client(cluster: Site) -> LockClient | None:
    """What keeps the lock where this command has it."""
    return cluster.leader.locks.get(cluster.folder)


def _taken(cluster: Site, what: str, say: Say, patience: Patience) -> LockClient:
    # The others are asked next: by then they are connected.
    cluster.connect()
    mine = cluster.leader.locks[cluster.folder] = LockClient(cluster, what)
    try:
        mine.take(say)
    except BaseException:
        _let_go(*_key(cluster), patience)
        raise
    return mine


def _let_go(node: Node, folder: str, patience: Patience) -> None:
    mine = node.locks.pop(folder, None)
    node.fences.pop(folder, None)
    if mine is not None:
        mine.let_go(patience)


def _fence(cluster: Site, what: str, run: Run, number: int) -> Fence:
    return Fence(number, run.id, one_line(f"{what} of {run.by}"), cluster.name)


def _set(cluster: Site, held: Fence) -> None:
    cluster.leader.fences[cluster.folder] = held


def take_over(cluster: Site, what: str) -> tuple[Holder | None, dict[str, str]]:
    """Get a number above all that the nodes have seen, without the lock; who has that acts no more.

    Give who had it, and why some nodes could not be told: on those it still may act.
    """
    cluster.leader.fences.pop(cluster.folder, None)
    asked = [_holder(cluster)]
    before = snapshots.states(cluster, lambda node: asked if node is cluster.leader else [])
    seen = [state.fence for name in before.nodes if (state := before.state(name))]
    number = 1 + max((each.number for each in seen if each), default=0)
    names = frozenset(node.name for node in cluster.nodes)
    _set(cluster, replace(_fence(cluster, what, Run.new(), number), asked=names))
    after = snapshots.states(cluster)
    missed = dict.fromkeys(after.unreachable, "can't be reached")
    missed |= {name: why for name in after.nodes if (why := _untold(after.state(name)))}
    return known(before.on(cluster.leader.name), HOLDER), missed


def _untold(state: State | None) -> str:
    """Why a node that was asked goes by another number than ours."""
    if state is None:
        return "its state can't be read"
    return f"can't note its number: {state.unwritten}" if state.unwritten else ""


def unlock(cluster: Site) -> tuple[Holder | None, dict[str, str]]:
    """Take the cluster from whoever has its lock: who that was, None if there was none.

    And why some nodes could not be told: there, who had the lock may still act.
    """
    # A command that hears of its end may give up its lock before it is taken away.
    before, missed = take_over(cluster, "tp.unlock")
    # With our number: one that has slept since takes no lock from who came after it.
    held = fence.values(cluster)
    cluster.leader.fences.pop(cluster.folder)
    return _removed(cluster, held) or before, missed


def _removed(cluster: Site, held: HoldValues) -> Holder | None:
    """Remove the lock: who had it, None if there is none."""
    text = scripts.script("lock/unlock.sh", **cluster.where, **held, silence=SILENCE)
    answer = cluster.leader.sh(text)
    fence.check({cluster.leader.name: answer})
    _check(cluster.leader.name, answer)
    return _was(answer.out, answer.status)


HOLDER = Key["Holder | None"]("holder")


def _holder(cluster: Site) -> Fact[Holder | None]:
    """Who has the lock; None if nobody has."""
    text = scripts.script("lock/holder.sh", **cluster.where, **NO_HOLD, silence=SILENCE)
    return Fact(HOLDER, text, _was, is_raw=True)


def _was(text: str, status: int | None) -> Holder | None:
    rows = [row for row in text.splitlines() if row.startswith("was\t")]
    return parse(rows[0]) if rows else None


def parse(line: str) -> Holder:
    """A line of the keeper's: a word, the node's time, why the holder is gone, and the holder."""
    _, now, gone, *fields = [*line.split("\t"), *[""] * 10][:10]
    known = re.fullmatch(r"\d{1,12}", fields[4]) and fields[5] and fields[6]
    return Holder(
        what=one_line(fields[5]),
        who=one_line(fields[6]),
        since=float(fields[4]) if known else None,
        now=float(now) if now.isdigit() else 0.0,
        gone=_gone(gone),
    )


def _gone(word: str) -> str:
    name, _, seconds = word.partition(" ")
    return {
        "": "",
        "rebooted": "the node has rebooted since",
        "ended": "its command has ended without a word",
        "silent": f"its control machine gave no sign of life for {seconds} s",
    }.get(name, "it is damaged")


def _check(name: str, answer: CommandResult) -> None:
    if answer.failure:
        why = ": ".join(filter(None, (answer.failure, answer.remedy)))
        raise Unreachable(f"{name}: {why}")
    if not answer.ok:
        said = re.findall(r"^error (.*)$", answer.out, re.MULTILINE) or [answer.why]
        raise CheckFailed(f"{name}: the lock can't be made: {one_line(said[-1])}")


def _key(cluster: Site) -> tuple[Node, str]:
    return cluster.leader, cluster.folder


class LockClient:
    """Our end of the keeper: script and beats its stdin, its lines a queue, `end` its answer."""

    def __init__(self, cluster: Site, what: str) -> None:
        self.cluster = cluster
        self.times = 0
        self.what, self.run = what, Run.new()
        self.script = script(cluster, what, self.run)
        self.lines: queue.Queue[str | CommandResult] = queue.Queue(2 * CHATTER)
        self.has_lock = threading.Event()
        self.released = threading.Event()
        node = cluster.leader
        self.end: Future[CommandResult] = background.begin(
            lambda: node.sh("", timeout=0, in_stream=self, out_stream=_LineStream(self.lines.put))
        )
        self.end.add_done_callback(lambda end: self.lines.put(end.result()))

    def read(self) -> str | None:
        """The script, then beats, and "" once the lock is let go: that ends the keeper."""
        text, self.script = self.script, ""
        if text:
            return text
        # A shell that reads its script by blocks would lose what comes before it has the lock.
        pause = BEAT if self.has_lock.is_set() else 0.1
        if self.released.wait(pause):
            return ""
        return "\n" if self.has_lock.is_set() else None

    def take(self, say: Say) -> None:
        """Come back once the lock is ours; raise what keeps it from being that."""
        end = time.monotonic() + CONNECT_TIMEOUT + SCRIPT_TIMEOUT + 2 * self.cluster.lock_wait
        other = 0
        while not self.has_lock.is_set():
            line = self._next(end - time.monotonic())
            other += not self._heard(line, say)
            if other > CHATTER:
                name, words = self.cluster.leader.name, one_line(line)[:80]
                raise Unreachable(f"{name}: it does not stop saying {words!r}")

    def _next(self, seconds: float) -> str:
        """What it says next, waited for as for any node; raise Unreachable where nothing comes."""
        name = self.cluster.leader.name
        asked = background.begin(self.lines.get, timeout=max(seconds, 0.01))
        if wait := self.cluster.leader.wait:
            wait({name: asked}, None)
        try:
            line = asked.result()
        except queue.Empty:
            raise Unreachable(f"{name}: the lock was not given or refused in time") from None
        if isinstance(line, CommandResult):
            _check(name, line)
            raise Unreachable(f"{name}: the lock's keeper has ended: {line.err.strip()}")
        return line

    def _heard(self, line: str, say: Say) -> bool:
        """Take a line of the keeper; False for one of a login shell. Raise LockHeld."""
        name, word = self.cluster.leader.name, line.partition("\t")[0]
        if word == "held":
            self._number(line)
            self.has_lock.set()
        elif word == "busy":
            say(f"{name}: waiting up to {self.cluster.lock_wait:g} s for {parse(line)}")
        elif word == "broke":
            say(f"{name}: removed the lock of {parse(line)}: {parse(line).gone}")
        elif word == "refused":
            raise LockHeld(
                f"{name}: busy with {parse(line)}; nothing was changed: wait for it"
                " (--lock-wait SECONDS), or take its lock away (inv tp.unlock)"
            )
        return word in ("held", "busy", "broke")

    def _number(self, line: str) -> None:
        number = line.rpartition("\t")[2]
        if number.isdigit():
            _set(self.cluster, _fence(self.cluster, self.what, self.run, int(number)))

    def let_go(self, patience: Patience) -> None:
        """End the keeper, and wait until it has removed the lock: another command may follow."""
        self.released.set()
        background.settle([self.end], patience(RELEASE if self.has_lock.is_set() else 1.0))

    def why_lost(self) -> str:
        answer = self.end.result()
        return answer.failure or "somebody has removed it (inv tp.unlock)"


class _LineStream(io.TextIOBase):
    """A stream that hands on whole lines."""

    def __init__(self, take: Callable[[str], None]) -> None:
        super().__init__()
        self.take = take
        self.rest = ""

    def write(self, text: str) -> int:
        *lines, rest = (self.rest + text).split("\n")
        self.rest = rest[:LINE]
        for line in lines:
            self.take(line)
        return len(text)


def script(cluster: Site, what: str, run: Run) -> str:
    """The keeper: takes the lock, or says who has it, and removes it when its stdin ends.

    Its lines are words and fields with tabs between: `busy` (it waits), `broke` (a lock whose
    holder is gone), `refused`, `error`, `held` and `lost`.
    """
    words = [one_line(text).replace("\t", " ") or "?" for text in (what, run.by)]
    return scripts.script(
        "lock/keeper.sh",
        **cluster.where,
        **_fence(cluster, what, run, 0).values,
        silence=SILENCE,
        token=run.id,
        wait=math.ceil(cluster.lock_wait),
        what=words[0],
        who=words[1],
    )
