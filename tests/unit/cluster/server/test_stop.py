"""How ranks are stopped: which signal when, and that nothing is killed while it frees memory."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tasks.cluster.facts.snapshot import Snapshot
from tasks.cluster.server import stop
from tasks.cluster.server.stop import Held
from tasks.cluster.server.targets import Target

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
        coming = iter(looks)
        clock = [0.0]

        def signal(_: Any, waited: Any, signalled: Any, name: str, seconds: float, *__: Any) -> Any:
            sent.append((name, [target.pid for target in signalled], round(seconds, 1)))
            clock[0] += seconds
            left, held = next(coming)
            return left, Held({(each.node, each.pid): int(held * GB) for each in left}, {})

        monkeypatch.setattr(stop, "_signal", signal)
        monkeypatch.setattr(stop, "targets", lambda *_: [FIRST, SECOND])
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
    assert [name for name, *_ in sent] == ["INT", "TERM", "KILL"][2 * ("force" in how) :]
    risk = "what it has wired may stay so until a reboot"
    assert told[-1] == f"SIGKILL to rank 0 on mac1, rank 1 on mac2: {risk}"


def test_what_a_mac_tells() -> None:
    """footprint's own form; where a process tells no more, what is wired on its node."""
    before = Held.parse({"a": f"holds 5 199.2 GB\n{VM_STAT.format(9)}left 5", "b": "left"})
    assert before.own == {("a", 5): int(199.2 * GB)}
    now = Held.parse({"a": f"holds 5 198.9 GB\n{VM_STAT.format(99999)}left 5"})
    assert now.is_less_than(before)
    assert not now.is_less_than(now)
    gone = [Held.parse({"a": f"{VM_STAT.format(pages)}left 5"}) for pages in (90000, 80000)]
    assert gone[1].is_less_than(gone[0])
    assert not gone[0].is_less_than(gone[1])
    assert not gone[1].is_less_than(Held({}, {}))
    assert Held.parse({"a": "holds 5 lots\nleft 5"}) == Held({}, {})
