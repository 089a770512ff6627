"""RDMA over Thunderbolt: the switch, the devices, their ports, the links' addresses, the matrix."""

import ipaddress
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from ...ssh import scripts
from .. import Fact, Key, limited

MATRIX = "/tmp/mlx_ibv_devices.json"


@dataclass(frozen=True)
class Device:
    """One device of `ibv_devinfo -v`; None or () where the output did not say.

    `state` is the port's, such as "PORT_ACTIVE"; `max_pd` and `max_qp` bound how many protection
    domains and queue pairs may be in use at a time (about 11 on a Mac).
    """

    name: str
    state: str | None
    gids: tuple[str, ...]
    max_pd: int | None
    max_qp: int | None

    @property
    def is_active(self) -> bool:
        return self.state == "PORT_ACTIVE"

    @property
    def ipv4_gids(self) -> tuple[str, ...]:
        """The IPv4 addresses that the GID table maps; without one a queue pair fails (errno 22)."""
        return tuple(found for found in map(_mapped, self.gids) if found)


@dataclass(frozen=True)
class Interface:
    """One interface of `ifconfig -a`; `status` is None where it prints none (lo0).

    `addresses` are its IPv4 addresses with their networks, `members` a bridge's interfaces, `ether`
    its hardware address.
    """

    name: str
    status: str | None
    addresses: tuple[ipaddress.IPv4Interface, ...]
    members: tuple[str, ...]
    ether: str | None = None

    @property
    def ipv4(self) -> tuple[str, ...]:
        return tuple(str(address.ip) for address in self.addresses)


def parse_enabled(text: str, status: int) -> bool:
    """`rdma_ctl status` prints just "enabled" or "disabled"."""
    words = {"enabled": True, "disabled": False}
    if text.strip() not in words:
        raise ValueError("rdma_ctl status can't be read")
    return words[text.strip()]


def parse_devices(text: str, status: int) -> tuple[str, ...]:
    """The names that `ibv_devices` lists; none with RDMA disabled or on Thunderbolt 4."""
    if not re.search(r"device\s+node GUID", text):
        raise ValueError("ibv_devices can't be read")
    return tuple(re.findall(r"^\s*(\S+)\s+[0-9a-f]{16}\s*$", text, re.MULTILINE))


def parse_devinfo(text: str, status: int) -> dict[str, Device]:
    """`ibv_devinfo -v`, by device name."""
    if re.search(r"^No IB devices found\s*$", text, re.MULTILINE):
        return {}
    # Killed (by our limit), it may have told only a part.
    if status >= 128:
        raise ValueError("ibv_devinfo gave no answer in time")
    blocks = re.split(r"^\s*hca_id:\s*", text, flags=re.MULTILINE)[1:]
    if not (devices := [_device(block) for block in blocks if block.strip()]):
        raise ValueError("ibv_devinfo can't be read")
    return {device.name: device for device in devices}


def parse_interfaces(text: str, status: int) -> dict[str, Interface]:
    """`ifconfig -a`, by interface name; its rows are indented by tabs or spaces."""
    blocks = re.findall(r"^(\S+?): flags=(.*(?:\n[ \t].*)*)", text, re.MULTILINE)
    # Rows that belong to no interface may be the members of a bridge.
    is_torn = re.search(r"^(?!\S+?: flags=|[ \t]).*\n[ \t]+\S", text, re.MULTILINE)
    if status != 0 or not blocks or is_torn:
        raise ValueError("ifconfig can't be read")
    return {name: _interface(name, rows) for name, rows in blocks}


def parse_matrix(text: str, status: int) -> object:
    """The matrix of device names that rdma.setup wrote, or None where the file is missing."""
    if status == 3:
        return None
    if status != 0:
        raise ValueError(f"{MATRIX} can't be read")
    try:
        matrix: object = json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError(f"{MATRIX} is no JSON") from None
    return matrix


def parse_in_use(text: str, status: int) -> int:
    """`ioclasscount`: how many protection domains are in use, over all devices."""
    found = re.search(rf"^{_DOMAIN} = (\d{{1,9}})\s*$", text, re.MULTILINE)
    if status != 0 or not found:
        raise ValueError("ioclasscount can't be read")
    return int(found.group(1))


# Failed starts use them up, and only a reboot gives them back (mlx PR 4209).
_DOMAIN = "AppleThunderboltRDMAProtectionDomain"


def _device(block: str) -> Device:
    states = re.findall(r"\bstate:\s*(PORT_\w+)", block)
    if len(states) > 1:
        raise ValueError("ibv_devinfo tells of two devices at once")
    return Device(
        name=block.split()[0],
        state=states[0] if states else None,
        gids=tuple(re.findall(r"\bGID\[\s*\d+\]:\s*([0-9A-Fa-f:.]+)", block)),
        max_pd=_number(r"\bmax_pd:\s*(\d{1,9})\b", block),
        max_qp=_number(r"\bmax_qp:\s*(\d{1,9})\b", block),
    )


def _number(pattern: str, block: str) -> int | None:
    found = re.search(pattern, block)
    return int(found.group(1)) if found else None


def _mapped(gid: str) -> str | None:
    try:
        mapped = ipaddress.IPv6Address(gid).ipv4_mapped
    except ValueError:
        return None
    return str(mapped) if mapped else None


def _address(row: str) -> ipaddress.IPv4Interface:
    # Point-to-point interfaces (utun0) print a peer before the mask.
    if not (found := re.match(r"([\d.]+) (?:--> [\d.]+ )?netmask 0x([0-9a-f]{8})\b", row)):
        raise ValueError("ifconfig can't be read")
    mask = ipaddress.IPv4Address(int(found.group(2), 16))
    return ipaddress.IPv4Interface(f"{found.group(1)}/{mask}")


def _interface(name: str, rows: str) -> Interface:
    status = re.search(r"^\s+status: (.+?)\s*$", rows, re.MULTILINE)
    ether = re.search(r"^\s+ether ([0-9a-f:]{11,17})\b", rows, re.MULTILINE)
    return Interface(
        name=name,
        status=status.group(1) if status else None,
        addresses=tuple(map(_address, re.findall(r"^\s+inet (.*)$", rows, re.MULTILINE))),
        members=tuple(re.findall(r"^\s+member: (\S+)", rows, re.MULTILINE)),
        ether=ether[1] if ether else None,
    )


ENABLED_KEY = Key[bool]("rdma_enabled")
DEVICES_KEY = Key[tuple[str, ...]]("ibv_devices")
DEVINFO_KEY = Key[Mapping[str, Device]]("ibv_devinfo")
INTERFACES_KEY = Key[Mapping[str, Interface]]("interfaces")
MATRIX_KEY = Key[object]("matrix")  # JSON, None where there is no file
IN_USE_KEY = Key[int]("domains_in_use")

# ibv_devinfo has been seen to hang, hence the limits.
INTERFACES = Fact(INTERFACES_KEY, limited(5, "/sbin/ifconfig -a"), parse_interfaces)
MATRIX_FACT = Fact(MATRIX_KEY, scripts.script("facts/matrix.sh", matrix=MATRIX), parse_matrix)
DEVINFO = Fact(DEVINFO_KEY, limited(5, "ibv_devinfo -v"), parse_devinfo)
FACTS = (
    Fact(ENABLED_KEY, limited(5, "rdma_ctl status"), parse_enabled),
    Fact(DEVICES_KEY, limited(5, "ibv_devices"), parse_devices),
    DEVINFO,
    INTERFACES,
)
IN_USE = Fact(IN_USE_KEY, limited(5, f"ioclasscount {_DOMAIN}"), parse_in_use)
