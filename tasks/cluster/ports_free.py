"""Ports that nobody on a node listens on. Pure."""

from __future__ import annotations

from collections.abc import Iterable

# Below 32768: above it the kernel hands out ports to clients (Linux; macOS begins at 49152).
FIRST, LAST = 18000, 31999


def choose(used: Iterable[int], count: int) -> list[int]:
    """`count` ports that are not in use."""
    taken = set(used)
    return [port for port in range(FIRST, LAST) if port not in taken][:count]
