"""A rank's marks, read at any time: whole, half written, or written by another version."""

from __future__ import annotations

import pytest

from tasks.cluster.facts.server import marks
from tasks.cluster.facts.server.marks import Importing, Joined, Left, Loading, Marks, Meeting

TEXT = (
    "importing 100.000 pid=12 stacks=SIGURG\n"
    "meeting 100.250 limit=60\n"
    "joined 101.000 rank=1 size=2 backend=ring seconds=0.75 mlx=0.32.4 mlx-lm=0.32.2\n"
    "loading 102.000 bytes=1000 of=4000\n"
    "loading 103.000 bytes=4000 of=4000\n"
    "left 200.000 status=130\n"
)
WHOLE = Marks(
    Importing(100.0, 12, "SIGURG"),
    Meeting(100.25, 60.0),
    Joined(101.0, 1, 2, "ring", 0.75, {"mlx": "0.32.4", "mlx-lm": "0.32.2"}),
    Loading(103.0, 4000, 4000),
    Left(200.0, 130),
)


def test_all_marks() -> None:
    assert marks.parse(TEXT) == WHOLE
    assert marks.parse("") == Marks()


def test_a_line_counts_once_it_is_whole() -> None:
    """Cut anywhere, a file says what its whole lines say."""
    for cut in range(len(TEXT)):
        whole = TEXT[:cut].rpartition("\n")[0]
        assert marks.parse(TEXT[:cut]) == marks.parse(whole + "\n" if whole else ""), cut
    assert marks.parse(TEXT[:-1]).left is None


@pytest.mark.parametrize(
    "line",
    [
        "", "joined", "joined ", "joined x rank=0 size=2 backend=ring seconds=1",
        "joined nan rank=0 size=2 backend=ring seconds=1", "joined 1 rank=0 size=2",
        "joined 1 rank=a size=2 backend=ring seconds=1", "joined 1 =", "joined 1 rank",
        "loading 1 bytes=5 of=4", "loading 1 bytes=-1 of=4", "loading 1 bytes=1",
        "\0\0\0", "unheard 1 of=that",
    ],
)  # fmt: skip
def test_what_can_not_be_read_has_not_been_reached(line: str) -> None:
    start = "importing 100.000 pid=12 stacks=SIGURG\n"
    assert marks.parse(f"{start}{line}\n") == marks.parse(start)


def test_another_version_may_say_more() -> None:
    assert marks.parse("left 1 status=0 why=asked\n").left == Left(1.0, 0)
