"""inv hosts.selftest, on this machine and on test hosts that are like Macs, and its samples."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Inv
from rig import Rig

from tasks.cluster.hosts import sample, selftest
from tasks.cluster.hosts.judge import DIFFERS, NOT_HERE, OK
from tasks.cluster.version import VERSION, WRITER

# Where a strict test host is no Mac: its mlx is Linux's, which has no jaccl.
KINDER = {"mlx: backends"}


def rows(document: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(document)["rows"]
    return found


def parse_all(folder: Path, missing: frozenset[str] = frozenset()) -> dict[str, Any]:
    """Run all parsers over a host of a sample, but for those `missing`, which may raise."""
    wanted = selftest.wanted("python3", None, "~/.mlx-tp")
    said = {name: raw for name, raw in sample.read(folder).items() if name not in missing}
    return {name: wanted[name].parse(raw.text, raw.status) for name, raw in said.items()}


# What somebody has saved: DIR of `hosts.selftest --save DIR` as it came.
SAVED = Path(__file__).parent / "data" / "saved"


@pytest.mark.parametrize("folder", sorted(SAVED.glob("*/host*")), ids=lambda each: each.name)
def test_saved(folder: Path) -> None:
    """Every parser takes it, but for what a command did not give."""
    said = sample.read(folder)
    failed = frozenset(name for name, raw in said.items() if raw.status)
    assert parse_all(folder, failed).keys() == said.keys() - failed
    assert {"memory", "ports", "processes", "interfaces", "routes", "versions"} <= said.keys()


def test_two_macs(macs: Callable[..., Rig], inv: Inv, tmp_path: Path) -> None:
    rig = macs()
    folder = tmp_path / "sample"
    words = ("--hosts", "mac1,mac2", "--python", sys.executable, "--json", "--save", str(folder))
    done = inv.run("hosts.selftest", *words)
    found = rows(done.out)
    assert {row["host"] for row in found} == {"mac1", "mac2"}
    differ = {row["what"]: row["found"] for row in found if row["state"] == DIFFERS}
    assert differ.keys() <= KINDER, differ
    assert done.code == (3 if differ else 0)
    assert {row["what"] for row in found if row["state"] == NOT_HERE} <= {"config"}
    for number, name in enumerate(rig.names, 1):
        values = parse_all(folder / f"host{number}")
        assert values["ibv_devices"]
        assert values["thunderbolt"]
        whole = "".join(path.read_text() for path in (folder / f"host{number}").iterdir())
        for private in (rig.address(name), name, f"/Users/{name}"):
            assert private not in whole
    for name in rig.names:
        assert {*map(tuple, rig.calls(name, "sudo"))} == {("sudo", "-n", "-l")}
        changing = {"deletem", "addm", "alias", "enable", "bootstrap", "bootout", "-w"}
        assert not [
            call
            for call in rig.calls(name)
            if changing & set(call) and call[0] not in ("nc", "iostat")
        ]


def test_this_machine(inv: Inv, tmp_path: Path) -> None:
    folder = tmp_path / "sample"
    done = inv("hosts.selftest", "--hosts", "localhost", "--json", "--save", str(folder))
    states = {row["what"]: row["state"] for row in rows(done.out)}
    assert set(states.values()) == {OK, NOT_HERE}
    assert states["processes"] == states["mlx: backends"] == OK
    missing = frozenset(what for what, state in states.items() if state == NOT_HERE)
    values = parse_all(folder / "host1", missing)
    assert values["processes"]
    assert (folder / "version.txt").read_text() == f"{WRITER}\n"
    assert done.json()["version"] == VERSION
    again = inv("hosts.selftest", "--hosts", "localhost", "--save", str(folder), code=2)
    assert again.err.strip().endswith("is not empty: give a new folder")


def test_unreachable(inv: Inv) -> None:
    done = inv("hosts.selftest", "--hosts", "localhost,192.0.2.1", "--json", code=5)
    assert "192.0.2.1" in json.loads(done.out)["error"]
    assert {row["host"] for row in rows(done.out)} == {"localhost"}
