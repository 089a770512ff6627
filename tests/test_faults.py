"""Every fault of the matrix (tests/faults.py), switched on for real at its stage."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, Done, Inv
from faults import ROWS, Row
from rig import Rig, two_nodes
from scene import Scene, gates

ALL = "MLX_TP_ALL_FAULTS"  # run every row, not each fault at one of its stages only
CHOSEN = [row for row in ROWS if row.ci or os.environ.get(ALL)]


@pytest.fixture
def scene(
    inv: Inv, home: Path, rigs: Callable[..., Rig], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Scene]:
    folder = tmp_path_factory.getbasetemp() / "gates"
    rig = rigs(2, two_nodes(), bridged=False, environment=gates(folder))
    scene = Scene(inv, rig, home, folder)
    yield scene
    scene.close()


def said(done: Done, row: Row, step: int) -> str:
    """What a command said of the fault, which must be as the row has it, and no traceback."""
    task, code, pattern = row.says[step]
    text = f"{done.out}{done.err}"
    assert done.code == code, f"{task}: exit {done.code}\n{text}"
    assert "Traceback (most recent call last)" not in done.err.replace("  Traceback", "")
    found = re.search(pattern, text)
    assert found, f"{task}: no {pattern!r} in\n{text}"
    return found.group(0)


@pytest.mark.parametrize("row", CHOSEN, ids=[row.name for row in CHOSEN])
def test_fault(scene: Scene, row: Row, record_property: Callable[[str, Any], None]) -> None:
    for name, value in (
        ("fault", f"{row.area}: {row.fault}"),
        ("stage", row.stage),
        ("after", row.after),
    ):
        record_property(name, value)
    held = scene.arrive(row.stage)
    row.on(scene)
    scene.release()
    for step, (task, code, _) in enumerate(row.says):
        done = scene.end(held) if held and step == 0 else scene.run(task)
        record_property("said", f"{task}\t{code}\t{said(done, row, step)}")
    row.check(scene)
    scene.heal()
    assert scene.run("tp.stop").code == 0
    assert [scene.left(host) for host in scene.rig.names] == [[], []]
    assert [scene.strangers(host) for host in scene.rig.names] == [1, 1]
    assert scene.run("tp.status").out == "stopped\n"


def test_every_fault_is_run_somewhere_in_ci() -> None:
    """Each fault is run at one of its stages at least, and no row is there twice."""
    kinds = {row.fault.partition(" (")[0] for row in ROWS}
    assert {row.fault.partition(" (")[0] for row in ROWS if row.ci} == kinds
    assert len({row.name for row in ROWS}) == len(ROWS)


def test_the_page_is_of_this_matrix() -> None:
    """docs/reliability.md is of a run of rows of this matrix; every one held."""
    page = (ROOT / "docs" / "reliability.md").read_text()
    shown = re.findall(r"^\| (node|rank|state): (.*?) \| (.*?) \| ", page, re.MULTILINE)
    assert shown
    assert set(shown) <= {(row.area, row.fault, row.stage) for row in ROWS}
    assert "does not hold" not in page
