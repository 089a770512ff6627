"""Tables: aligned in cells of a terminal, no row wider than it, each one line elsewhere."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.cli import screen

ROW = ["ok", "model", "127.0.0.1", "/Users/ada/models/K, 4 files of weights and no more than that"]
WIDTHS = [4, 9, 9, 61]


@pytest.mark.parametrize(
    ("room", "lines"),
    [
        (None, [f"ok    model      127.0.0.1  {ROW[3]}"]),
        (
            60,
            [
                "ok    model      127.0.0.1  /Users/ada/models/K, 4 files of",
                "                            weights and no more than that",
            ],
        ),
        (40, ["ok  model  127.0.0.1", "    /Users/ada/models/K, 4 files of", "    weights and no"]),
    ],
)
def test_a_row_that_is_wide(room: int | None, lines: list[str]) -> None:
    found = [line.rstrip() for line in screen.fitted(ROW, WIDTHS, room)]
    assert [each[: len(line)] for each, line in zip(found, lines, strict=False)] == lines
    assert " ".join(" ".join(found).split()) == " ".join(ROW)


TEXT = st.text(st.sampled_from("ab 机é́"), max_size=30)


@given(st.lists(TEXT, min_size=2, max_size=5), st.integers(12, 80))
def test_no_line_is_wider(row: list[str], room: int) -> None:
    widths = [screen.cells(cell) for cell in row]
    assert all(screen.cells(line) <= room for line in screen.fitted(row, widths, room))


def test_wide_characters(capsys: pytest.CaptureFixture[str]) -> None:
    screen.table([("a", "机", "x"), ("a", "bcd", "x")])
    assert capsys.readouterr().out == "a  机   x\na  bcd  x\n"
