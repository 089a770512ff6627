"""Names of version 0.1: each still gives what it gave, and tells the new one."""

from __future__ import annotations

import subprocess
import sys
from functools import reduce
from importlib import import_module
from pathlib import Path

import pytest

from tasks.moved import MOVED, RENAMED

ROOT = Path(__file__).parents[2]
# What docs/python-api.md named before the moves.
NAMED = [
    "tasks.cluster.hostfile.load",
    "tasks.cluster.ranks.Rank",
    "tasks.cluster.engine.Engine",
    "tasks.cluster.nodes.sh",
    "tasks.cluster.nodes.Connections",
    "tasks.cluster.nodes.close",
    "tasks.cluster.snapshot.Snapshot.on",
    "tasks.cluster.reading.read",
    "tasks.cluster.reading.preflight",
    "tasks.cluster.reading.running",
    "tasks.cluster.lock.held",
    "tasks.cluster.launch.Run.new",
    "tasks.cluster.launch.launch",
    "tasks.cluster.wait.until_ready",
    "tasks.cluster.stop.stop",
    "tasks.cluster.stop.forget",
    "tasks.cluster.api.Api.stream",
    "tasks.cluster.facts.memory.KEY",
    "tasks.options.cluster_task",
    "tasks.options.WHERE",
    "tasks.options.WHAT",
    "tasks.options.build",
    "tasks.steps.recorded",
    "tasks.screen.say",
    "tasks.screen.out",
    "tasks.screen.table",
]
# Nothing of this has a new name in it.
BEFORE = """
import warnings
with warnings.catch_warnings(record=True) as told:
    warnings.simplefilter("always")
    from tasks.cluster import checks, cluster, launch, lock, reading, stop, wait
    from tasks.cluster.api import Api
    from tasks.cluster.facts.memory import GIB, KEY
    import tasks.cluster.hostfile
    from tasks import ns, screen, steps, tp
    from tasks.executor import Executor, run, server_arguments
    from tasks.options import WHAT, WHERE, build, cluster_task
from tasks.cluster.server.stop import stop as now
assert stop.stop is now
assert tasks.cluster.hostfile.load
assert {each.category for each in told} == {DeprecationWarning}
assert {each.filename for each in told} == {"<string>"}, [each.filename for each in told]
print(*(str(each.message) for each in told), sep="\\n")
"""


@pytest.mark.parametrize("old", MOVED)
def test_a_moved_module(old: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, old, raising=False)
    with pytest.warns(DeprecationWarning, match=f"^{old}: use {MOVED[old]}$"):
        found = import_module(old)
    assert found is sys.modules[MOVED[old]]


@pytest.mark.parametrize("name", NAMED)
def test_a_name_of_the_page_before(name: str) -> None:
    module = max((old for old in MOVED if name.startswith(f"{old}.")), key=len)
    assert reduce(getattr, name.removeprefix(f"{module}.").split("."), import_module(module))


@pytest.mark.parametrize("old", RENAMED)
def test_a_renamed_name(old: str) -> None:
    module, _, name = old.rpartition(".")
    with pytest.warns(DeprecationWarning, match=f"^{old}: use {RENAMED[old]}$"):
        found = getattr(import_module(module), name)
    assert found is getattr(import_module(module), RENAMED[old])


def test_a_module_whose_name_is_a_folders_now() -> None:
    from tasks.cluster.facts import machine
    from tasks.cluster.facts.machine import hardware

    with pytest.warns(DeprecationWarning, match=r"facts\.machine\.KEY: use hardware\.KEY"):
        assert machine.KEY is hardware.KEY  # type: ignore[attr-defined]
    with pytest.raises(ImportError):
        from tasks.cluster.facts.machine import nothing  # type: ignore[attr-defined]  # noqa: F401


def test_a_file_written_for_the_version_before() -> None:
    line = [sys.executable, "-c", BEFORE]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "tasks.cluster.reading: use tasks.cluster.server.snapshots" in done.stdout
    assert len(done.stdout.splitlines()) == 13
