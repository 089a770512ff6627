"""The versions that must be the same on all nodes."""

import json
import re
from collections.abc import Mapping

from ...ssh import scripts
from .. import Fact, Key

_NAMES = ("python", "mlx", "mlx-lm")


def parse(text: str, status: int) -> dict[str, str]:
    """Name -> version for python, mlx, mlx-lm and os; what is not installed is "missing".

    vllm-mlx is among them only where it is there; "checkout" is one that is not installed.
    "backend" says whether this MLX has the one that was asked for, yes or no.
    """
    lines = text.strip().splitlines()
    if status != 0 or len(lines) < 2:
        raise ValueError("python can't be asked")
    try:
        versions = json.loads(lines[-1])
        said = {name: versions[name] or "missing" for name in _NAMES}
        said |= {name: versions[name] for name in ("vllm-mlx", "backend") if versions.get(name)}
    except (ValueError, TypeError, KeyError, RecursionError):
        raise ValueError("python gave no versions") from None
    said["os"] = lines[0].strip()
    if not all(isinstance(each, str) and re.fullmatch(r"\S+", each) for each in said.values()):
        raise ValueError("python gave no versions")
    return said


KEY = Key[Mapping[str, str]]("versions")


def fact(python: str, cwd: str | None, backend: str = "") -> Fact[Mapping[str, str]]:
    """Asks the node's `python`, started in `cwd` as its rank is; of a `backend` too, if any."""
    ask = scripts.text("facts/versions.py")
    text = scripts.script(
        "facts/versions.sh", python=python, cwd=cwd or "", ask=ask, backend=backend
    )
    return Fact(KEY, text, parse)
