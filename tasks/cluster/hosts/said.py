"""What a host said to hosts.selftest, as it came. Pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from ..facts import Key

ASSUMED = Key[Mapping[str, str]]("assumed")


@dataclass(frozen=True)
class Raw:
    """What a command printed, and its exit status."""

    text: str
    status: int


def sections(text: str, status: int) -> dict[str, str]:
    """The parts of selftest.sh's output; raise ValueError where its end is missing."""
    parts = re.split(r"^== (\w+)\n", text, flags=re.MULTILINE)
    found = {name: said.strip("\n") for name, said in zip(parts[1::2], parts[2::2], strict=True)}
    if "end" not in found:
        raise ValueError("selftest.sh came to no end")
    return found
