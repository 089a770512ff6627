"""The versions that must be the same on all nodes."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from .. import shell
from . import Fact, Key

_NAMES = ("python", "mlx", "mlx-lm")

# Names of folders only: importing mlx takes a second and would touch the GPU, importlib.metadata
# takes several times what Python itself does. The first on its path wins, as it does there.
_ASK = """
import os, sys
def there(folder):
    try: return os.listdir(folder or ".")
    except OSError: return []
names = [name for folder in sys.path for name in there(folder)]
def of(name):
    for each in names:
        head, _, rest = each.partition("-")
        if head.lower().replace(".", "_") == name and each.endswith((".dist-info", ".egg-info")):
            return rest[:-10].partition("-")[0]
    return "checkout" if name in names or name + ".py" in names else ""
found = {"python": sys.version.split()[0]}
found |= {name: of(name.replace("-", "_")) for name in ("mlx", "mlx-lm", "vllm-mlx")}
print("{%s}" % ", ".join('"%s": "%s"' % pair for pair in found.items()))
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


KEY = Key[Mapping[str, str]]("versions")


def fact(python: str, cwd: str | None) -> Fact[Mapping[str, str]]:
    """Asks the node's `python`, started in `cwd` as its rank is."""
    cd = f"cd {shell.path(cwd)} || exit\n" if cwd else ""
    system = "if command -v sw_vers >/dev/null; then sw_vers -buildVersion; else uname -r; fi"
    return Fact(KEY, f"{system}\n{cd}{shell.path(python)} -c {shell.quote(_ASK)} || exit 1", parse)
