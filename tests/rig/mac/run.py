"""Which command is in which module.

Most are done by process 1 (server.py). launchd, and the sudo of a host whose user is root, are a
Python of their own; a plain user's sudo is the real one (strict.py).
"""

from __future__ import annotations

import importlib
import os
import signal
import sys

from . import node
from .server import Server

# Where a Mac keeps each command -> the module here that is it.
PLACES = {
    "usr/bin/vm_stat": "system",
    "usr/bin/sw_vers": "system",
    "bin/ps": "processes",
    "usr/bin/pgrep": "processes",
    "usr/bin/pkill": "processes",
    "usr/sbin/lsof": "sockets",
    "usr/sbin/iostat": "system",
    "usr/bin/pmset": "system",
    "usr/bin/fdesetup": "system",
    "usr/bin/defaults": "system",
    "usr/bin/nc": "system",
    "usr/libexec/ApplicationFirewall/socketfilterfw": "system",
    "usr/sbin/sysctl": "system",
    "usr/sbin/ioreg": "system",
    "sbin/ifconfig": "ifconfig",
    "sbin/route": "routes",
    "usr/sbin/netstat": "routes",
    "usr/sbin/networksetup": "networksetup",
    "usr/sbin/system_profiler": "thunderbolt",
    "usr/bin/rdma_ctl": "rdma",
    "usr/bin/ibv_devices": "rdma",
    "usr/bin/ibv_devinfo": "rdma",
    "usr/sbin/ioclasscount": "rdma",
    "usr/bin/sudo": "sudo",
    "sbin/launchd": "launchd",
    "bin/launchctl": "launchctl",
    "usr/bin/plutil": "plists",
}
COMMANDS = {os.path.basename(place): module for place, module in PLACES.items()}


def main() -> None:
    name = os.path.basename(sys.argv[0])
    words = sys.argv[1:]
    if name == "launchd" and not words:
        return Server(COMMANDS).serve()
    if name != "launchd":
        node.log([name, *words])
        if name in node.fault("hang"):
            hang()
    module = importlib.import_module(f".{COMMANDS[name]}", __package__)
    sys.exit(getattr(module, name)(words))


def hang() -> None:
    while True:
        signal.pause()
