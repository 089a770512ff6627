"""The Tab key: each shell, for real, in a terminal of its own, after `inv completion`."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from conftest import Inv, require, wait_for
from terminals import Terminal
from terminals import terminal as terminal

SHELLS = {"bash": "bash -i", "zsh": "zsh -i", "fish": "fish -i"}


@pytest.mark.parametrize("shell", SHELLS)
def test_tab(terminal: Terminal, inv: Inv, home: Path, shell: str) -> None:
    """What `inv completion` has installed completes in a shell that is started anew."""
    require(shutil.which(shell), f"needs {shell}")
    inv.env["SHELL"] = f"/bin/{shell}"
    inv("completion")
    terminal.open(SHELLS[shell], 120, {"HOME": str(home)})
    terminal.tmux("send-keys", "echo begun | tr b B", "Enter")
    wait_for(lambda: "Begun" in terminal.rows())
    terminal.tmux("send-keys", "-l", "inv tp.rest")
    terminal.tmux("send-keys", "Tab")
    wait_for(lambda: any("inv tp.restart" in row for row in terminal.rows()))


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
    # As the nodes' own order of caches has it (remote/hub.sh).
    (home / "hf/models--org--name").mkdir(parents=True)
    (home / "models" / "K").mkdir(parents=True)
    (home / ".invoke.yaml").write_text("tp: {clusters: {small: {}}}")
    inv.env |= {"INVOKE_TP_HOSTFILE": "hosts/hwstudio.json", "HUGGINGFACE_HUB_CACHE": "~/hf"}
    found = inv("--complete", "--", "inv", *words).out.split()
    assert CASES[words] <= set(found)
    assert ("tp.stop" in found) == ("tp.stop" in CASES[words])


def test_it_is_installed_once(inv: Inv, home: Path) -> None:
    (home / ".zshrc").write_text("export A=1")
    for _ in range(2):
        inv("completion", "--shell", "zsh")
    lines = (home / ".zshrc").read_text().splitlines()
    assert lines == ["export A=1", "source ~/.config/mlx-tp/completion.zsh"]
    for shell, why in (("/bin/tcsh", "is tcsh, which nothing is made for"), ("", "is not set")):
        inv.env["SHELL"] = shell
        said = inv("completion", code=2).one_line()
        assert f"$SHELL {why}: inv completion --shell bash, zsh or fish" in said
