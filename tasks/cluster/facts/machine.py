"""What machine a node is: its system, its chip and how many cores it has."""

from __future__ import annotations

import re
from collections.abc import Mapping

from ..ssh import scripts
from . import Fact, Key


def parse(text: str, status: int) -> dict[str, str]:
    """Name -> text for "system" (`uname -srm`), "chip", "cores" and, on a Mac, "model"."""
    rows = dict(re.findall(r"^(system|chip|cores|model) (\S.*?)\s*$", text, re.MULTILINE))
    if status != 0 or "system" not in rows:
        raise ValueError("the machine can't be read")
    return rows


KEY = Key[Mapping[str, str]]("machine")
FACT = Fact(KEY, scripts.script("facts/machine.sh"), parse)
