"""vm_stat, sysctl, ioreg, sw_vers, pmset, fdesetup, defaults, socketfilterfw and nc."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from typing import Any

from . import node

GIB = 1024**3


def vm_stat(words: list[str]) -> int:
    state = node.state()
    size = state["page_size"]
    total = int(state["memory_gib"] * GIB) // size
    wired = int(state["wired_gib"] * GIB) // size
    rest = max(total - wired, 0)
    rows = {
        "Pages free:": rest // 2,
        "Pages active:": rest // 5,
        "Pages inactive:": rest // 5,
        "Pages speculative:": 41231,
        "Pages throttled:": 0,
        "Pages wired down:": wired,
        "Pages purgeable:": 1873,
        '"Translation faults":': 918273645,
        "Pages copy-on-write:": 5512345,
        "Pages zero filled:": 612345678,
        "Pages reactivated:": 912345,
        "Pages purged:": 81234,
        "File-backed pages:": rest // 10,
        "Anonymous pages:": rest // 10,
        "Pages stored in compressor:": 0,
        "Pages occupied by compressor:": 0,
        "Decompressions:": 12345,
        "Compressions:": 45678,
        "Pageins:": 8123456,
        "Pageouts:": 1234,
        "Swapins:": 0,
        "Swapouts:": 0,
    }
    print(f"Mach Virtual Memory Statistics: (page size of {size} bytes)")
    for label, value in rows.items():
        print(f"{label:<30} {value:>16}.")
    return 0


def sw_vers(words: list[str]) -> int:
    state = node.state()
    values = {
        "ProductName": "macOS",
        "ProductVersion": state["product_version"],
        "BuildVersion": state["build_version"],
    }
    for word in words:
        name = word.lstrip("-")
        print(values[name[:1].upper() + name[1:]])
    if not words:
        for name, value in values.items():
            print(f"{name + ':':<16}\t{value}".replace(" ", ""))
    return 0


def pmset(words: list[str]) -> int:
    """Only `-g`: tabs and columns as macOS 26 has them."""
    print("System-wide power settings:\n DestroyFVKeyOnStandby\t\t0\nCurrently in use:")
    rows = {
        "standby": 1,
        "Sleep On Power Button": 1,
        "SleepServices": 0,
        "hibernatefile": "/var/vm/sleepimage",
        "powernap": 0,
        "networkoversleep": 0,
        "disksleep": 10,
        "sleep": f"{node.state()['sleep_minutes']} (sleep prevented by powerd)",
        "hibernatemode": 3,
        "ttyskeepawake": 1,
        "displaysleep": 30,
        "tcpkeepalive": 1,
        "lowpowermode": 0,
        "womp": 0,
        "autorestart": node.state()["autorestart"],
    }
    for name, value in rows.items():
        print(f" {name:<20} {value}")
    return 0


def fdesetup(words: list[str]) -> int:
    """Only `status`."""
    print(f"FileVault is {node.state()['filevault']}.")
    return 0


def defaults(words: list[str]) -> int:
    """Only `read PATH KEY`, of what `defaults` of the state has by path."""
    _, path, key = words
    value = node.state()["defaults"].get(path, {}).get(key)
    if value is None:
        node.say(f"\nThe domain/default pair of ({path}, {key}) does not exist")
        return 1
    print(value)
    return 0


def socketfilterfw(words: list[str]) -> int:
    """Only `--getglobalstate`."""
    state = node.state()["firewall"]
    print(f"Firewall is {'enabled' if state else 'disabled'}. (State = {state})")
    return 0


HELP = (
    "-G conntimo                   Connection timeout in seconds",
    "-w secs                       Timeout for connects and final net reads",
    "-z                            Zero-I/O mode [used for scanning]",
)


def nc(words: list[str]) -> int:
    """Only `-z [-w SECONDS] [-G SECONDS] HOST PORT`, whether somebody listens there, and -h.

    `-w` limits the final read: a connect has no limit but TCP's, unless `-G` gives one.
    """
    if words == ["-h"]:
        # netcat-56, netcat.c lines 1696 to 1733: `usage` and `help` go to stderr.
        for row in HELP:
            node.say("\t" + row)
        return 1
    limit = float(words[words.index("-G") + 1]) if "-G" in words else 75
    try:
        socket.create_connection((words[-2], int(words[-1])), limit).close()
    except OSError:
        return 1
    return 0


def iostat(words: list[str]) -> int:
    """Only `-n 0 -c COUNT -w SECONDS`: shares of the CPUs since boot, then since the row before."""
    count, pause = (float(words[words.index(word) + 1]) for word in ("-c", "-w"))
    print("      cpu    load average\n us sy id   1m   5m   15m")
    before = [0, 0, 0]
    for number in range(int(count)):
        time.sleep(pause if number else 0)
        now = _cpu_times()
        spent = [max(new - old, 0) for new, old in zip(now, before, strict=True)]
        whole, before = sum(spent) or 1, now
        shares = "".join(f"{100 * each / whole:>3.0f}" for each in spent)
        print(shares, " {:.2f} {:.2f} {:.2f}".format(*os.getloadavg()), flush=True)
    return 0


def _cpu_times() -> list[int]:
    """Ticks for users, the system and nothing."""
    with open(f"{node.PROC}/stat") as file:
        user, nice, system, *idle = map(int, file.readline().split()[1:6])
    return [user + nice, system, sum(idle)]


# The names of sysctl that a test host knows, as functions of its state.
OIDS: dict[str, Callable[[dict[str, Any]], object]] = {
    "hw.memsize": lambda s: int(s["memory_gib"] * GIB),
    "hw.ncpu": lambda s: 32,
    "hw.pagesize": lambda s: s["page_size"],
    "hw.model": lambda s: s["identifier"],
    "machdep.cpu.brand_string": lambda s: s["chip"],
    "iogpu.wired_limit_mb": lambda s: s["wired_limit_mb"],
    "kern.boottime": lambda s: _boottime(s["boot_seconds"]),
    "kern.bootsessionuuid": lambda s: s["boot_uuid"],
    "kern.hostname": lambda s: s["name"],
    "kern.osversion": lambda s: s["build_version"],
    "kern.osproductversion": lambda s: s["product_version"],
    "vm.swapusage": lambda s: _swap(s["swap_mib"]),
}


def sysctl(words: list[str]) -> int:
    """Its exit status is the number of unknown names; the known ones are still told."""
    bare = "-n" in words
    failed = 0
    state = node.state()
    for name, _, value in (word.partition("=") for word in words if not word.startswith("-")):
        if name not in OIDS:
            node.say(f"sysctl: unknown oid '{name}'")
            failed += 1
        elif value:
            failed += _set(name, value)
        else:
            print(("" if bare else f"{name}: ") + str(OIDS[name](state)))
    return failed


def _set(name: str, value: str) -> int:
    if name != "iogpu.wired_limit_mb":
        node.say(f"sysctl: oid '{name}' is read only")
        return 1
    if not node.is_root():
        node.say(f"sysctl: {name}={value}: Operation not permitted")
        return 1
    print(f"{name}: {node.state()['wired_limit_mb']} -> {int(value)}")
    node.change(wired_limit_mb=int(value))
    return 0


def _swap(used: float) -> str:
    total = 1024 * -(-used // 1024)
    parts = {"total": total, "used": used, "free": total - used}
    return "  ".join(f"{name} = {size:.2f}M" for name, size in parts.items()) + "  (encrypted)"


def ioreg(words: list[str]) -> int:
    """Only `-rd1 -c IOPlatformExpertDevice`."""
    if words != ["-rd1", "-c", "IOPlatformExpertDevice"]:
        node.say("ioreg: a test host knows -rd1 -c IOPlatformExpertDevice only")
        return 1
    state = node.state()
    kind = "<class IOPlatformExpertDevice, id 0x100000222, registered, matched, active, busy 0>"
    rows = {
        "manufacturer": '<"Apple Inc.">',
        "model": f'<"{state["identifier"]}">',
        "IOPlatformUUID": f'"{state["platform_uuid"]}"',
    }
    print(f"+-o {state['identifier'].replace(',', '')}AP  {kind}\n    {{")
    for name, value in rows.items():
        print(f'      "{name}" = {value}')
    print("    }\n    ")
    return 0


def _boottime(seconds: int) -> str:
    return f"{{ sec = {seconds}, usec = 147247 }} {time.ctime(seconds)}"
