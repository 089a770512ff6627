"""The Tab key: each shell, for real, in a terminal of its own, after `inv completion`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import DEADLINE, ROOT, Inv, require, wait_for

SHELLS = {"bash": "bash -i", "zsh": "zsh -i", "fish": "fish -i"}


@pytest.fixture
def terminal(home: Path) -> Iterator[Callable[..., None]]:
    """`terminal(shell, keys, wanted)`: press them and Tab in a shell, until it shows `wanted`."""
    require(shutil.which("tmux"), "needs tmux")
    name = f"tab-{uuid.uuid4().hex[:8]}"
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    env = {**os.environ, "PATH": path, "HOME": str(home), "TERM": "xterm", "PS1": "READY "}

    def tmux(*words: str) -> str:
        line = ["tmux", "-L", name, *words]
        done = subprocess.run(
            line, cwd=ROOT, env=env, capture_output=True, text=True, timeout=DEADLINE, check=False
        )
        return done.stdout

    def shows(shell: str, keys: str, wanted: str) -> None:
        tmux("-f", "/dev/null", "new-session", "-d", "-x", "120", "-y", "40", SHELLS[shell])
        tmux("send-keys", "echo begun | tr b B", "Enter")
        wait_for(lambda: "Begun" in tmux("capture-pane", "-p"))
        tmux("send-keys", "-l", keys)
        tmux("send-keys", "Tab")
        wait_for(lambda: wanted in tmux("capture-pane", "-p"))

    yield shows
    tmux("kill-server")


@pytest.mark.parametrize("shell", SHELLS)
def test_tab(terminal: Callable[..., None], inv: Inv, home: Path, shell: str) -> None:
    """What `inv completion` has installed completes in a shell that is started anew."""
    require(shutil.which(shell), f"needs {shell}")
    inv.env["SHELL"] = f"/bin/{shell}"
    inv("completion")
    terminal(shell, "inv tp.rest", "inv tp.restart")


CASES = {
    ("tp.sta",): {"tp.start", "tp.status", "tp.stop"},
    ("tp.start", "--sk"): {"--skip", "--skip-checks"},
    ("tp.start", "--backend", ""): {"jaccl", "jaccl-ring", "ring", "any"},
    ("tp.start", "--backend", "ring", ""): {"tp.stop"},
    ("tp.stop", "--order"): {"leader", "all"},
    ("tp.start", "--hosts", ""): {"hwstudio1", "hwstudio2"},
    ("tp.start", "--hosts", "hwstudio1,"): {"hwstudio1,hwstudio2"},
    ("tp.start", "--hostfile", "hosts/local.json", "--hosts", ""): {"127.0.0.1"},
    ("tp.logs", "--rank", ""): {"0", "1"},
    ("tp.start", "--skip", "memory,"): {"memory,ports"},
    ("tp.start", "--engine", ""): {"mlx-lm", "vllm-mlx"},
    ("tp.start", "--cluster", ""): {"small"},
    ("tp.start", "--", "--model", ""): {"org/name", "~/models/K"},
}


@pytest.mark.parametrize("words", CASES, ids=" ".join)
def test_candidates(inv: Inv, home: Path, words: tuple[str, ...]) -> None:
    (home / ".cache/huggingface/hub/models--org--name").mkdir(parents=True)
    (home / "models" / "K").mkdir(parents=True)
    (home / ".invoke.yaml").write_text("tp: {clusters: {small: {}}}")
    inv.env["INVOKE_TP_HOSTFILE"] = "hosts/hwstudio.json"
    found = inv("--complete", "--", "inv", *words).out.split()
    assert CASES[words] <= set(found)
    assert ("tp.stop" in found) == ("tp.stop" in CASES[words])


def test_it_is_installed_once(inv: Inv, home: Path) -> None:
    (home / ".zshrc").write_text("export A=1")
    for _ in range(2):
        inv("completion", "--shell", "zsh")
    lines = (home / ".zshrc").read_text().splitlines()
    assert lines == ["export A=1", "source ~/.config/mlx-tp/completion.zsh"]
    inv.env["SHELL"] = "/bin/tcsh"
    assert "--shell tcsh: choose one of bash, zsh, fish" in inv("completion", code=2).one_line()
