"""How ranks are stopped: which signal when, and that nothing is killed while it frees memory."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from tasks.cluster.facts import NodeFacts, Unknown
from tasks.cluster.facts.machine import processes
from tasks.cluster.facts.server.state import KEY, NO_HOLD, RankState, State
from tasks.cluster.facts.snapshot import Snapshot
from tasks.cluster.server import snapshots, stop
from tasks.cluster.server.fence import TakenOver
from tasks.cluster.server.launch import who
from tasks.cluster.server.stop import Held, StopReport
from tasks.cluster.server.targets import Target
from tasks.cluster.ssh import nodes, scripts
from tasks.cluster.ssh.node import SCRIPT_TIMEOUT, CommandResult

GB = 1024**3
FIRST = Target("mac1", 10, "rank 0", ("start", "b", "1"), is_leader=True, signal="INT")
SECOND = Target("mac2", 20, "rank 1", ("start", "b", "2"))
VM_STAT = "Mach Virtual Memory Statistics: (page size of 16384 bytes)\nPages wired down: {}.\n"


def cluster() -> Any:
    nodes = [SimpleNamespace(name=name) for name in ("mac1", "mac2")]
    return SimpleNamespace(nodes=nodes, stop_timeout=15.0, unload_limit=180.0)


@pytest.fixture
def stopped(monkeypatch: pytest.MonkeyPatch) -> Any:
    """`stopped(looks, **options)`: the signals that are sent, and what is told.

    Each of `looks` is what is left after a signal, and the GB that each of that holds.
    """

    def run(looks: list[tuple[list[Target], float]], **options: Any) -> tuple[list[Any], list[str]]:
        sent: list[Any] = []
        told: list[str] = []
        found = options.pop("found", [FIRST, SECOND])
        coming = iter(looks)
        clock = [0.0]

        def signal(_: Any, waited: Any, signalled: Any, name: str, seconds: float, *__: Any) -> Any:
            sent.append((name, [target.pid for target in signalled], round(seconds, 1)))
            clock[0] += seconds
            left, held = next(coming)
            return left, Held({(each.node, each.pid): int(held * GB) for each in left}, {})

        monkeypatch.setattr(stop, "_signal", signal)
        monkeypatch.setattr(stop, "targets", lambda *_: found)
        monkeypatch.setattr(stop, "time", SimpleNamespace(monotonic=lambda: clock[0]))
        reports = stop.stop(cluster(), read=Snapshot({}, {}), tell=told.append, **options)
        assert next(coming, None) is None
        return sent, [*told, *(each.why for each in reports if each.why)]

    return run


BOTH, ONE, NONE = [FIRST, SECOND], [SECOND], list[Target]()


def test_rank_0_takes_the_others_along(stopped: Any) -> None:
    """By its engine's own signal; nothing else is sent."""
    assert stopped([(NONE, 0)])[0] == [("INT", [10], 5.0)]


def test_what_is_left_gets_sigterm_and_then_sigkill(stopped: Any) -> None:
    """Together within the time that there is; before SIGKILL one look tells that it holds on."""
    sent, told = stopped([(ONE, 9), (ONE, 9), (ONE, 9), (NONE, 0)])
    assert sent == [("INT", [10], 5.0), ("TERM", [20], 10.0), ("0", [], 3.0), ("KILL", [20], 10.0)]
    assert told == ["stopping rank 0 on mac1, rank 1 on mac2", "SIGKILL to rank 1 on mac2"]


def test_all_at_once(stopped: Any) -> None:
    sent, _ = stopped([(BOTH, 9), (NONE, 0)], order="all")
    assert sent == [("INT", [10, 20], 5.0), ("TERM", [10, 20], 10.0)]


@pytest.mark.parametrize("order", ["leader", "all"])
def test_nothing_comes_before_sigterm(stopped: Any, order: str) -> None:
    """Where rank 0 is not there, or is to get it, too, and at the same time as the others."""
    assert stopped([(NONE, 0)], order=order, found=ONE)[0] == [("TERM", [20], 15.0)]
    first = replace(FIRST, signal="TERM")
    sent, _ = stopped([(ONE, 0), (NONE, 0)][order == "all" :], order=order, found=[first, SECOND])
    alone = [("TERM", [10], 5.0), ("TERM", [20], 10.0)]
    assert sent == ([("TERM", [10, 20], 15.0)] if order == "all" else alone)


def test_no_sigkill_while_memory_falls(stopped: Any) -> None:
    """Told at each look; once it no longer falls there is nothing to wait for."""
    looks = [(BOTH, 400), (BOTH, 380), (BOTH, 359), (ONE, 340), (ONE, 339.95), (NONE, 0)]
    sent, told = stopped(looks)
    assert [name for name, *_ in sent] == ["INT", "TERM", "0", "0", "0", "KILL"]
    falls = "waiting for rank 0 on mac1, rank 1 on mac2: memory still falls (718.0 GiB)"
    assert told[1] == falls


def test_at_most_the_limit(stopped: Any) -> None:
    falling = [(ONE, 500 - each) for each in range(60)]
    sent, _ = stopped([(ONE, 502), (ONE, 501), *falling, (NONE, 0)])
    assert sum(seconds for name, _, seconds in sent if name == "0") == 180
    assert sent[-1][0] == "KILL"


@pytest.mark.parametrize("how", [{"force": True}, {"timeout": 4.0}])
def test_who_says_so_is_obeyed(stopped: Any, how: dict[str, Any]) -> None:
    """After one line on what it risks."""
    looks = [(BOTH, 400), (BOTH, 380), (NONE, 0)][2 * ("force" in how) :]
    sent, told = stopped(looks, **how)
    kill = ("KILL", [10, 20], 10.0)
    half = ("INT", [10], 2.0), ("TERM", [10, 20], 2.0)
    assert sent == ([kill] if "force" in how else [*half, kill])
    risk = "what it has wired may stay so until a reboot"
    assert told[-1] == f"SIGKILL to rank 0 on mac1, rank 1 on mac2: {risk}"


def test_what_a_mac_tells() -> None:
    """footprint's own form; where a process tells no more, what is wired on its node."""
    before = Held.parse({"a": f"holds 5 199.2 GB\n{VM_STAT.format(9)}left 5", "b": "left"})
    assert before.own == {("a", 5): int(199.2 * GB)}
    now = Held.parse({"a": f"holds 5 198.9 GB\n{VM_STAT.format(99999)}left 5"})
    assert now.is_less_than(before)
    assert not now.is_less_than(now)
    assert not now.is_less_than(Held({}, {}))
    gone = [Held.parse({"a": f"{VM_STAT.format(pages)}left 5"}) for pages in (90000, 80000)]
    assert gone[1].is_less_than(gone[0])
    assert not gone[0].is_less_than(gone[1])
    assert not gone[1].is_less_than(Held({}, {}))
    assert Held.parse({"a": "holds 5 lots\nleft 5"}) == Held({}, {})


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Any:
    """`asked(answers, **options)`: what nodes are asked, and the reports.

    Each of `answers` is what the nodes say to a signal: "left ..." by name, None for no answer.
    `again` is what there is to stop at the second look at nodes that were lost.
    """

    def run(
        answers: list[dict[str, str | None]], again: list[Target] | None = None, **options: Any
    ) -> tuple[list[Any], Any]:
        told: list[Any] = []
        waits: list[float] = []
        coming = iter(answers)
        looks: Any = iter([[FIRST, SECOND], again])
        here, read = cluster(), options.pop("read", Snapshot({}, {}))

        def script(of: Any, waited: Any, signalled: Any, name: str, seconds: float) -> str:
            assert of is here
            waits.append(seconds)
            return f"{name} {[each.pid for each in signalled]} of {[each.pid for each in waited]}"

        def sh(every: Any, texts: Any, timeout: float) -> Any:
            assert every is here.nodes
            assert timeout == waits[-1] + SCRIPT_TIMEOUT
            told.append(dict(sorted(texts.items())))
            said = next(coming)
            return {name: _answer(name, said[name]) for name in texts}

        def targets(of: Any, found: Any, run: Any, everything: Any) -> Any:
            assert isinstance(found, Snapshot)
            told.append((of is here, found is read, run, everything))
            return next(looks)

        def alive(of: Any, names: Any) -> Snapshot:
            assert of is here
            told.append(names)
            return Snapshot({}, {} if again is not None else dict.fromkeys(names, ("away", "")))

        monkeypatch.setattr(stop, "script", script)
        monkeypatch.setattr(nodes, "sh", sh)
        monkeypatch.setattr(stop, "targets", targets)
        monkeypatch.setattr(snapshots, "alive", alive)
        if again is None:
            looks = iter([[FIRST, SECOND], []])
        reports = stop.stop(here, read=read, **options)
        assert next(coming, None) is None
        return told, {each.node: each for each in reports}

    return run


def _answer(name: str, said: str | None) -> CommandResult:
    if said is None:
        return CommandResult(name, failure="connection lost")
    if said.startswith("refused: "):
        return CommandResult(name, err=said, status=1)
    return CommandResult(name, said, status=0)


def test_each_node_is_asked_for_its_own_ranks(asked: Any) -> None:
    """Rank 0's gets the signal; both are waited for."""
    told, reports = asked([{"mac1": "left", "mac2": "left 20"}, {"mac2": "holds 20 1 GB\nleft"}])
    assert told == [
        (True, True, None, False),
        {"mac1": "INT [10] of [10]", "mac2": "INT [] of [20]"},
        {"mac2": "TERM [20] of [20]"},
    ]
    assert [(each.word, each.labels) for each in reports.values()] == [
        ("stopped", "rank 0"),
        ("stopped", "rank 1"),
    ]


def test_a_node_that_says_something_else_has_ended_nothing(asked: Any) -> None:
    both = {"mac1": "left", "mac2": "Welcome"}
    told, reports = asked([both, {"mac2": "left"}])
    assert told[2] == {"mac2": "TERM [20] of [20]"}
    assert reports["mac2"].ended == ["rank 1"]


@pytest.mark.parametrize(
    ("options", "why"),
    [({}, "not ended within 15 s"), ({"timeout": 4.0}, "not ended within 4 s")],
)
def test_why_it_was_killed_and_what_is_left(asked: Any, options: Any, why: str) -> None:
    both = {"mac1": "left 10", "mac2": "left 20"}
    looks = [both] * (3 - len(options))
    told, reports = asked([*looks, {"mac1": "left", "mac2": "left 20"}], **options)
    assert told[-1] == {"mac1": "KILL [10] of [10]", "mac2": "KILL [20] of [20]"}
    assert (reports["mac1"].word, reports["mac1"].why) == ("killed", why)
    assert reports["mac2"].left == ["rank 1 (pid 20)"]
    assert (reports["mac2"].word, reports["mac2"].why) == ("still running", "")


def test_force_says_so_and_what_is_asked_for_is_handed_on(asked: Any) -> None:
    both = {"mac1": "left", "mac2": "left"}
    told, reports = asked([both], force=True, run="r1", everything=True)
    assert told[0] == (True, True, "r1", True)
    assert told[1] == {"mac1": "KILL [10] of [10]", "mac2": "KILL [20] of [20]"}
    assert {each.why for each in reports.values()} == {"--force"}


@pytest.mark.parametrize(
    ("again", "word"), [([], "stopped"), ([SECOND], "not reached"), (None, "not reached")]
)
def test_a_node_that_was_lost_is_looked_at_once_more(asked: Any, again: Any, word: str) -> None:
    """What it tells then counts; it is not asked in between, and the others are stopped."""
    told, reports = asked([{"mac1": "left", "mac2": None}], again, run="r1")
    assert told[2] == ["mac2"]
    assert told[3] == (True, False, "r1", False)
    assert reports["mac1"].word == "stopped"
    assert reports["mac2"].word == word
    assert reports["mac2"].failure == ("" if word == "stopped" else "connection lost")
    assert reports["mac2"].ended == (["rank 1"] if word == "stopped" else [])


def test_a_node_that_can_signal_nothing_tells_why(asked: Any) -> None:
    """A rank that lives there is not called another user's, and gets no SIGKILL in vain."""
    told, reports = asked([{"mac1": "left", "mac2": "refused: no perl"}], [SECOND])
    assert told[2] == ["mac2"]
    assert (reports["mac1"].word, reports["mac2"].word) == ("stopped", "not reached")
    assert reports["mac2"].failure == "refused: no perl (exit status 1)"
    assert not reports["mac2"].left


def test_ranks_that_had_died_are_told(asked: Any) -> None:
    """Those of the run that is stopped, with how they ended; a node of which nothing is known."""
    first: Any = SimpleNamespace(run="r1")
    second: Any = SimpleNamespace(run="r2")
    dead = RankState(1, first, 21, alive=False, exit=9)
    other = replace(dead, rank=2, record=second)
    waits = replace(dead, rank=3, pid=None)
    lives = replace(dead, rank=4, alive=True)
    ranks = {each.rank: each for each in (dead, other, waits, lives)}
    facts = NodeFacts("mac2", {KEY: State(0.0, ranks, None, None)})
    read = Snapshot({"mac2": facts}, {"mac1": ("no answer", "look")})
    gone = {"mac1": "left", "mac2": "left"}
    reports = asked([gone], read=read, run="r1")[1]
    assert reports["mac2"].died == ["rank 1 (exit status 9)"]
    assert reports["mac1"].failure == "no answer: look"
    assert len(asked([gone], read=read)[1]["mac2"].died) == 2
    late = replace(dead, booted=-120.0)
    facts = NodeFacts("mac2", {KEY: State(0.0, {1: late}, None, None)})
    reports = asked([gone], read=Snapshot({"mac2": facts}, {"mac1": ("no answer", "")}))[1]
    assert reports["mac2"].died == ["rank 1 (rebooted 2 min ago)"]
    assert reports["mac1"].failure == "no answer"


@pytest.mark.parametrize("key", [KEY, processes.KEY])
def test_a_node_of_which_it_is_unknown_what_runs(asked: Any, key: Any) -> None:
    facts = NodeFacts("mac2", {key: Unknown("torn")})
    reports = asked([{"mac1": "left", "mac2": "left"}], read=Snapshot({"mac2": facts}, {}))[1]
    assert (reports["mac1"].failure, reports["mac2"].failure) == ("", "torn")


WHERE = {"state_dir": "s", "cluster": "default"}


def site() -> Any:
    """A cluster of which this command has no hold."""
    return SimpleNamespace(where=WHERE, folder="f", leader=SimpleNamespace(fences={}), nodes=["n"])


@pytest.mark.parametrize("rdma", [False, True])
def test_what_a_node_is_sent_with_a_signal(rdma: bool) -> None:
    """By what each process is known, which are signalled, and whether any of those has RDMA."""
    first, second = replace(FIRST, has_rdma=not rdma), replace(SECOND, has_rdma=rdma)
    words = ["no", "10", "start", "b", "1", "yes", "20", "start", "b", "2"]
    values = {**WHERE, **NO_HOLD, "who": who(), "signal": "TERM", "rdma": "1" if rdma else ""}
    text = scripts.script("stop/signal.sh", words, **values, looks=30)
    found = stop.script(site(), [first, second], [second], "TERM", 1.54)
    assert sorted(found.splitlines()) == sorted(text.splitlines())


@pytest.mark.parametrize(("run", "keep"), [(None, False), ("r1", True)])
def test_only_where_nothing_is_left_is_it_forgotten(run: str | None, keep: bool) -> None:
    lost = StopReport("mac2", failure="no answer")
    reports = [StopReport("mac1"), StopReport("mac3", left=["rank 1"]), lost]
    values = {**WHERE, **NO_HOLD, "run": run or "", "who": who(), "keep": "1" if keep else ""}
    text = scripts.script("stop/forget.sh", **values)
    assert stop.forget_scripts(site(), reports, run, keep) == {"mac1": text}


def test_who_has_lost_the_cluster_forgets_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    here, reports, asked = site(), [StopReport("mac1")], []
    refused = CommandResult("mac1", err="fence 6 new 1764500000 tp.stop of b\n", status=76)

    def sh(*words: Any) -> dict[str, CommandResult]:
        asked.append(words)
        return {"mac1": refused}

    monkeypatch.setattr(nodes, "sh", sh)
    with pytest.raises(TakenOver):
        stop.forget(here, reports, "r1")
    assert asked == [(here.nodes, stop.forget_scripts(here, reports, "r1"))]
