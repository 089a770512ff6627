"""A short walk of tests/chaos, and the bugs that such walks must find: that they can be seeded."""

from __future__ import annotations

import ast
import importlib
import os
import shutil
import sys
from pathlib import Path

import pytest
from chaos import bugs, rules
from chaos.bugs import BUGS
from chaos.walk import walk
from conftest import Inv, require

SEED = 11
STEPS = 25


@pytest.mark.hosts
def test_a_short_walk(capsys: pytest.CaptureFixture[str]) -> None:
    """Always the same steps: `inv maintain.chaos --steps 25 --seed 11` does them again."""
    require(sys.platform.startswith("linux") and os.getuid() == 0, "needs root on Linux")
    for program in ("ip", "unshare", "nsenter", "rsync", "/usr/sbin/sshd"):
        require(shutil.which(program), f"needs {program}")
    print(f"seed {SEED}")
    assert walk(STEPS, SEED, print) == STEPS


@pytest.mark.parametrize("name", BUGS)
def test_bugs_can_be_seeded(name: str, tmp_path: Path) -> None:
    """Each patch is of code that is there; what it makes of python can be parsed."""
    shutil.copytree(bugs.ROOT / "tasks", tmp_path / "tasks")
    for patch in BUGS[name].patches:
        made = patch.apply(tmp_path)
        if made.suffix == ".py":
            ast.parse(made.read_text())


def test_a_patch_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "a.sh").write_text("one\none\n")
    for old in ("two", "one"):
        with pytest.raises(ValueError, match="not once"):
            bugs.Patch(old, "x").apply(tmp_path)


@pytest.mark.parametrize(
    ("last", "code"),
    [
        ("found, seed 3, step 41: ranks end in order: mac1: 137\n", 0),
        ("found, seed 3, step 41: no lock stays: of tp.stop\n", 4),
        ("500 steps, seed 3, 900 s: all holds\n", 4),
        ("", 4),
    ],
)
def test_what_counts_as_found(last: str, code: int) -> None:
    """Another invariant that breaks first does not say that this bug was found."""
    assert bugs.tell("kill-first", BUGS["kill-first"], last) == code


def test_every_bug_is_known_to_the_task(inv: Inv) -> None:
    assert importlib.import_module("tasks.maintain.chaos").bugs() == [*BUGS]
    said = inv("maintain.chaos", "--bug", "none", code=2).one_line()
    assert said == f"--bug none: choose from {', '.join(BUGS)}, or all"


def test_rules_have_names_of_their_own() -> None:
    names = [each.name for each in rules.RULES]
    assert len({*names}) == len(names) > 15
