"""The versions that must be the same on all nodes."""

from __future__ import annotations

import json
import re

from .. import shell
from . import Fact

_NAMES = ("python", "mlx", "mlx-lm")

# Metadata only: importing mlx takes a second and would touch the GPU.
_ASK = """
import json, platform, sys
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
def of(name):
    try: return version(name)
    except PackageNotFoundError: return find_spec(name.replace("-", "_")) and "checkout"
found = {name: of(name) for name in ("mlx", "mlx-lm", "vllm-mlx")}
print(json.dumps({"python": platform.python_version(), **found}))
"""


def parse(text: str, status: int) -> dict[str, str]:
    """Name -> version for python, mlx, mlx-lm and os; what is not installed is "missing".

    vllm-mlx is among them only where it is there; "checkout" is one that is not installed.
    """
    lines = text.strip().splitlines()
    if status != 0 or len(lines) < 2:
        raise ValueError("python can't be asked")
    try:
        versions = json.loads(lines[-1])
        said = {name: versions[name] or "missing" for name in _NAMES}
        said |= {name: versions[name] for name in ("vllm-mlx",) if versions.get(name)}
    except (ValueError, TypeError, KeyError, RecursionError):
        raise ValueError("python gave no versions") from None
    said["os"] = lines[0].strip()
    if not all(isinstance(each, str) and re.fullmatch(r"\S+", each) for each in said.values()):
        raise ValueError("python gave no versions")
    return said


def fact(python: str, cwd: str | None) -> Fact:
    """Asks the node's `python`, started in `cwd` as its rank is."""
    cd = f"cd {shell.path(cwd)} || exit\n" if cwd else ""
    system = "if command -v sw_vers >/dev/null; then sw_vers -buildVersion; else uname -r; fi"
    return Fact(
        "versions", f"{system}\n{cd}{shell.path(python)} -c {shell.quote(_ASK)} || exit 1", parse
    )
