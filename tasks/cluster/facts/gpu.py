"""How much memory a node's GPU may wire, as its owner has set it."""

from __future__ import annotations

import re

from . import Fact, Key

NO_LIMIT = -1  # not a Mac: MLX runs on the CPU there


def parse(text: str, status: int) -> int:
    """`sysctl iogpu.wired_limit_mb` in bytes; 0 is macOS's own choice, `NO_LIMIT` no such limit."""
    if status == 0 and text.strip() == "no limit":
        return NO_LIMIT
    value = re.fullmatch(r"\s*iogpu\.wired_limit_mb: (\d{1,9})\s*", text)
    if status != 0 or not value:
        raise ValueError("iogpu.wired_limit_mb can't be read")
    return int(value.group(1)) * 1024**2


KEY = Key[int]("gpu")
FACT = Fact(
    KEY,
    "if [ -r /proc/meminfo ] && ! command -v vm_stat >/dev/null; then echo no limit\n"
    "else sysctl iogpu.wired_limit_mb; fi",
    parse,
)
