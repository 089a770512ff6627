"""rdma_ctl, ibv_devices, ibv_devinfo and ioclasscount: a device per Thunderbolt interface."""

from __future__ import annotations

import ipaddress
from typing import Any

from . import node


def rdma_ctl(words: list[str]) -> int:
    if words == ["status"]:
        print(node.state()["rdma"])
        return 0
    if words in (["enable"], ["disable"]):
        node.say("rdma_ctl: this command can only be run from recoveryOS")
        return 1
    node.say("usage: rdma_ctl [status|enable|disable]")
    return 64


def ibv_devices(words: list[str]) -> int:
    print(f"    {'device':<16}\t   node GUID")
    print(f"    {'------':<16}\t----------------")
    for port in _devices():
        print(f"    {'rdma_' + port['interface']:<16}\t{port['guid']}")
    return 0


def ibv_devinfo(words: list[str]) -> int:
    ports = _devices()
    if not ports:
        node.say("No IB devices found")
        return 255
    if "-d" in words:
        name = words[words.index("-d") + 1]
        ports = [port for port in ports if f"rdma_{port['interface']}" == name]
        if not ports:
            node.say(f"IB device '{name}' wasn't found")
            return 255
    state = node.state()
    found = node.ip("address", "show") if "-v" in words else []
    addresses = {row["ifname"]: row["addr_info"] for row in found}
    for port in ports:
        print("\n".join(_device(state, port, addresses.get(port["interface"]))) + "\n")
    return 0


def ioclasscount(words: list[str]) -> int:
    """How many objects of a kernel class exist; a protection domain each in use is one."""
    for name in words:
        used = node.state()["pds_used"] if name == "AppleThunderboltRDMAProtectionDomain" else 0
        print(f"{name} = {used}")
    return 0


def _devices() -> list[dict[str, Any]]:
    """None with RDMA off, and none for ever on Thunderbolt 4, whatever rdma_ctl says."""
    state = node.state()
    if not _is_capable(state):
        return []
    missing = state["faults"].get("device_missing", [])
    return [port for port in state["ports"] if f"rdma_{port['interface']}" not in missing]


def _is_capable(state: dict[str, Any]) -> bool:
    return bool(state["rdma"] == "enabled" and state["thunderbolt"] >= 5)


def _device(state: dict[str, Any], port: dict[str, Any], addresses: Any) -> list[str]:
    """What is said of it, and with its interface's addresses all there is to say."""
    guid = ":".join(port["guid"][i : i + 4] for i in range(0, 16, 4))
    is_up = _is_active(state, port)
    rows = [
        f"hca_id:\trdma_{port['interface']}",
        "\ttransport:\t\t\tThunderbolt (100)",
        f"\tnode_guid:\t\t\t{guid}",
        f"\tsys_image_guid:\t\t\t{guid}",
        "\tvendor_id:\t\t\t0x0000",
        "\tvendor_part_id:\t\t\t0",
        "\thw_ver:\t\t\t\t0x0",
        "\tphys_port_cnt:\t\t\t1",
        *([] if addresses is None else _limits(state)),
        "\t\tport:\t1",
        f"\t\t\tstate:\t\t\t{'PORT_ACTIVE (4)' if is_up else 'PORT_DOWN (1)'}",
        "\t\t\tmax_mtu:\t\t4096 (5)",
        "\t\t\tactive_mtu:\t\t4096 (5)",
        "\t\t\tsm_lid:\t\t\t1",
        "\t\t\tport_lid:\t\t1",
        "\t\t\tport_lmc:\t\t0x00",
        "\t\t\tlink_layer:\t\tThunderbolt",
    ]
    return [*rows, *([] if addresses is None else _port(port, is_up, addresses))]


def _limits(state: dict[str, Any]) -> list[str]:
    return [
        "\tmax_mr_size:\t\t\t0xfa0000",
        f"\tmax_qp:\t\t\t\t{state['max_qp']}",
        "\tmax_cq:\t\t\t\t11",
        "\tmax_mr:\t\t\t\t100",
        f"\tmax_pd:\t\t\t\t{state['max_pd']}",
        "\tatomic_cap:\t\t\tATOMIC_NONE (0)",
        "\tnum_comp_vectors:\t\t1",
    ]


def _port(port: dict[str, Any], is_up: bool, addresses: Any) -> list[str]:
    return [
        "\t\t\tgid_tbl_len:\t\t1024",
        f"\t\t\tactive_width:\t\t{'8X (4)' if is_up else '1X (1)'}",
        "\t\t\tactive_speed:\t\t10.0 Gbps (4)",
        *(
            f"\t\t\tGID[{index:>3}]:\t\t{gid}"
            for index, gid in enumerate(_gids(port, is_up, addresses))
        ),
    ]


def _is_active(state: dict[str, Any], port: dict[str, Any]) -> bool:
    """A port is up only with a cable in it whose other end has RDMA too."""
    other = node.peer(port["interface"])
    if other is None or not node.has_carrier(port["interface"]):
        return False
    if f"rdma_{port['interface']}" in state["faults"].get("port_down", []):
        return False
    return _is_capable(node.state(other[0]))


def _gids(port: dict[str, Any], is_up: bool, rows: Any) -> list[str]:
    """The link-local GIDs, then one that maps each IPv4 address, but for bridge members."""
    name = port["interface"]
    local = [ipaddress.IPv6Address(row["local"]) for row in rows if row["family"] == "inet6"]
    gids = [local[0].exploded if local else _by_guid(port["guid"]), *map(str, local)]
    no_ipv4 = f"rdma_{name}" in node.fault("no_ipv4_gid")
    if node.bridge_of(name) is None and not no_ipv4:
        gids += [f"::ffff:{row['local']}" for row in rows if row["family"] == "inet"]
    return gids


def _by_guid(guid: str) -> str:
    return ipaddress.IPv6Address((0xFE80 << 112) | int(guid, 16)).exploded
