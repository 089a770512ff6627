"""system_profiler SPThunderboltDataType -json: a bus per port, what is plugged in, and who."""

from __future__ import annotations

import json
from typing import Any

from . import node

# What each kind of device in a port says of itself.
DEVICES = {
    "drive": {
        "_name": "Envoy Ultra",
        "device_id_key": "0xDE7B",
        "device_name_key": "Envoy Ultra",
        "device_revision_key": "0x6",
        "vendor_id_key": "0x1E91",
        "vendor_name_key": "Other World Computing",
    },
    "dock": {
        "_name": "SB-XTM5",
        "device_id_key": "0x501",
        "device_name_key": "SB-XTM5",
        "device_revision_key": "0x1",
        "vendor_id_key": "0x2EB9",
        "vendor_name_key": "Sabrent",
    },
}
EMPTY = "receptacle_no_devices_connected"


def system_profiler(words: list[str]) -> int:
    if "SPThunderboltDataType" not in words or "-json" not in words:
        node.say("system_profiler: a test host knows SPThunderboltDataType -json only")
        return 1
    state = node.state()
    buses = [_bus(state, number, port) for number, port in enumerate(state["ports"])]
    text = json.dumps({"SPThunderboltDataType": buses[::-1]}, indent=2, sort_keys=True)
    print(text.replace('": ', '" : '))
    return 0


def _bus(state: dict[str, Any], number: int, port: dict[str, Any]) -> dict[str, Any]:
    items = _items(port)
    bus: dict[str, Any] = {
        "_name": f"thunderboltusb4_bus_{number}",
        "device_name_key": state["model"],
        "domain_uuid_key": port["domain"],
        "receptacle_1_tag": {
            "current_speed_key": _speed(port, state, bool(items)),
            "link_status_key": "0x2" if items else "0x100",
            "receptacle_id_key": str(number + 1),
            "receptacle_status_key": "receptacle_connected" if items else EMPTY,
        },
        "route_string_key": "0",
        "switch_uid_key": port["switch"],
        "vendor_name_key": "Apple Inc.",
    }
    if items:
        bus["receptacle_1_tag"]["micro_version_key"] = "0.0.0"
        bus["_items"] = items
    return bus


def _speed(port: dict[str, Any], state: dict[str, Any], is_linked: bool) -> str:
    most, linked = ("120", "80") if state["thunderbolt"] >= 5 else ("40", "40")
    other = node.peer(port["interface"])
    if other and node.state(other[0])["thunderbolt"] < 5:
        linked = "40"
    return f"{linked} Gb/s" if is_linked else f"Up to {most} Gb/s"


def _items(port: dict[str, Any]) -> list[dict[str, Any]]:
    """The other Mac; where a device is in the port, that one, with the Mac behind it."""
    other = node.peer(port["interface"])
    macs = [_mac(*other)] if other and node.has_carrier(port["interface"]) else []
    if not port["device"]:
        return macs
    device: dict[str, Any] = {
        **DEVICES[port["device"]],
        "mode_key": "usb_four_v2",
        "receptacle_upstream_ambiguous_tag": {
            "current_speed_key": "80 Gb/s",
            "link_status_key": "0x2",
            "micro_version_key": "1.3.0",
            "receptacle_status_key": "receptacle_connected",
        },
        "route_string_key": "1",
        "switch_uid_key": "0x80878DFABA68F800",
        "switch_version_key": "56.56",
    }
    return [{**device, "_items": macs} if macs else device]


def _mac(host: str, interface: str) -> dict[str, Any]:
    state = node.state(host)
    port = next(port for port in state["ports"] if port["interface"] == interface)
    services: list[dict[str, Any]] = [
        {
            "_name": "service_ip",
            "protocol_id_key": 1,
            "protocol_revision_key": 1,
            "protocol_version_key": 1,
            "service_uuid_key": "F013163E-D041-44F6-B752-5236E1FEC7CD",
        }
    ]
    # A Mac with RDMA on says so to its peer, in a service that system_profiler does not know.
    if state["rdma"] == "enabled" and state["thunderbolt"] >= 5:
        services.append(
            {
                "_name": "unknown_xd_service",
                "protocol_id_key": 64087,
                "protocol_revision_key": 0,
                "protocol_version_key": 1,
                "service_key_key": "\u02c7" * 6 + "AD",
                "service_uuid_key": "270E648C-7F7E-46CD-B5C6-D5063D93530F",
            }
        )
    return {
        "_name": state["model"],
        "device_id_key": "0xA",
        "device_name_key": state["identifier"],
        "domain_uuid_key": port["domain"],
        "services_title": services,
        "vendor_id_key": "0x0A27",
        "vendor_name_key": "Apple Inc.",
    }
