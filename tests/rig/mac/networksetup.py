"""networksetup: the hardware ports, and the services that are named after them."""

from __future__ import annotations

import os

from . import node


def networksetup(words: list[str]) -> int:
    ports = _ports()
    if words == ["-listallhardwareports"]:
        for name, device in ports:
            print(f"\nHardware Port: {name}\nDevice: {device}\nEthernet Address: {_mac(device)}")
        print("\nVLAN Configurations\n===================")
    elif words == ["-listallnetworkservices"]:
        print("An asterisk (*) denotes that a network service is disabled.")
        print("\n".join(name for name, _ in ports))
    elif words == ["-listnetworkserviceorder"]:
        print("An asterisk (*) denotes that a network service is disabled.")
        for index, (name, device) in enumerate(ports, 1):
            print(f"({index}) {name}\n(Hardware Port: {name}, Device: {device})\n")
    else:
        print(f"** Error: The parameters were not valid: {' '.join(words)}")
        return 4
    return 0


def _ports() -> list[tuple[str, str]]:
    bridge = (
        [("Thunderbolt Bridge", "bridge0")]
        if os.path.exists(f"{node.SYS}/class/net/bridge0")
        else []
    )
    thunderbolt = [
        (f"Thunderbolt {number}", port["interface"])
        for number, port in enumerate(node.state()["ports"], 1)
    ]
    return [("Ethernet", "en0"), *bridge, ("Wi-Fi", "en1"), *thunderbolt]


def _mac(device: str) -> str:
    with open(f"{node.SYS}/class/net/{device}/address") as file:
        return file.read().strip()
