"""What .github/workflows/ runs: its scripts for a Mac, here on hosts that are like one."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import ROOT, Inv
from rig import Rig

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
MAC = ROOT / ".ci" / "mac"


def test_schema() -> None:
    line = ["check-jsonschema", "--builtin-schema", "vendor.github-workflows", *map(str, WORKFLOWS)]
    line[0] = str(Path(sys.executable).with_name(line[0]))
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert len(WORKFLOWS) >= 2


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_what_it_names_is_there(path: Path) -> None:
    text = path.read_text()
    assert "ot run" in text[: text.index("name:")] or "not been run" in text[: text.index("name:")]
    for name in re.findall(r"[ \n](\.ci/[\w/.]+|tests/\w+)", text):
        assert (ROOT / name).exists() or name == ".ci/kept", name
    from tasks import ns

    assert set(re.findall(r"\binv (\w[\w.]*)", text)) <= {*ns.task_names, *ns.collections}
    # A branch of an action may change under us.
    assert all(re.fullmatch(r"[\w-]+/[\w-]+@v\d+", use) for use in re.findall(r"uses: (\S+)", text))


def test_bridge(macs: Callable[..., Rig]) -> None:
    rig = macs()
    rig.run("mac1", "sudo -n ifconfig bridge0 deletem en5")
    done = rig.run("mac1", f"{MAC}/bridge.sh en5", check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "deletemember: bad value" in done.stdout


def test_launchd(macs: Callable[..., Rig]) -> None:
    rig = macs()
    done = rig.run("mac1", f"{MAC}/launchd.sh", check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert rig.run("mac1", "ls /Library/LaunchDaemons").stdout == ""


def test_plist_is_that_of_persist(macs: Callable[..., Rig]) -> None:
    text = subprocess.run(
        [sys.executable, MAC / "plist.py"], capture_output=True, check=True
    ).stdout
    rig = macs()
    file = rig.base / "mac1" / "ours.plist"
    file.write_bytes(text)
    rig.run("mac1", f"plutil -lint {file}")


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Path]:
    """The folder of an sshd of its own; the sshd ends with the test."""
    folder = tmp_path / "sshd"
    subprocess.run([MAC / "sshd.sh", folder], check=True)
    yield folder
    os.kill(int((folder / "sshd.pid").read_text()), signal.SIGTERM)


def test_sshd(own: Path, inv: Inv, tmp_path: Path) -> None:
    inv.env["INVOKE_TP_SSH_CONFIG"] = str(own / "ssh_config")
    sample = str(tmp_path / "sample")
    done = inv("hosts.selftest", "--hosts", "own", "--save", sample, "--json")
    found = {row["what"]: row["found"] for row in json.loads(done.out)["rows"]}
    assert found["sshd: AcceptEnv"] == "passed: LC_*"
