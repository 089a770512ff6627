"""Runs of tp.bench compared: what is noise, what a change, and whether more ranks are faster."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tasks.cluster.http import load
from tasks.commands.tp import bench, compare
from tasks.drawing import plot


def row(totals: list[float], first: float = 0.1) -> load.LoadDocument:
    """A row of so many repeats, as a file has it."""
    sample = [load.Sample(first=first, seconds=1.0, tokens=4, speed=9.0)]
    batches = [load.LoadRow(1, 64, 64, 1, 4 / total, sample) for total in totals]
    return load.merged(batches).document()


def run_of(label: str, ranks: int, totals: list[float]) -> dict[str, Any]:
    return {"format": 1, "label": label, "ranks": ranks, "rows": [row(totals)]}


SLOW, FAST = [10.0, 10.1, 9.9, 10.2, 9.8], [20.0, 20.1, 19.9, 20.2, 19.8]
MIXED = [9.7, 10.3, 10.05, 9.95, 10.0]


def told(capsys: pytest.CaptureFixture[str], tmp_path: Path, *runs: dict[str, Any]) -> list[str]:
    """The rows of the table and what is said below, as people see it."""
    files = []
    for number, each in enumerate(runs):
        files.append(str(tmp_path / f"{number}.json"))
        Path(files[-1]).write_text(json.dumps(each))
    compare.run(files, None)
    return [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]


def test_noise_is_called_noise(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    lines = told(capsys, tmp_path, run_of("a", 2, SLOW), run_of("b", 2, MIXED))
    assert lines[1:4] == [
        "64 x1 a first token 0.100 s",
        "in total 10.0/s",
        "64 x1 b first token 0.100 s noise (+0 to +0 %)",
    ]
    assert lines[4].startswith("in total 10.0/s noise (-")


@pytest.mark.parametrize(
    ("one", "two", "said"),
    [
        ((1, SLOW), (2, FAST), "2 ranks against 1: 2.00 times as fast (1.9"),
        ((2, FAST), (1, SLOW), "2 ranks against 1: 2.00 times as fast (1.9"),
        ((1, FAST), (2, SLOW), "0.50 times as fast (0.49 to 0.51): fewer ranks are faster"),
        ((1, SLOW), (2, MIXED), "2 ranks against 1: no faster, no slower, as far as can be seen"),
    ],
)
def test_more_ranks_against_fewer(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, one: Any, two: Any, said: str
) -> None:
    *_, last = told(capsys, tmp_path, run_of("one", *one), run_of("two", *two))
    assert said in last
    assert ("of at most 2" in last) == ("2.00 times" in said)


def test_too_few_repeats(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A file of an earlier version has none; a change is told, and that nobody knows."""
    old = run_of("old", 2, SLOW)
    for name in ("repeats", "doubt", "is_narrow"):
        old["rows"][0].pop(name)
    *_, last = told(capsys, tmp_path, old, run_of("new", 2, FAST))
    assert last == "in total 20.0/s +100 % (too few repeats to tell)"


def test_a_row_is_known_by_its_repeats() -> None:
    assert row(SLOW)["is_narrow"]
    assert not row([5.0, 10.0, 20.0, 10.0])["is_narrow"]
    assert not row(SLOW[:3])["is_narrow"]  # no comparison could be made of these
    assert row(SLOW[:1])["doubt"] is None
    assert row(SLOW)["requests"] == 5
    assert bench.table([row(SLOW)])[1][-1] == "10.0 ±2 %"


@pytest.mark.parametrize(
    ("most", "marks"),
    [
        (0.07, [0, 0.02, 0.04, 0.06, 0.08]),
        (1, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (1.01, [0, 0.5, 1, 1.5]),
        (4.2, [0, 1, 2, 3, 4, 5]),
        (99999.5, [0, 20000, 40000, 60000, 80000, 100000]),
        (123, [0, 50, 100, 150]),
    ],
)
def test_ticks_are_round(most: float, marks: list[float]) -> None:
    assert plot.ticks(most) == marks


def test_what_else_a_change_may_be(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Answers of other lengths are other work; and so may be what made a run's rows wide."""
    wide = [5.0, 10.0, 20.0, 10.0]
    files = []
    for label, totals, tokens in (("a", SLOW, 64), ("b", wide, 8)):
        files.append(str(tmp_path / label))
        Path(files[-1]).write_text(json.dumps(run_of(label, 2, totals) | {"max_tokens": tokens}))
    compare.run(files, None)
    said = capsys.readouterr().err
    assert "not the same work: tokens per answer (--max-tokens): a 64, b 8" in said
    assert re.search(r"^not narrow: b ±\d+ % at the most: ", said, re.MULTILINE)
    compare.run([files[0], files[0]], None)
    assert "not " not in capsys.readouterr().err


def test_history_holds_like_against_like(tmp_path: Path) -> None:
    """Shorter answers are no change of what came before."""
    runs: Any = [run_of(str(n), 2, SLOW) | {"max_tokens": n} for n in (64, 8, 64)]
    assert [bool(row[-1]) for row in compare._history(runs)[1:]] == [False, False, True]


def test_rows_are_shown_after_ctrl_c(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def rows(*_: object) -> Iterator[load.LoadRow]:
        sample = [load.Sample(first=0.1, seconds=1.0, tokens=4, speed=9.0)]
        yield load.merged([load.LoadRow(1, 64, 64, 1, 0.4, sample)])
        raise KeyboardInterrupt

    monkeypatch.setattr(bench, "_rows", rows)
    with pytest.raises(KeyboardInterrupt):
        bench._measured(*[None] * 3)  # type: ignore[arg-type]
    shown = capsys.readouterr()
    assert shown.out.splitlines()[1].startswith("64 words  1 ")
    assert "these rows are kept nowhere" in shown.err
