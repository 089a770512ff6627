"""inv version."""

import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

from ..cli import envelope, screen
from ..cluster.version import VERSION

LIBRARIES = ("invoke", "fabric", "paramiko", "requests", "urllib3", "rich")


def run(as_json: bool) -> None:
    """Print it in two lines; with `as_json` as a document."""
    commit = commit_of(Path(__file__).parents[2])
    found = {"python": platform.python_version(), **{name: version(name) for name in LIBRARIES}}
    if as_json:
        envelope.give({"version": VERSION, "commit": commit, "libraries": found})
        return
    screen.out(f"mlx-tp-tasks {VERSION} ({commit or 'no commit is known here'})")
    screen.fields([*(f"{name} {number}" for name, number in found.items()), platform.system()])


def commit_of(checkout: Path) -> str | None:
    """The checkout's commit, with "+changes" where files differ; None where git knows none."""
    line = ["git", "-C", str(checkout), "describe", "--always", "--dirty=+changes"]
    try:
        done = subprocess.run(line, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None
