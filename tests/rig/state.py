"""What a test host is apart from its interfaces: the JSON that its macOS commands read."""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

BASELINE_GIB = 9.0  # wired on an idle 512 GB Mac Studio


def fresh(name: str, ports: Sequence[str], **more: Any) -> dict[str, Any]:
    """A Mac Studio with RDMA enabled that was just booted; `more` replaces what differs."""
    state = {
        "name": name,
        "model": "Mac Studio",
        "identifier": "Mac15,14",
        "platform_uuid": str(uuid.uuid5(uuid.NAMESPACE_DNS, name)).upper(),
        "chip": "Apple M3 Ultra",
        "product_version": "26.4.1",
        "build_version": "25E253",
        "thunderbolt": 5,
        "rdma": "enabled",
        "memory_gib": 512,
        "wired_gib": BASELINE_GIB,
        "page_size": 16384,
        "swap_mib": 0.0,
        "wired_limit_mb": 0,
        "sleep_minutes": 1,
        "autorestart": 0,
        "filevault": "Off",
        "defaults": {},  # path of a property list -> key -> value
        "firewall": 0,
        "max_pd": 11,
        "max_qp": 11,
        "pds_used": 0,
        "sudo": {"passwordless": True, "password": "secret"},
        "ports": [_port(name, index, port) for index, port in enumerate(ports)],
        "faults": {},
        "rebridge": None,  # or so many seconds after a boot configd puts the ports into bridge0
        **boot(),
    }
    unknown = set(more) - set(state)
    if unknown:
        raise ValueError(f"a test host has no {sorted(unknown)}")
    return {**state, **more}


def boot() -> dict[str, Any]:
    """What is new with each boot."""
    return {"boot_uuid": str(uuid.uuid4()).upper(), "boot_seconds": int(time.time())}


def _port(name: str, index: int, interface: str) -> dict[str, Any]:
    """A port: its domain's UUID is the same after every boot, and like no other's."""
    identity = uuid.uuid5(uuid.NAMESPACE_DNS, f"{interface}.{name}")
    return {
        "interface": interface,
        "domain": str(identity).upper(),
        "switch": f"0x05AC{identity.hex[:11].upper()}{index}",
        "guid": f"{0x80 + index:02x}{identity.hex[:10]}ac05",
        "device": None,
    }


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def write(path: Path, data: Any) -> None:
    """Written beside and moved: who reads it meanwhile sees the old or the new, never half."""
    new = path.with_name(f"{path.name}.{os.getpid()}.new")
    new.write_text(json.dumps(data, indent=1))
    new.replace(path)
