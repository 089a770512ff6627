"""The walk at random over test hosts (tests/chaos), as a process of its own."""

import os
import subprocess
import sys

from ..cli import screen
from ..cluster.cluster import ROOT
from ..cluster.errors import ActionFailed, BadInput

TESTS = ROOT / "tests"


def run(steps: int, seed: int, bug: str | None = None) -> None:
    """Walk; ActionFailed if something is found, or if a seeded bug is not."""
    known = bugs()
    if bug not in (None, "all", *known):
        raise BadInput(f"--bug {bug}: choose from {', '.join(known)}, or all")
    if not sys.platform.startswith("linux") or os.getuid() != 0:
        raise BadInput("maintain.chaos needs Linux and root, for its test hosts")
    chosen = known if bug == "all" else [bug] if bug else []
    if failed := [each for each in chosen if _walk(steps, seed, "--bug", each)]:
        raise ActionFailed(f"maintain.chaos: not found within {steps} steps: {', '.join(failed)}")
    if not chosen and _walk(steps, seed):
        raise ActionFailed("maintain.chaos: not all holds, see above")


def bugs() -> list[str]:
    """The names of the bugs that can be seeded, as tests/chaos tells them."""
    told = subprocess.run(
        [sys.executable, "-m", "chaos.bugs"],
        env=_env(),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return told.stdout.split()


def _env() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": f"{TESTS}{os.pathsep}{ROOT}"}


def _walk(steps: int, seed: int, *more: str) -> int:
    screen.say(f"walking {steps} steps, seed {seed}{''.join(f' {word}' for word in more)}")
    line = [sys.executable, "-m", "chaos", "--steps", str(steps), "--seed", str(seed), *more]
    return subprocess.run(line, cwd=ROOT, env=_env(), check=False).returncode
