"""The lock's side here: what the keeper's lines come to, and who gives it back when."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from threading import Event
from types import SimpleNamespace
from typing import Any

import pytest

from tasks.cluster.errors import ActionFailed, CheckFailed, Unreachable
from tasks.cluster.server import lock, snapshots
from tasks.cluster.server.launch import Run
from tasks.cluster.server.lock import CHATTER, Holder, LockClient, LockHeld, Locks
from tasks.cluster.ssh.node import CommandResult
from tasks.cluster.text import LINE

# As keeper.sh writes them: a word, its time, why the holder is gone, and the holder's file.
FIELDS = "token\t412\t9871\tboot\t1000\ttp.stop\tbob@x"
HELD, LOST = "held\t7", CommandResult("mac1", status=0)


class Leader:
    """Rank 0's node, whose keeper says `lines`, and ends with `answer` or once it is let go."""

    def __init__(self, lines: list[str], answer: CommandResult | None = None) -> None:
        self.name, self.lines, self.answer = "mac1", lines, answer
        self.fences: dict[str, Any] = {}
        self.locks: dict[str, LockClient] = {}
        self.begun, self.heard = 0, list[str]()
        self.waited: list[list[str]] = []

    def wait(self, futures: Any, so_far: None) -> None:
        self.waited.append(sorted(futures))

    def sh(self, script: str, timeout: float, in_stream: Any, out_stream: Any) -> CommandResult:
        assert (script, timeout) == ("", 0)
        self.begun += 1
        self.heard.append(in_stream.read())
        text = "".join(f"{line}\n" for line in self.lines)
        for part in (text[:5], text[5:]):  # in pieces, as a channel has them
            assert out_stream.write(part) == len(part)
        if self.answer:
            return self.answer
        while in_stream.read() != "":
            pass
        self.heard.append("end")
        return CommandResult("mac1", status=0)


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """`cluster(lines, answer)`: one whose lock's keeper says that."""
    monkeypatch.setattr(lock, "BEAT", 0.01)
    made: list[Any] = []

    def make(
        lines: list[str] | None = None, answer: CommandResult | None = None, wait: float = 0
    ) -> Any:
        leader = Leader([HELD] if lines is None else lines, answer)
        where = {"state_dir": "s", "cluster": "default"}
        made.append(
            SimpleNamespace(
                leader=leader, nodes=[leader], folder="f", name="default", where=where,
                lock_wait=wait, connect=lambda: None,
            )
        )  # fmt: skip
        return made[-1]

    yield make
    for each in made:
        for client in each.leader.locks.values():
            client.released.set()


def taken(cluster: Any) -> list[str]:
    said: list[str] = []
    Locks().hold(cluster, "tp.start", said.append)
    return said


def test_who_takes_it(cluster: Any) -> None:
    """A login shell may chatter before; the number is then this command's on that node."""
    mine = cluster(["Welcome", HELD])
    assert taken(mine) == []
    fence = mine.leader.fences["f"]
    assert (fence.number, fence.cluster) == (7, "default")
    assert fence.holder.startswith("tp.start of ")
    client = mine.leader.locks["f"]
    assert fence.hold == client.run.id
    assert f"token={client.run.id}" in mine.leader.heard[0]
    assert mine.leader.waited == [["mac1"]] * 2  # for each line: that is said, where it takes long
    assert lock.client(mine) is client


def test_it_is_held_as_often_as_it_is_taken(cluster: Any) -> None:
    mine, locks = cluster(), Locks()
    with locks.held(mine, "tp.restart", print):
        locks.hold(mine, "tp.stop", print)
        locks.release(mine)
        assert "f" in mine.leader.locks
        assert mine.leader.begun == 1
    assert (mine.leader.locks, mine.leader.fences) == ({}, {})
    assert mine.leader.heard[-1] == "end"
    locks.release(mine)  # of nothing: nothing happens


def test_another_command_of_this_process_has_it_too(cluster: Any) -> None:
    """What one gives back the other still has; who has none gives none back."""
    mine, one, two = cluster(), Locks(), Locks()
    one.hold(mine, "tp.start", print)
    two.release(mine)
    assert "f" in mine.leader.fences
    two.hold(mine, "tp.start", print)
    one.release(mine)
    one.release(mine)
    assert "f" in mine.leader.locks
    two.close()
    assert mine.leader.locks == {}
    assert mine.leader.begun == 1


def test_let_go_however_often_it_is_held(cluster: Any) -> None:
    mine, locks = cluster(), Locks()
    locks.hold(mine, "tp.start", print)
    locks.hold(mine, "tp.start", print)
    locks.let_go(mine)
    assert mine.leader.locks == {}
    locks.close()


def test_a_number_without_a_lock_goes_with_its_command(cluster: Any) -> None:
    """tp.stop goes on where the lock can't be made, by a number alone."""
    mine, locks = cluster(), Locks()
    mine.leader.fences["f"] = "ours"
    locks.release(mine)
    assert mine.leader.fences == {}


REFUSED = [
    (
        [f"refused\t1060\t\t{FIELDS}"], None, LockHeld,
        r"^mac1: busy with tp.stop of bob@x, since .*\(60 s\); nothing was changed: wait for it"
        r" \(--lock-wait SECONDS\), or take its lock away \(inv tp.unlock\)$",
    ),
    ([], CommandResult("mac1", failure="gone", remedy="try"), Unreachable, "^mac1: gone: try$"),
    (
        ["error no\x1b[1m room"],
        CommandResult("mac1", out="Welcome\nerror no\x1b[1m room\n", status=1),
        CheckFailed, "^mac1: the lock can't be made: no room$",
    ),
    (
        [], CommandResult("mac1", err="sh: not found", status=127), CheckFailed,
        "the lock can't be made: .*sh: not found",
    ),
    ([], CommandResult("mac1", err=" a ", status=0), Unreachable, "lock's keeper has ended: a$"),
    (["blah"] * (CHATTER + 1), None, Unreachable, "^mac1: it does not stop saying 'blah'$"),
]  # fmt: skip


@pytest.mark.parametrize(("lines", "answer", "error", "says"), REFUSED)
def test_who_does_not_get_it(
    cluster: Any, lines: list[str], answer: Any, error: type[Exception], says: str
) -> None:
    """Says why, and leaves no lock and no number behind."""
    mine = cluster(lines, answer)
    with pytest.raises(error, match=says):
        taken(mine)
    assert (mine.leader.locks, mine.leader.fences) == ({}, {})


def test_a_login_shell_may_chatter(cluster: Any) -> None:
    assert taken(cluster([*["hello"] * CHATTER, HELD])) == []


def test_what_is_told_while_it_is_taken(cluster: Any) -> None:
    lines = [f"busy\t1003\t\t{FIELDS}", ".", f"broke\t1009\tsilent 31\t{FIELDS}", HELD]
    busy, broke = taken(cluster(lines, wait=20))
    assert busy.startswith("mac1: waiting up to 20 s for tp.stop of bob@x, since ")
    assert busy.endswith("(3 s)")
    assert broke.startswith("mac1: removed the lock of tp.stop of bob@x, since ")
    assert broke.endswith("(9 s): its control machine gave no sign of life for 31 s")


def test_a_node_that_says_nothing(cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "CONNECT_TIMEOUT", 0.05)
    monkeypatch.setattr(lock, "SCRIPT_TIMEOUT", 0.05)
    with pytest.raises(Unreachable, match="mac1: the lock was not given or refused in time"):
        taken(cluster([]))


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (LOST, r"the lock was lost: somebody has removed it \(inv tp.unlock\)"),
        (CommandResult("mac1", failure="the connection broke"), "lost: the connection broke"),
    ],
)
def test_one_that_was_lost(
    cluster: Any, monkeypatch: pytest.MonkeyPatch, answer: CommandResult, says: str
) -> None:
    """Who had it and takes it once more is told; the nodes are asked first who has it now."""
    asked: list[Any] = []
    monkeypatch.setattr(snapshots, "states", asked.append)
    mine, locks = cluster([HELD], answer), Locks()
    locks.hold(mine, "tp.start", print)
    mine.leader.locks["f"].end.result(60)
    with pytest.raises(ActionFailed, match=says):
        locks.hold(mine, "tp.stop", print)
    assert asked == [mine]


HOLDERS = [
    ("", ""),
    ("rebooted", "the node has rebooted since"),
    ("ended", "its command has ended without a word"),
    ("silent 44", "its control machine gave no sign of life for 44 s"),
    ("damaged", "it is damaged"),
    ("what?", "it is damaged"),
]


@pytest.mark.parametrize(("word", "gone"), HOLDERS)
def test_a_holder(word: str, gone: str) -> None:
    found = lock.parse(f"was\t1090\t{word}\t{FIELDS}")
    assert found == Holder("tp.stop", "bob@x", 1000.0, 1090.0, gone)
    clock = time.strftime("%H:%M:%S", time.localtime(1000))
    assert str(found) == f"tp.stop of bob@x, since {clock} (90 s)"


@pytest.mark.parametrize(
    "line",
    ["was", "was\t5\tdamaged\t", "was\tx\t\ttoken\t1\t2\tboot\tnoon\ttp.stop\tbob",
     "was\t5\t\ttoken\t1\t2\tboot\t1000\t\tbob", "was\t5\t\ttoken\t1\t2\tboot\t1000\ttp.stop\t",
     "was\t5\t\ttoken\t1\t2\tboot\t1234567890123\ttp.stop\tbob"],
)  # fmt: skip
def test_a_damaged_one_is_nobody_s(line: str) -> None:
    found = lock.parse(line)
    assert str(found) == "nobody can tell who"
    assert (found.what in ("", "tp.stop"), found.who in ("", "bob")) == (True, True)


def test_a_clock_that_was_set_back() -> None:
    assert str(lock.parse(f"was\t900\t\t{FIELDS}")).endswith("(0 s)")


def test_controls_of_a_holder_s_name_do_not_reach_the_screen() -> None:
    told = lock.parse("was\t5\t\tt\t1\t2\tb\t3\ttp.\x1b[2Jstop\tb\x07ob")
    assert (told.what, told.who) == ("tp.stop", "bob")


def test_what_the_keeper_is_told(cluster: Any) -> None:
    """A wait of whole seconds, and names of one line without tabs, which part its fields."""
    run = Run("20261130T1", "a\tb\nc", 0.0)
    head = lock.script(cluster(wait=1.2), "tp.\tstart", run).splitlines()[:11]
    told = dict(line.split("=", 1) for line in head)
    assert (told["state_dir"], told["cluster"], told["fence"]) == ("s", "default", "0")
    assert (told["token"], told["hold"]) == ("20261130T1", "20261130T1")
    assert (told["wait"], told["silence"]) == ("2", "30")
    assert (told["what"], told["who"]) == ("'tp. start'", "'a b c'")


def test_the_script_comes_first_and_no_beat_before_it_is_held(cluster: Any) -> None:
    """A shell that reads its script by blocks would lose what comes too early."""
    client: Any = SimpleNamespace(script="script", has_lock=Event(), released=Event())
    assert LockClient.read(client) == "script"
    assert LockClient.read(client) is None
    client.has_lock.set()
    assert LockClient.read(client) == "\n"
    client.released.set()
    assert LockClient.read(client) == ""


def test_a_line_without_end_is_cut() -> None:
    lines: list[str] = []
    stream = lock._LineStream(lines.append)
    stream.write("x" * 10 * LINE)
    stream.write("\n")
    assert [len(line) for line in lines] == [LINE]


@pytest.mark.parametrize(
    ("lines", "answer", "seconds"),
    [([HELD], None, 10.0), ([f"refused\t1060\t\t{FIELDS}"], LOST, 1.0)],
)
def test_how_long_its_end_is_waited_for(
    cluster: Any, lines: list[str], answer: Any, seconds: float
) -> None:
    """One that has the lock has it to remove; who waits decides how long that may take."""
    asked: list[float] = []

    def patience(wanted: float) -> float:
        asked.append(wanted)
        return 60.0

    locks, mine = Locks(patience), cluster(lines, answer)
    with suppress(LockHeld):
        locks.hold(mine, "tp.start", print)
    locks.close()
    assert asked == [seconds]


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Any:
    """`seen(cluster, numbers)`: its nodes have seen those; gives what each question carries."""

    def see(mine: Any, numbers: dict[str, int | None]) -> list[Any]:
        asked: list[Any] = []
        told: dict[Any, Any] = {}

        def state(name: str) -> Any:
            number, why = numbers[name], "Read-only file system" if name == "full" else ""
            fence = number and SimpleNamespace(number=number)
            return None if name == "odd" else SimpleNamespace(fence=fence, unwritten=why)

        def states(of: Any, more: Any = None) -> Any:
            assert of is mine
            fence = mine.leader.fences.get("f")
            asked.append((fence.number, fence.holder.partition(" ")[0]) if fence else None)
            if more:
                (holder,) = more(mine.leader)
                assert "\nsilence=30\n" in holder.command
                told[holder.key] = holder.parse(f"was\t1060\t\t{FIELDS}", 0)
                assert (more(SimpleNamespace()), holder.is_raw) == ([], True)
            return SimpleNamespace(
                nodes=numbers, state=state, unreachable={"mac4": ""}, on={"mac1": told}.__getitem__
            )

        monkeypatch.setattr(snapshots, "states", states)
        return asked

    return see


MISSED = {
    "mac4": "can't be reached",
    "full": "can't note its number: Read-only file system",
    "odd": "its state can't be read",
}


@pytest.mark.parametrize(
    ("numbers", "next_one"), [({"mac1": 4, "mac2": 11, "mac3": None}, 12), ({"mac1": None}, 1)]
)
def test_take_over(cluster: Any, seen: Any, numbers: dict[str, int | None], next_one: int) -> None:
    """One more than any node has seen; each is told by the second question, but for some."""
    numbers |= {"full": None, "odd": None}
    mine = cluster()
    asked = seen(mine, numbers)
    mine.leader.fences["f"] = lock._fence(mine, "old", Run.new(), 3)
    had, missed = lock.take_over(mine, "tp.unlock")
    assert (had and had.what, missed) == ("tp.stop", MISSED)
    assert asked == [None, (next_one, "tp.unlock")]
    assert mine.leader.fences["f"].asked == {"mac1"}


REMOVED = [
    (CommandResult("mac1", out=f"Welcome\nwas\t1090\t\t{FIELDS}\n", status=0), 1090.0),
    (CommandResult("mac1", status=0), 1060.0),  # given up a moment ago: who that was is known
]


@pytest.mark.parametrize(("answer", "now"), REMOVED)
def test_unlock(cluster: Any, seen: Any, answer: CommandResult, now: float) -> None:
    """It removes the lock by the new number, which is no command's from then on."""
    mine, sent = cluster(), list[str]()
    asked = seen(mine, {"mac1": 4})

    def sh(script: str) -> CommandResult:
        sent.append(script)
        return answer

    mine.leader.sh = sh
    had, missed = lock.unlock(mine)
    assert (had and had.now, missed) == (now, {"mac4": "can't be reached"})
    assert asked == [None, (5, "tp.unlock")]
    (script,) = sent
    assert "\nfence=5\n" in script
    assert "\nsilence=30\n" in script
    assert mine.leader.fences == {}


def test_an_unlock_that_fails(cluster: Any, seen: Any) -> None:
    mine = cluster()
    seen(mine, {"mac1": 4})
    mine.leader.sh = lambda script: CommandResult("mac1", failure="gone")
    with pytest.raises(Unreachable, match="mac1: gone"):
        lock.unlock(mine)
