"""Which cables there are: data, for two hosts up to four, in a mesh or a ring."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple


class Cable(NamedTuple):
    """A Thunderbolt cable from a host's port to another's."""

    host: str
    port: str
    other: str
    other_port: str


# The ports of a Mac Studio: Thunderbolt 1 to 6.
PORTS = ("en2", "en3", "en4", "en5", "en6", "en7")


def names(count: int) -> tuple[str, ...]:
    return tuple(f"mac{number}" for number in range(1, count + 1))


def two_nodes() -> list[Cable]:
    return [Cable("mac1", "en5", "mac2", "en5")]


def two_cables() -> list[Cable]:
    """The second one joins ports of different names, as happens."""
    return [*two_nodes(), Cable("mac1", "en3", "mac2", "en4")]


def mesh(count: int, missing: Iterable[tuple[str, str]] = ()) -> list[Cable]:
    """A cable between any two hosts, but for the pairs in `missing`."""
    hosts, absent = names(count), {frozenset(pair) for pair in missing}
    ports = {host: iter(PORTS[1:]) for host in hosts}
    cables = []
    for index, one in enumerate(hosts):
        for other in hosts[index + 1 :]:
            # Ports are used up for a missing cable too: the others are where they were.
            cable = Cable(one, next(ports[one]), other, next(ports[other]))
            cables += [cable] if frozenset((one, other)) not in absent else []
    return cables


def ring(count: int) -> list[Cable]:
    """Each host's en3 to the next one's en5."""
    hosts = names(count)
    return [
        Cable(host, "en3", hosts[(index + 1) % count], "en5") for index, host in enumerate(hosts)
    ]


def addresses(cables: Sequence[Cable]) -> dict[tuple[str, str], str]:
    """(host, port) -> an address with its prefix: a /30 for each cable, from 10.254.0.5/30 on."""
    found = {}
    for index, cable in enumerate(cables, 1):
        third, fourth = divmod(4 * index, 256)
        found[cable.host, cable.port] = f"10.254.{third}.{fourth + 1}/30"
        found[cable.other, cable.other_port] = f"10.254.{third}.{fourth + 2}/30"
    return found
