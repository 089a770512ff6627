"""inv version: for a bug report."""

from __future__ import annotations

import subprocess
from importlib.metadata import version
from pathlib import Path

import pytest
from conftest import ROOT, Inv

from tasks.commands import version as command


def test_version(inv: Inv) -> None:
    told = inv("version", "--json").json()
    assert f'version = "{told["version"]}"' in (ROOT / "pyproject.toml").read_text()
    assert told["libraries"]["fabric"] == version("fabric")
    first, second = inv("version").out.splitlines()
    assert first.startswith(f"mlx-tp-tasks {told['version']} (")
    assert f"paramiko {version('paramiko')}" in second
    # What runs is told by whoever asks, and which version asked.
    assert inv("tp.status", "--hosts", "localhost", "--json").json()["version"] == told["version"]


def test_the_commit_and_whether_files_differ(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert command.commit_of(tmp_path) is None
    for line in ("init -q", "config user.email a@b", "config user.name a", "add f", "commit -qm f"):
        (tmp_path / "f").touch()
        subprocess.run(["git", "-C", str(tmp_path), *line.split()], check=True)
    commit = command.commit_of(tmp_path)
    assert commit
    (tmp_path / "f").write_text("other")
    assert command.commit_of(tmp_path) == f"{commit}+changes"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert command.commit_of(tmp_path) is None
