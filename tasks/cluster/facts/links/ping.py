"""Whether a node reaches addresses, and how fast: `ping` to all of them at once."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ...ssh import scripts
from .. import Fact, Key

COUNT = 5  # echo requests per address, 0.2 s apart
LIMIT = 5  # seconds: `-W` is in ms on macOS and in s on Linux, so the bound is ours


@dataclass(frozen=True)
class Ping:
    """Round trips in milliseconds; `answered` is what ping's exit status says."""

    answered: bool
    least: float | None = None
    mean: float | None = None
    most: float | None = None


def parse(text: str, status: int) -> dict[str, Ping]:
    """Address -> Ping. The status counts, never the text (macOS: 2 for no answer, 68 no host)."""
    if status != 0:
        raise ValueError("ping can't be run")
    # No address takes the status of the next one.
    block = r"^ping (\S+)\n((?:(?!ping \S+$).*\n)*?)status (\d+)$"
    blocks = re.findall(block, text, re.MULTILINE)
    return {address: _one(rows, int(code)) for address, rows, code in blocks}


def _one(rows: str, status: int) -> Ping:
    """macOS says "round-trip min/avg/max/stddev", Linux "rtt min/avg/max/mdev"."""
    times = re.search(r"min/avg/max/\w+ = ([\d.]+)/([\d.]+)/([\d.]+)/", rows)
    try:
        found = [float(each) for each in times.groups()] if times else [None] * 3
    except ValueError:
        found = [None] * 3
    return Ping(status == 0, *found)


KEY = Key[Mapping[str, Ping]]("ping")


def fact(addresses: Iterable[str]) -> Fact[Mapping[str, Ping]]:
    text = scripts.script("facts/ping.sh", addresses, limit=LIMIT, count=COUNT)
    return Fact(KEY, text, parse)
