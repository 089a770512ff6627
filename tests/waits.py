"""Ranks of tests that wait without keeping a core busy (waits.c), where there is a C compiler."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).with_suffix(".c")
LIBRARY = Path(sys.prefix, "lib", "waits.so")  # beside what hosts of tests see, too
NAME = "LD_PRELOAD"


def pytest_configure() -> None:
    """Whatever tests start from here on is so; workers have it from the first process."""
    if sys.platform == "linux" and NAME not in os.environ and _build():
        os.environ[NAME] = str(LIBRARY)


def environment() -> dict[str, str]:
    """What a session with a test host starts with, so that its ranks are such."""
    return {NAME: os.environ[NAME]} if NAME in os.environ else {}


def _build() -> bool:
    if LIBRARY.exists() and LIBRARY.stat().st_mtime >= SOURCE.stat().st_mtime:
        return True
    compiler = shutil.which("cc")
    if not compiler or not os.access(LIBRARY.parent, os.W_OK):
        return False
    new = LIBRARY.with_suffix(f".{os.getpid()}")
    line = [compiler, "-shared", "-fPIC", "-O2", "-o", str(new), str(SOURCE), "-ldl"]
    is_built = subprocess.run(line, capture_output=True, check=False).returncode == 0
    if is_built:
        new.replace(LIBRARY)
    return is_built
