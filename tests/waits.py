"""Ranks of tests that wait without keeping a core busy (waits.c), where there is a C compiler.

And that import transformers in half the time (quick/sitecustomize.py).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import uuid
from functools import cache
from pathlib import Path

SOURCE = Path(__file__).with_suffix(".c")
QUICK = SOURCE.with_name("quick")
LIBRARY = Path(sys.prefix, "lib", "waits.so")  # beside what hosts of tests see, too


@cache
def environment() -> dict[str, str]:
    """What makes a rank wait so."""
    is_there = sys.platform == "linux" and (_is_current() or _build())
    return {"LD_PRELOAD": str(LIBRARY)} if is_there else {}


def envs() -> list[str]:
    """The same as a hostfile has it, and what a rank's Python takes in when it begins."""
    own = {**environment(), "PYTHONPATH": str(QUICK)}
    return [f"{name}={value}" for name, value in own.items()]


def _is_current() -> bool:
    return LIBRARY.exists() and LIBRARY.stat().st_mtime >= SOURCE.stat().st_mtime


def _build() -> bool:
    compiler = shutil.which("cc")
    if not compiler or not os.access(LIBRARY.parent, os.W_OK):
        return False
    # Not by a pid: runs in namespaces of their own, beside each other, have the same ones.
    new = LIBRARY.with_suffix(f".{uuid.uuid4().hex}")
    line = [compiler, "-shared", "-fPIC", "-O2", "-o", str(new), str(SOURCE), "-ldl"]
    is_built = subprocess.run(line, capture_output=True, check=False).returncode == 0
    if is_built:
        new.replace(LIBRARY)
    return is_built
