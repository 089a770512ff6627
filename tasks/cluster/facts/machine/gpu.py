"""How much memory a node's GPU may wire, as its owner has set it."""

import re

from ...ssh import scripts
from .. import Fact, Key

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
FACT = Fact(KEY, scripts.script("facts/gpu.sh"), parse)
