"""A node's Thunderbolt ports: what is plugged into each, and its network interface."""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from .. import Fact, Key, limited

Item = Mapping[str, object]


@dataclass(frozen=True)
class Port:
    """One Thunderbolt port (on Apple silicon each is a bus of its own); speeds in Gb/s.

    `domain` is its domain UUID, "" where it is not told; `peers` maps the domain UUID of another
    computer's port to that computer's name, behind docks too; `devices` are the names of docks and
    drives. `speed` is that of what is plugged in, `top` what an empty port says it can do; None
    where it is not told.
    """

    domain: str
    receptacle: str | None
    machine: str
    speed: int | None
    top: int | None
    peers: Mapping[str, str]
    devices: tuple[str, ...]


def parse_ports(text: str, status: int) -> tuple[Port, ...]:
    """`system_profiler SPThunderboltDataType -json`; no port at all is an empty list of it."""
    try:
        buses = json.loads(text)["SPThunderboltDataType"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ValueError("system_profiler can't be read") from None
    if status != 0 or not isinstance(buses, list):
        raise ValueError("system_profiler can't be read")
    return tuple(_port(bus) for bus in buses if isinstance(bus, dict) and _is_port(bus))


def parse_hardware_ports(text: str, status: int) -> dict[str, str]:
    """`networksetup -listallhardwareports`: "Thunderbolt 1" -> "en1"; its number is a receptacle's.

    Thunderbolt N is not en(N+1): a MacBook's Thunderbolt 2 may well be en6.
    """
    rows = re.findall(r"^Hardware Port: (.+?)\s*\nDevice: (\S+)[ \t\r]*\n", text, re.MULTILINE)
    if status != 0 or not rows:
        raise ValueError("networksetup can't be read")
    return {name: device for name, device in rows if re.fullmatch(r"Thunderbolt \d+", name)}


def is_thunderbolt5(ports: Iterable[Port], model: str = "") -> bool | None:
    """Whether a node's ports are of the kind that can do RDMA; None where nothing tells.

    Thunderbolt 4 is 40 Gb/s at most, and so is Thunderbolt 5 with an older device: only an empty
    port, or a faster link, tells them apart; else `model` (hw.model), where it is a known one.
    Source: Apple TN3205. Thunderbolt 4 may list devices all the same, and crash (mlx#4485).
    """
    ports = list(ports)
    if any((speed or 0) > 40 for port in ports for speed in (port.speed, port.top)):
        return True
    return False if any(port.top for port in ports) else has_thunderbolt5(model)


# M4 Pro and Max, M3 Ultra, M5 Pro and Max (Apple's technical specifications).
_THUNDERBOLT_5 = {
    *("Mac15,14", "Mac16,5", "Mac16,6", "Mac16,7", "Mac16,8", "Mac16,9", "Mac16,11"),
    *("Mac17,6", "Mac17,7", "Mac17,8", "Mac17,9"),
}


def has_thunderbolt5(model: str) -> bool | None:
    """Whether a Mac of that hw.model has Thunderbolt 5; None for one that we do not know."""
    found = re.fullmatch(r"([A-Za-z]+)(\d{1,3}),\d{1,3}", model)
    if model in _THUNDERBOLT_5 or not found:
        return model in _THUNDERBOLT_5 or None
    # Since 2022 they are all called Mac; those up to Mac16 are all known.
    return False if found[1] != "Mac" or int(found[2]) <= 16 else None


def _is_port(bus: Item) -> bool:
    """Whether a bus is a port, though it may tell no domain: it has a receptacle."""
    return bool(_text(bus, "domain_uuid_key")) or any(map(_RECEPTACLE.fullmatch, bus))


_RECEPTACLE = re.compile(r"receptacle_\d+_tag")


def _port(bus: Item) -> Port:
    tags = [value for key, value in bus.items() if _RECEPTACLE.fullmatch(key)]
    # An Intel Mac has two receptacles on one bus: which of them has the peer is not told.
    tag = tags[0] if len(tags) == 1 else {}
    items = _below(bus)
    said = _text(tag, "current_speed_key")
    speed = _gigabits(said)
    is_limit = said.startswith("Up to")
    return Port(
        domain=_text(bus, "domain_uuid_key"),
        receptacle=_text(tag, "receptacle_id_key") or None,
        machine=_text(bus, "device_name_key"),
        speed=None if is_limit else speed,
        top=speed if is_limit and not items else None,
        peers={_text(item, "domain_uuid_key"): _name(item) for item in items if _is_computer(item)},
        devices=tuple(_name(item) for item in items if not _is_computer(item)),
    )


def _below(bus: Item) -> list[Item]:
    """All that is plugged in: a peer behind a dock is an item of the dock."""
    found = _items(bus)
    for item in found:
        found += _items(item)
    return found


def _items(entry: Item) -> list[Item]:
    items = entry.get("_items")
    return [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []


def _is_computer(item: Item) -> bool:
    """Only computers have a domain of their own."""
    return bool(_text(item, "domain_uuid_key"))


def _name(item: Item) -> str:
    return _text(item, "_name") or _text(item, "device_name_key") or "unnamed"


def _text(entry: object, key: str) -> str:
    value = entry.get(key) if isinstance(entry, dict) else None
    return value if isinstance(value, str) else ""


def _gigabits(speed: str) -> int | None:
    """ "80 Gb/s" when linked, "Up to 120 Gb/s" when empty; older systems add " x1"."""
    found = re.search(r"\b(\d{1,4}) Gb/s", speed)
    return int(found.group(1)) if found else None


KEY = Key[tuple[Port, ...]]("thunderbolt")
HARDWARE_PORTS = Key[Mapping[str, str]]("hardware_ports")
PORTS = Fact(
    HARDWARE_PORTS, limited(10, "networksetup -listallhardwareports"), parse_hardware_ports
)
FACTS = (
    # It takes seconds, and its standard error is noise that no JSON parser takes.
    Fact(
        KEY,
        limited(20, "system_profiler SPThunderboltDataType -json") + " 2>/dev/null",
        parse_ports,
        is_raw=True,
    ),
    PORTS,
)
