"""The real vllm-mlx: its own launcher and server over a ring, by the tasks that its users type.

Its code comes from a git repository (MLX_TP_VLLM_MLX: another place of it than GitHub), what it
imports for text from PyPI.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import LOCAL, Inv, clean_up, hostfile, wait_for

pytestmark = pytest.mark.long
REPOSITORY = os.environ.get("MLX_TP_VLLM_MLX", "https://github.com/0xDaizz/vllm-mlx")
COMMIT = "e01f24f86a4fe9495b0536f153098d0799eed811"  # of its branch develop: it has the launcher
PACKAGES = [
    "mlx[cpu]==0.30.6", "mlx-lm==0.30.7", "fastapi", "uvicorn", "mcp", "psutil", "tabulate",
    "pillow", "jsonschema", "pyyaml", "requests",
]  # fmt: skip


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python that has it, and nothing that its text server does not import."""
    folder = tmp_path_factory.mktemp("vllm-mlx")
    source, venv = folder / "source", folder / "venv"
    uv = shutil.which("uv") or str(Path(sys.executable).with_name("uv"))
    for line in (
        ["git", "clone", "-q", REPOSITORY, str(source)],
        ["git", "-C", str(source), "checkout", "-q", COMMIT],
        [uv, "venv", "-q", "-p", sys.executable, str(venv)],
        [uv, "pip", "install", "-q", "-p", str(venv), *PACKAGES],
        [uv, "pip", "install", "-q", "-p", str(venv), "--no-deps", str(source)],
    ):
        subprocess.run(line, check=True)
    return venv / "bin" / "python"


@pytest.fixture
def real(inv: Inv, home: Path, tiny: Path, python: Path) -> Iterator[Inv]:
    model = home / "M"
    shutil.copytree(tiny, model)
    more: dict[str, Any] = {"engine": "vllm-mlx", "python": str(python)}
    path = hostfile(home / "hosts.json", LOCAL, model, inv.port, **more)
    real = replace(inv, env={"INVOKE_TP_HOSTFILE": str(path)})
    yield real
    clean_up(real)


def status(inv: Inv) -> Any:
    return json.loads(inv.run("tp.status", "--json").out)


def test_life(real: Inv) -> None:
    started = real("tp.start")
    assert "healthy: a token" in started.err
    found = status(real)
    assert (found["state"], len(found["ranks"])) == ("ready", 2)
    assert real("tp.chat", "Hi", "--max-tokens", "8").out.strip()
    real("tp.restart")
    real("tp.health")
    stopped = real("tp.stop")
    assert "killed" not in stopped.out
    assert status(real)["state"] == "stopped"


@pytest.mark.parametrize("number", [0, 1])
def test_a_rank_that_dies(real: Inv, number: int) -> None:
    real("tp.start")
    os.kill(status(real)["ranks"][number]["pid"], signal.SIGKILL)
    wait_for(lambda: status(real)["state"] in ("degraded", "dead"))
    real("tp.stop")
    assert status(real)["state"] == "stopped"


def test_one_rank(real: Inv) -> None:
    assert "healthy: a token" in real("tp.start", "-n", "1").err
    assert len(status(real)["ranks"]) == 1
    real("tp.stop")


def test_versions_that_it_can_not_run_with(real: Inv) -> None:
    """A Python whose mlx-lm is too new is refused before anything starts."""
    refused = real("tp.start", "--python", sys.executable, code=3)
    assert "versions" in refused.err
    assert status(real)["state"] == "stopped"
