"""Ports that nobody on a node listens on. Pure."""

from collections.abc import Iterable

# Below 32768: above it the kernel hands out ports to clients (Linux; macOS begins at 49152).
FIRST, LAST = 18000, 31999


def in_a_row(used: Iterable[int], count: int) -> int:
    """The first of `count` ports in a row that are not in use."""
    taken = set(used)
    starts = range(FIRST, LAST - count)
    return next(first for first in starts if taken.isdisjoint(range(first, first + count)))
