"""What machine a node is: its system, its chip and how many cores it has."""

from __future__ import annotations

import re
from collections.abc import Mapping

from . import Fact, Key


def parse(text: str, status: int) -> dict[str, str]:
    """Name -> text for "system" (`uname -srm`), "chip", "cores" and, on a Mac, "model"."""
    rows = dict(re.findall(r"^(system|chip|cores|model) (\S.*?)\s*$", text, re.MULTILINE))
    if status != 0 or "system" not in rows:
        raise ValueError("the machine can't be read")
    return rows


KEY = Key[Mapping[str, str]]("machine")
FACT = Fact(
    KEY,
    'echo "system $(uname -srm)"\n'
    "if [ -r /proc/cpuinfo ]; then\n"
    "  sed -n 's/^model name[^:]*: */chip /p' /proc/cpuinfo | head -n 1\n"
    "  echo \"cores $(grep -c '^processor' /proc/cpuinfo)\"\n"
    "else\n"
    '  echo "chip $(sysctl -n machdep.cpu.brand_string)"\n'
    '  echo "cores $(sysctl -n hw.ncpu)"; echo "model $(sysctl -n hw.model)"\n'
    "fi",
    parse,
)
