"""How long the ranks' logs on a node are, and whose: enough to tell whether all is taken."""

from __future__ import annotations

import re
from collections.abc import Mapping

from ..ssh import scripts
from . import Fact, Key


def parse(text: str, status: int) -> dict[int, tuple[int, str]]:
    """Rank -> (bytes, first line) of each log that is there, from rows "log RANK BYTES LINE"."""
    if status != 0 or not re.search(r"^end\s*$", text, re.MULTILINE):
        raise ValueError("the logs can't be read")
    rows = re.findall(r"^log (\d+) +(\d+) (.*)$", text, re.MULTILINE)
    return {int(rank): (int(size), line) for rank, size, line in rows}


KEY = Key[Mapping[int, tuple[int, str]]]("logs")


def fact(paths: Mapping[int, str]) -> Fact[Mapping[int, tuple[int, str]]]:
    """Of the logs in `paths`, by rank."""
    words = [word for rank, path in paths.items() for word in (str(rank), path)]
    return Fact(KEY, scripts.script("facts/logs.sh", words), parse)
