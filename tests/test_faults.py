"""Every fault of the matrix (tests/faults.py), switched on for real at its stage."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import DEADLINE, ROOT, Done, Inv, Sshd, wait_for
from faults import ROWS, Row
from rig import Rig, two_nodes
from scene import Scene, gates

from tasks.cluster.config.hostfile import Host
from tasks.cluster.ssh import background, node, nodes

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
    row.before(scene)
    held = scene.arrive(row.stage)
    row.on(scene)
    scene.release()
    for step, (task, code, _) in enumerate(row.says):
        done = scene.end(held) if held and step == 0 else scene.run(task)
        record_property("said", f"{task}\t{code}\t{said(done, row, step)}")
    row.check(scene)
    scene.heal()
    end = scene.run("tp.stop tp.status")
    assert end.code == 0
    assert end.out.splitlines()[-1].startswith("stopped")
    assert [scene.left(host) for host in scene.rig.names] == [[], []]
    assert [scene.strangers(host) for host in scene.rig.names] == [1, 1]


@pytest.fixture
def silent(remote: Inv, sshd: Sshd) -> Iterator[socket.socket]:
    """In the place of mac2's sshd somebody who takes connections and says nothing."""
    sshd.stop("mac2")
    with socket.create_server(("127.0.0.1", sshd.ports["mac2"])) as server:
        yield server


def test_a_silent_node_delays_no_other(
    silent: socket.socket, sshd: Sshd, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All the others have answered while it is still waited for."""
    monkeypatch.setattr(node, "CONNECT_TIMEOUT", DEADLINE)
    connections = nodes.Connections()
    both = connections.of([Host(ssh=name) for name in sshd.names], str(sshd.folder / "config"))
    asked = background.begin(nodes.sh, both, f"echo here >{home}/answer; cat {home}/answer")
    try:
        with silent.accept()[0]:
            wait_for((home / "answer").exists)
            assert not asked.done()
        answers = asked.result(DEADLINE)
    finally:
        connections.close()
    assert answers["mac1"].out == "here\n"
    assert answers["mac2"].failure


def test_a_silent_node_is_waited_for_once(
    silent: socket.socket, remote: Inv, record_property: Callable[[str, Any], None]
) -> None:
    """However many steps a task has: it costs its timeout once, and not once per step."""
    done = remote("tp.stop", code=5)
    assert re.search(r"^nothing ran +mac1", done.out, re.MULTILINE)
    assert re.search(r"^not reached +mac2", done.out, re.MULTILINE)
    silent.setblocking(False)
    with silent.accept()[0], pytest.raises(BlockingIOError):
        silent.accept()
    for name, value in {
        "fault": "time: a node says nothing",
        "stage": "every step of tp.stop",
        "said": f"tp.stop\t5\t{done.out.splitlines()[-1]}",
        "after": "it was waited for once",
    }.items():
        record_property(name, value)


def test_every_fault_is_run_somewhere_in_ci() -> None:
    """Each fault is run at one of its stages at least, and no row is there twice."""
    kinds = {row.fault.partition(" (")[0] for row in ROWS}
    assert {row.fault.partition(" (")[0] for row in ROWS if row.ci} == kinds
    assert len({row.name for row in ROWS}) == len(ROWS)


def test_the_page_is_of_this_matrix() -> None:
    """docs/reliability.md is of a run of rows of this matrix; every one held."""
    page = (ROOT / "docs" / "reliability.md").read_text()
    shown = re.findall(r"^\| (node|rank|state|link): (.*?) \| (.*?) \| ", page, re.MULTILINE)
    assert sorted(shown) == sorted((row.area, row.fault, row.stage) for row in ROWS)
    assert "does not hold" not in page
