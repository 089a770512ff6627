"""How a start is told, line by line, by a clock of the test's own."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import struct
import sys
import termios
from types import SimpleNamespace

import pytest

from tasks.cli import screen
from tasks.cluster.server.readiness import Health
from tasks.cluster.server.wait import Progress, RankView


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr(screen, "time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


def view(rank: int, state: str, last: str = "") -> RankView:
    return RankView(rank, f"mac{rank + 1}", state, last=last)


LATE = Health("starting", "mac2 still imports")
MEET = Health("joining", "all 2 ranks meet")


def test_a_start_in_lines(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    """A line where the state changes, else one each ten seconds with what a rank said last."""
    plain = screen._PlainScreen()

    def look(at: float, health: Health, *views: RankView, **more: float) -> list[str]:
        clock[0] = at
        plain(Progress(at, health, views, **more))
        return capsys.readouterr().err.splitlines()

    def loading(share: int) -> Health:
        return Health("loading", f"{share} %, {share}.0 GiB of 100.0 GiB per rank")

    views = view(0, "meeting"), view(1, "importing")
    assert look(1, LATE, *views) == []
    assert look(2, MEET, *views) == ["  2.0 s  joining: all 2 ranks meet"]
    assert look(3, MEET, *views) == []
    assert look(4, loading(1), *views, share=0.01) == [
        "  4.0 s  loading: 1 %, 1.0 GiB of 100.0 GiB per rank"
    ]
    assert look(9, loading(20), *views, share=0.2, left=20) == []
    views = view(0, "joined", "Starting httpd"), view(1, "joined")
    assert look(14.5, loading(42), *views, share=0.42, left=14.2) == [
        " 14.5 s  still loading: 42 %, 42.0 GiB of 100.0 GiB per rank, about 14 s left"
        "  Starting httpd"
    ]
    assert look(15, loading(43), *views, share=0.43) == []
    dead = view(0, "joined"), view(1, "dead")
    assert look(16, Health("dead", "x"), *dead) == [" 16.0 s  rank 1 on mac2: dead"]


def test_an_engine_of_which_no_more_is_known(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    plain = screen._PlainScreen()
    for _ in range(2):
        plain(Progress(1, Health("loading", "group size not checked"), [view(0, "running")]))
    assert capsys.readouterr().err.splitlines() == [
        "  1.0 s  rank 0 on mac1: running",
        "  1.0 s  loading: group size not checked",
    ]


def test_a_bar_on_a_terminal() -> None:
    """It is as long as the share that is loaded; without one there is none."""
    from rich.console import Console

    def shown(**more: float) -> str:
        console = Console(width=100, force_terminal=False)
        with console.capture() as capture:
            console.print(screen._live(Progress(3, Health("loading"), [view(0, "joined")], **more)))
        return capture.get()

    assert shown(share=0.5).count("━") == 20
    assert shown(share=0.25, left=7).count("━") == 10
    assert "loading, about 7 s left" in shown(share=0.25, left=7)
    assert "━" not in shown()


ERROR = (
    "mac1: 33 different matters, the first of which is: inv rdma.discover --hosts mac1 --write FILE"
)


@pytest.mark.parametrize(
    ("columns", "rows"),
    [
        (120, [ERROR]),
        (60, [ERROR[:50], ERROR[51:]]),
        (80, [ERROR[:50], ERROR[51:]]),
        (
            30,
            ["mac1: 33 different matters,", "the first of which is: inv",
             "rdma.discover --hosts mac1", "--write FILE"],
        ),
    ],
)  # fmt: skip
def test_a_long_line(columns: int, rows: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal breaks no word of it, and no command that fits on a line; a pipe has it whole."""
    monkeypatch.setenv("COLUMNS", str(columns))
    stream = io.StringIO()
    assert screen.wrapped(ERROR, stream) == ERROR
    monkeypatch.setattr(stream, "isatty", lambda: True)
    assert screen.wrapped(ERROR, stream).split("\n") == rows
    assert screen.wrapped(f"\n  {ERROR}", stream).split("\n")[:2] == ["", f"  {rows[0]}"]


def test_a_line_that_is_read_breaks_at_words(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On a terminal; in a pipe it stays one line."""
    screen.sentence("one two three")
    monkeypatch.setattr(screen, "width", lambda: 9)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    screen.sentence("one two three")
    assert capsys.readouterr().out == "one two three\none two\nthree\n"


def test_a_wait_that_is_held_ticks(
    clock: list[float], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A terminal shows each look, and what is kept of it is only what was said."""
    monkeypatch.setattr(screen, "is_terminal", lambda stream: True)
    with screen.held(lambda: False) as said:
        plain = screen._PlainScreen()
        for at in (1.0, 2.0, 3.0):
            clock[0] = at
            plain(Progress(at, MEET, [view(0, "meeting")]))
        assert said() == ["  1.0 s  joining: all 2 ranks meet"]
    assert "3.0 s  joining" in capsys.readouterr().err


def test_narration_is_as_wide_as_its_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where stdout goes into a pipe, too."""
    monkeypatch.delenv("COLUMNS", raising=False)
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("4H", 40, 60, 0, 0))
    with os.fdopen(its, "w") as stream:
        monkeypatch.setattr(sys, "__stderr__", stream)
        monkeypatch.setattr(sys, "__stdout__", io.StringIO())
        assert screen.width() == 60
    os.close(ours)
    assert screen.width() == 80
