"""The tiers of tests, as marks: `pytest -m unit`, local, hosts, long; each test is of one.

By where it lies and what it asks for: what is below tests/unit needs nothing but this Python, a
test that asks for an sshd or for test hosts is of `hosts`, and all else starts servers here.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
UNIT = ROOT / "tests" / "unit"
# Fixtures that need root: sshd, network namespaces, other users.
ROOTS = {"sshd", "rigs", "server", "attempt", "sticky", "everyones"}
NAMES = ("unit", "local", "hosts", "long")
LEFT_OUT = pytest.StashKey[int]()


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """By `-m unit` nothing else is imported, in no worker: that took longer than the tests."""
    is_other = collection_path.parent == UNIT.parent and collection_path != UNIT
    return True if is_other and config.option.markexpr == "unit" else None


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Tests wait for other processes more than half of the time; those of `unit` a third of it."""
    return (os.cpu_count() or 2) + 1 if config.option.markexpr == "unit" else 7


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes(config: pytest.Config) -> None:
    """In a new checkout what all workers and ranks import is compiled once, and not by each."""
    is_all = config.args_source is pytest.Config.ArgsSource.TESTPATHS
    if not is_all or sys.dont_write_bytecode or [*UNIT.glob("__pycache__/test_*.pyc")]:
        return
    mark, nowhere = config.option.markexpr, subprocess.DEVNULL
    lines = [["-m", "pytest", "-n0", "--collect-only", "-qq", "-m", mark]]
    lines += [["-c", "import mlx_lm.server"]] if mark != "unit" else []
    for each in [
        subprocess.Popen([sys.executable, *words], stdout=nowhere, stderr=nowhere, cwd=ROOT)
        for words in lines
    ]:
        each.wait()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: Sequence[pytest.Item]) -> None:
    """Before pytest picks by `-m`."""
    for item in items:
        if not any(item.get_closest_marker(name) for name in NAMES):
            item.add_marker(tier(item))


def tier(item: pytest.Item) -> str:
    if UNIT in item.path.parents:
        return "unit"
    return "hosts" if ROOTS & set(getattr(item, "fixturenames", ())) else "local"


def pytest_deselected(items: Sequence[pytest.Item]) -> None:
    if items:
        stash = items[0].config.stash
        long = [item for item in items if item.get_closest_marker("long")]
        stash[LEFT_OUT] = stash.get(LEFT_OUT, 0) + len(long)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> Iterator[None]:
    """The last lines: what was left out here, and the command that brings it."""
    yield  # pytest's own list of what was skipped comes before
    skipped = len(terminalreporter.stats.get("skipped", ()))
    if skipped:
        terminalreporter.write_line(f"{skipped} tests could not run here: bash .ci/run runs all")
    long = terminalreporter.config.stash.get(LEFT_OUT, 0)
    if long:
        terminalreporter.write_line(f"{long} tests of minutes were left out: inv maintain.long")
