"""Shell completion as Invoke offers it: each shell, for real, completes our tasks and options."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import DEADLINE, ROOT, require

# What each shell does when Tab is pressed after the words {0}, set up as docs/guide.md says.
SHELLS = {
    "bash": 'eval "$(inv --print-completion-script bash)"\nCOMP_WORDS=(inv {0})\n'
    "how=$(complete -p inv | sed 's/.*-F \\([^ ]*\\).*/\\1/')\n"
    '$how inv "${{COMP_WORDS[@]: -1}}" inv\n'
    'printf "%s\\n" "${{COMPREPLY[@]}}"',
    "zsh": "source <(inv --print-completion-script zsh)\nwords=(inv {0})\n"
    "_complete_invoke\nprint -l -- $reply",
    "fish": "inv --print-completion-script fish | source\n"
    'complete --command inv --wraps invoke\ncomplete -C "inv {0}"',
}


@pytest.mark.parametrize(
    ("shell", "words", "wanted"),
    [
        *((shell, "tp.sta", {"tp.start", "tp.status"}) for shell in SHELLS),
        ("bash", "tp.start --sk", {"--skip", "--skip-checks"}),
        ("zsh", "tp.start --", {"--hostfile", "--skip-checks", "--num-ranks"}),
    ],
)
def test_completion(shell: str, words: str, wanted: set[str], tmp_path: Path) -> None:
    require(shutil.which(shell), f"needs {shell}")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    options = {"bash": ["--norc"], "zsh": ["-f"], "fish": ["--no-config"]}[shell]
    done = subprocess.run(
        [shell, *options, "-c", SHELLS[shell].format(words)],
        cwd=ROOT,
        env={**os.environ, "PATH": path, "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert wanted <= {line.split("\t")[0].strip() for line in done.stdout.splitlines()}, done.stderr
