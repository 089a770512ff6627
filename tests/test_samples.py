"""Every parser over real outputs of macOS, which are kept beside the repo and are not part of it.

Each sample has a row in `ROWS` or a reason in `NOT_READ`. Where a parser reads several commands at
once, its reader lays the sample into what the others print.
"""

from __future__ import annotations

import fnmatch
import json
import re
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, require

from tasks.cluster.config import engine
from tasks.cluster.facts import NodeFacts
from tasks.cluster.facts.links import ping, rdma, routes, thunderbolt
from tasks.cluster.facts.links.ping import Ping
from tasks.cluster.facts.machine import (
    clock,
    files,
    firewall,
    gpu,
    memory,
    ports,
    power,
    processes,
    sudo,
    versions,
)
from tasks.cluster.facts.machine.power import Power
from tasks.cluster.facts.models import model, split
from tasks.cluster.facts.server import state
from tasks.cluster.known_errors.hints import first_error, hint
from tasks.cluster.rdma import cables
from tasks.cluster.server import logs
from tasks.cluster.ssh import scripts

SAMPLES = ROOT.parent / "shared" / "macos-samples"
UNKNOWN = "unknown"
GIB = 1024**3


@pytest.fixture
def samples() -> Path:
    require(SAMPLES.is_dir(), f"needs real outputs of macOS in {SAMPLES}")
    return SAMPLES


# Readers: a sample and its exit status -> what is compared. They raise ValueError for "unknown".


def _memsize(text: str, status: int) -> int:
    """The total as it is read from this sysctl and a vm_stat after it."""
    rest = "Mach Virtual Memory Statistics: (page size of 16384 bytes)\nPages wired down:  7.\n"
    return memory.parse(text + rest, 0).total


def _memory(text: str, status: int) -> tuple[float, float]:
    """(wired, total) in GiB, as memory.FACT reads this vm_stat on a Mac of 512 GiB."""
    found = memory.parse(f"{512 * GIB}\n{text}", status)
    return round(found.wired / GIB, 1), found.total / GIB


def _boottime(text: str, status: int) -> str:
    """What the state directory's script makes of it."""
    sed = re.search(r"sysctl -n kern.boottime \| sed '([^']*)'", scripts.text("prelude.sh"))
    assert sed
    done = subprocess.run(["sed", sed[1]], input=text, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def _devinfo(text: str, status: int) -> dict[str, Any]:
    found = rdma.parse_devinfo(text, status)
    return {
        name.removeprefix("rdma_"): (device.state, device.ipv4_gids, len(device.gids))
        for name, device in found.items()
    }


def _limits(text: str, status: int) -> list[tuple[int | None, int | None]]:
    found = rdma.parse_devinfo(text, status)
    return [(device.max_pd, device.max_qp) for device in found.values()]


def _interfaces(text: str, status: int) -> dict[str, Any]:
    """The interfaces that are active, or have an address or members."""
    found = rdma.parse_interfaces(text, status)
    return {
        each.name: (each.status, " ".join(map(str, each.addresses)), " ".join(each.members))
        for each in found.values()
        if each.status == "active" or each.addresses or each.members
    }


def _count(text: str, status: int) -> int:
    return len(rdma.parse_interfaces(text, status))


def _lsof(text: str, status: int) -> dict[int, list[str]]:
    """Port -> its holders, where a table of listeners has these ports."""
    numbers = sorted({int(port) for port in re.findall(r":(\d+)(?: \(LISTEN\))?$", text, re.M)})
    rows = "".join(f"tcp4  0  0  *.{port}   *.*   LISTEN\n" for port in numbers)
    table = f"== table\nProto  Local Address  (state)\n{rows}== whole\n== lsof\n"
    found = ports.parse(table + text, 0)
    return {port: [str(holder) for holder in holders] for port, holders in found.items()}


def _listed(text: str, status: int) -> dict[int, processes.Process]:
    """Any kind of ps with titles, as processes.FACT would print it."""
    titles, *rows = text.splitlines()
    names = titles.split()
    last = len(names) - 1
    programs, lines = [], []
    for row in rows:
        cell = dict(zip(names, row.split(None, last), strict=False))
        command = cell.get("COMMAND", cell.get("CMD", ""))
        programs.append(f"{cell['PID']} {command.split(' ')[0]}")
        lines.append(
            f"{cell['PID']} {cell.get('PPID', 0)} {cell.get('PGID', 0)}"
            f" {cell.get('RSS', 0)} {command}"
        )
    whole = ["== programs", *programs, "== processes", *lines, "== end"]
    return processes.parse("\n".join(whole), status)


def _servers(text: str, status: int) -> tuple[int, list[int]]:
    """(processes, pids of the servers among them)."""
    found = _listed(text, status)
    serves = {"process": r"-m (mlx_lm\.server|vllm_mlx\.cli serve)( |$)"}
    known = engine.engines({"vllm-mlx": serves})["vllm-mlx"]
    servers = [each.pid for each in found.values() if known.is_server(each.program, each.command)]
    return len(found), servers


def _server_row(text: str, status: int) -> Any:
    """A row of `ps aux` without titles; its author cut the path of the program."""
    titles = "USER PID %CPU %MEM VSZ RSS TT STAT STARTED TIME COMMAND\n"
    return _servers(titles + text.replace(".../", "/opt/"), status)


def _build(text: str, status: int) -> str:
    """The build, as `sw_vers -buildVersion` prints it before python's versions."""
    build = re.search(r"^BuildVersion:\s*(.*)$", text, re.M)
    assert build
    said = {"python": "3.14.0", "mlx": "0.32.4", "mlx-lm": None}
    return versions.parse(f"{build[1]}\n{json.dumps(said)}\n", status)["os"]


def _ports(text: str, status: int) -> list[Any]:
    """(receptacle, speed, top, number of peers, devices) of each port."""
    found = thunderbolt.parse_ports(text, status)
    return [(p.receptacle, p.speed, p.top, len(p.peers), p.devices) for p in found]


def _routes(text: str, status: int) -> list[str]:
    """The networks (not single addresses) with interface and gateway."""
    found = [each for each in routes.parse(text, status) if each.network.prefixlen < 32]
    return [f"{each.network} {each.interface} {each.gateway or ''}".strip() for each in found]


def _ping(text: str, status: int) -> Any:
    return ping.parse(f"ping 10.0.0.1\n{text.rstrip()}\nstatus {status}\n", 0)["10.0.0.1"]


def _log(text: str, status: int) -> Any:
    """(the first error, what to do about it)."""
    lines = [re.sub(r"\x1b\[[\d;]*m", "", line) for line in text.replace("\r", "\n").split("\n")]
    error = first_error(lines)
    known = hint([error or ""])
    return error, known.remedy.split(" (")[0].split(";")[0] if known else None


def _hint(text: str, status: int) -> str | None:
    """What the first known line means."""
    known = hint(text.splitlines())
    return known.cause if known else None


Reader = Callable[[str, int], Any]
READERS: Mapping[str, Reader] = {
    "vm_stat": lambda text, status: memory.vm_stat(text),
    "memory": _memory,
    "memsize": _memsize,
    "boottime": _boottime,
    "ibv_devices": rdma.parse_devices,
    "ibv_devinfo": _devinfo,
    "limits": _limits,
    "interfaces": _interfaces,
    "count": _count,
    "rdma_enabled": rdma.parse_enabled,
    "lsof": _lsof,
    "processes": processes.parse,
    "servers": _servers,
    "server row": _server_row,
    "build": _build,
    "versions": versions.parse,
    "thunderbolt": _ports,
    "hardware_ports": thunderbolt.parse_hardware_ports,
    "routes": _routes,
    "ping": _ping,
    "log": _log,
    "hint": _hint,
    "power": power.parse,
    "sudo": sudo.parse,
}

# Rows: file (in the samples' folder), reader, exit status, expected value or UNKNOWN.

SIX = {f"Thunderbolt {n}": f"en{n + 1}" for n in range(1, 7)}
BRIDGED = " ".join(f"en{n}" for n in range(2, 8))
ALL_DOWN = ("PORT_DOWN", (), 0)
EMPTY = (None, 120, 0, ())
RETRY = "inv rdma.status"
RTR22 = "[jaccl] Changing queue pair to RTR failed with errno 22"
RTR96 = "[jaccl] Changing queue pair to RTR failed with errno 96"
RECV2 = "RuntimeError: [jaccl] Recv failed with errno=2"
EARLIEST = "look for the earliest error of all ranks"
CRASHED = "crashed with critical exception " + RTR22
NO_GID = (
    "[jaccl] No IPv4-mapped GID for this device. Thunderbolt RDMA ports only publish one once the"
    " interface has an IPv4 address; assign a link-local address to it, for example: ifconfig"
    " <interface> inet 169.254.0.1 netmask 255.255.0.0 alias"
)
QUEUE_PAIR = (
    "[jaccl] Creating the queue pair failed with errno 16. Thunderbolt RDMA devices support a"
    " limited number of queue pairs per device and fail here once they are exhausted."
)
METAL = (
    "libc++abi: terminating due to uncaught exception of type std::runtime_error: [METAL] Command"
    " buffer execution failed: Insufficient Memory"
    " (00000008:kIOGPUCommandBufferCallbackErrorOutOfMemory)"
)

Row = tuple[str, str, int, Any]
MEMORY: list[Row] = [
    ("vm_stat_16gb_wide_first9.txt", "vm_stat", 0, (123968, 16384)),
    ("vm_stat_intel_4096_full.txt", "vm_stat", 0, (715958, 4096)),
    ("vm_stat_m3pro_18gb_2026-09_trimmed_wide.txt", "vm_stat", 0, (106180, 16384)),
    ("vm_stat_m3ultra_512gb_macos26_2026-02_first7.txt", "memory", 0, (21.9, 512.0)),
    ("vm_stat_m3ultra_512gb_macos26_2026-02_first7.txt", "memory", 1, UNKNOWN),
    ("vm_stat_macmini_32gb_2026-05_full_narrow.txt", "memory", 0, (2.2, 512.0)),
    ("derived/vm_stat_m3ultra_512gb_leaked_wired_no_process.txt", "memory", 0, (400.0, 512.0)),
    ("derived/vm_stat_m3ultra_512gb_wired_316GiB.txt", "memory", 0, (316.0, 512.0)),
    ("derived/vm_stat_m3ultra_512gb_wired_idle_9GiB.txt", "memory", 0, (9.0, 512.0)),
    ("sysctl_n_m3ultra_hw_memsize.txt", "memsize", 0, 512 * GIB),
    ("sysctl_m3ultra_512gb_macos27_synthetic_values.txt", "memsize", 0, 512 * GIB),
    ("sysctl_selected_osx10.14.6_intel.txt", "memsize", 0, 16 * GIB),
    ("sysctl_memory_pressure_macos26.5_24gb.txt", "memsize", 0, UNKNOWN),
    ("sysctl_boottime_m5_macos26.5.txt", "memsize", 0, UNKNOWN),
    ("sysctl_boottime_m5_macos26.5.txt", "boottime", 0, "1778065444"),
    # The exit status counts the names that are unknown; the known ones are still printed.
    ("derived/sysctl_hw_ok_iogpu_unknown_STDOUT_rc1.txt", "memsize", 1, 512 * GIB),
    ("derived/sysctl_iogpu_unknown_oid_STDERR_rc1.txt", "memsize", 1, UNKNOWN),
    ("derived/sysctl_three_ok_wired_default0.txt", "memsize", 0, 512 * GIB),
    ("derived/sysctl_three_ok_wired_set.txt", "memsize", 0, 512 * GIB),
]

RDMA: list[Row] = [
    ("rdma_ctl_status_enabled.txt", "rdma_enabled", 0, True),
    ("rdma_ctl_status_disabled.txt", "rdma_enabled", 0, False),
    ("ibv_devices_empty_header_only_macos27_rdma_disabled.txt", "ibv_devices", 0, ()),
    ("ibv_devices_empty_tb4_rdma_enabled_omlx3037.txt", "ibv_devices", 0, ()),
    (
        "ibv_devices_m3ultra_macos26_2026-02_6dev_spaces.txt",
        "ibv_devices",
        0,
        ("rdma_en2", "rdma_en3", "rdma_en4", "rdma_en5", "rdma_en6", "rdma_en7"),
    ),
    (
        "ibv_devices_m3ultra_mlxdocs_6dev.txt",
        "ibv_devices",
        0,
        ("rdma_en2", "rdma_en3", "rdma_en5", "rdma_en4", "rdma_en6", "rdma_en7"),
    ),
    (
        "ibv_devices_m4pro_mini_TN3205.txt",
        "ibv_devices",
        0,
        ("rdma_en2", "rdma_en3", "rdma_en4"),
    ),
    (
        "ibv_devices_m5max_macos26.5.2_2dev_spaces.txt",
        "ibv_devices",
        0,
        ("rdma_en1", "rdma_en2"),
    ),
    (
        "ibv_devinfo_6dev_rdma_en7_PORT_ACTIVE_darkbloom.txt",
        "ibv_devinfo",
        0,
        {**{f"en{n}": ALL_DOWN for n in range(2, 7)}, "en7": ("PORT_ACTIVE", (), 0)},
    ),
    # Killed at our limit: what it has printed until then is not all.
    ("ibv_devinfo_6dev_rdma_en7_PORT_ACTIVE_darkbloom.txt", "ibv_devinfo", 142, UNKNOWN),
    (
        "ibv_devinfo_TN3205_PORT_ACTIVE_excerpt.txt",
        "ibv_devinfo",
        0,
        dict.fromkeys(("en2", "en3", "en4"), ("PORT_ACTIVE", (), 0)),
    ),
    (
        "ibv_devinfo_m3ultra_macos26_excerpt_active.txt",
        "ibv_devinfo",
        0,
        {"en3": ("PORT_ACTIVE", (), 0)},
    ),
    (
        "ibv_devinfo_m5max_mbp_macos27_all_PORT_DOWN.txt",
        "ibv_devinfo",
        0,
        dict.fromkeys(("en1", "en6", "en2"), ALL_DOWN),
    ),
    ("ibv_devinfo_no_devices.txt", "ibv_devinfo", 255, {}),
    ("ibv_devinfo_v_gid_linklocal_only_mlx3467.txt", "ibv_devinfo", 0, {"en3": (None, (), 2)}),
    ("ibv_devinfo_v_limits_max_pd_11_excerpt.txt", "limits", 0, [(11, 11)]),
    (
        "ibv_devinfo_v_rdma_en6_no_ipv4_mapped_gid_darkbloom.txt",
        "ibv_devinfo",
        0,
        {"en6": ("PORT_ACTIVE", (), 2)},
    ),
    (
        "ibv_devinfo_v_rdma_en7_with_ipv4_mapped_gid_darkbloom.txt",
        "ibv_devinfo",
        0,
        {"en7": ("PORT_ACTIVE", ("192.0.2.10",), 5)},
    ),
    ("ibv_devinfo_v_rdma_en7_with_ipv4_mapped_gid_darkbloom.txt", "limits", 0, [(None, 3)]),
]

INTERFACES: list[Row] = [
    ("derived/ifconfig_missing_interface_STDERR_rc1.txt", "interfaces", 1, UNKNOWN),
    (
        "ifconfig_a_m3max_mbp_sonoma14.4_head.txt",
        "interfaces",
        0,
        {"lo0": (None, "127.0.0.1/8", "")},
    ),
    ("ifconfig_a_m3max_mbp_sonoma14.4_head.txt", "count", 0, 8),
    (
        "ifconfig_a_macA_unbridged_ready_darkbloom.txt",
        "interfaces",
        0,
        {
            "lo0": (None, "127.0.0.1/8", ""),
            "en0": ("active", "192.0.2.50/24", ""),
            "en7": ("active", "192.0.2.10/24", ""),
        },
    ),
    (
        "ifconfig_a_osx10.14.6_macbook2.txt",
        "interfaces",
        0,
        {
            "lo0": (None, "127.0.0.1/8", ""),
            "en5": ("active", "", ""),
            "en0": ("active", "192.168.1.221/24", ""),
            "awdl0": ("active", "", ""),
            "bridge0": ("inactive", "", "en1 en2 en3 en4"),
            "vmnet1": (None, "192.168.101.1/24", ""),
            "vmnet8": (None, "192.168.71.1/24", ""),
        },
    ),
    ("ifconfig_a_osx10.14.6_macbook2.txt", "count", 0, 21),
    ("ifconfig_a_osx10.14.6_macbook2.txt", "interfaces", 1, UNKNOWN),
    (
        "ifconfig_a_osx10.14.6_macbook_bridge0_5ports.txt",
        "interfaces",
        0,
        {
            "lo0": (None, "127.0.0.1/8", ""),
            "en5": ("active", "", ""),
            "en0": ("active", "192.168.1.72/24", ""),
            "awdl0": ("active", "", ""),
            "bridge0": ("inactive", "", "en1 en2 en3 en4"),
        },
    ),
    (
        "ifconfig_bridge0_active_inet_6members_darkbloom.txt",
        "interfaces",
        0,
        {"bridge0": ("active", "192.0.2.20/24", BRIDGED)},
    ),
    (
        "ifconfig_bridge0_macbook_msilicon_inactive_tabs.txt",
        "interfaces",
        0,
        {"bridge0": ("inactive", "", "en1 en2")},
    ),
    (
        "ifconfig_bridge0_tb_selfassigned_169254_article.txt",
        "interfaces",
        0,
        {"bridge0": ("active", "169.254.212.44/16", "en5 en6")},
    ),
    (
        "ifconfig_bridge100_vm_active_inet_members.txt",
        "interfaces",
        0,
        {"bridge100": ("active", "10.211.55.2/24", "vmenet0 vmenet2")},
    ),
    (
        "ifconfig_en0_verbose_v_flag.txt",
        "interfaces",
        0,
        {"en0": ("active", "192.168.18.201/24", "")},
    ),
    ("ifconfig_en5_tb_inactive_darkbloom.txt", "interfaces", 0, {}),
    ("ifconfig_en5_tb_inactive_darkbloom.txt", "count", 0, 1),
    (
        "ifconfig_en6_macos12.3_tb_ethernet_active.txt",
        "interfaces",
        0,
        {"en6": ("active", "192.168.1.3/24", "")},
    ),
    (
        "ifconfig_en6_tb_active_no_ipv4_bridged_darkbloom.txt",
        "interfaces",
        0,
        {"en6": ("active", "", "")},
    ),
    (
        "ifconfig_en7_tb_active_ipv4_darkbloom.txt",
        "interfaces",
        0,
        {"en7": ("active", "192.0.2.10/24", "")},
    ),
    (
        "ifconfig_macmini_m4_2026-02_full_8spaces.txt",
        "interfaces",
        0,
        {
            "lo0": (None, "127.0.0.1/8", ""),
            "en0": ("active", "10.254.100.2/16", ""),
            "bridge0": ("inactive", "", "en2 en3 en4"),
            "en1": ("active", "192.168.100.2/24", ""),
            "awdl0": ("active", "", ""),
            "en8": ("active", "192.168.2.100/24", ""),
        },
    ),
    # Cut to pieces by grep: bridge0 seems to have no members, although six ports are in it.
    ("ifconfig_macstudio_6tb_2025-09_grepA1_bridged_promisc.txt", "interfaces", 0, UNKNOWN),
]

THUNDERBOLT: list[Row] = [
    ("sp_thunderbolt_json_empty.json", "thunderbolt", 0, []),
    (
        "sp_thunderbolt_json_m3ultra_macstudio_6bus_1peer_1drive.json",
        "thunderbolt",
        0,
        [
            ("6", *EMPTY),
            ("5", *EMPTY),
            ("4", 80, None, 0, ("Envoy Ultra",)),
            ("3", *EMPTY),
            ("2", 80, None, 1, ()),
            ("1", *EMPTY),
        ],
    ),
    ("sp_thunderbolt_json_m4max_mbp_1bus_no_peer.json", "thunderbolt", 0, [("1", *EMPTY)]),
    (
        "sp_thunderbolt_json_m5max_macos27_local_rdma_disabled_dock.json",
        "thunderbolt",
        0,
        [("3", 80, None, 0, ("SB-XTM5",)), ("2", 80, None, 1, ()), ("1", *EMPTY)],
    ),
    (
        "sp_thunderbolt_json_m5max_macos27_peer_rdma_enabled_tb3drive.json",
        "thunderbolt",
        0,
        [("3", 40, None, 0, ("TBU405Pro",)), ("2", 80, None, 1, ()), ("1", *EMPTY)],
    ),
    (
        "sp_thunderbolt_json_m5max_mbp_3bus_peer_macstudio.json",
        "thunderbolt",
        0,
        [("3", *EMPTY), ("2", *EMPTY), ("1", 80, None, 1, ())],
    ),
    ("sp_thunderbolt_json_m5max_mbp_3bus_peer_macstudio.json", "thunderbolt", 142, UNKNOWN),
    ("sp_thunderbolt_text_macmini_node2_exo1390_partial.txt", "thunderbolt", 0, UNKNOWN),
    (
        "networksetup_listallhardwareports_2020_intel_mbp.txt",
        "hardware_ports",
        0,
        {"Thunderbolt 1": "en1", "Thunderbolt 2": "en2"},
    ),
    (
        "networksetup_listallhardwareports_m3ultra_studio_6tb_no_bridge_trimmed.txt",
        "hardware_ports",
        0,
        SIX,
    ),
    (
        "networksetup_listallhardwareports_m4max_mbp_trimmed.txt",
        "hardware_ports",
        0,
        {"Thunderbolt 1": "en1", "Thunderbolt 2": "en2", "Thunderbolt 3": "en3"},
    ),
    ("networksetup_listallhardwareports_macA_6tb_2026-10.txt", "hardware_ports", 0, SIX),
    (
        "networksetup_listallhardwareports_macB_bridge_2026-10.txt",
        "hardware_ports",
        0,
        {"Thunderbolt 1": "en1", "Thunderbolt 2": "en6", "Thunderbolt 3": "en2"},
    ),
]

NETWORK: list[Row] = [
    (
        "netstat_rn_macstudio_6tb_2025-09_excerpt.txt",
        "routes",
        0,
        [
            "0.0.0.0/0 en1 192.168.68.1",
            "0.0.0.0/0 utun4",
            "0.0.0.0/0 bridge100",
            "0.0.0.0/0 bridge101",
            "127.0.0.0/8 lo0 127.0.0.1",
            "169.254.0.0/16 en1",
            "192.168.68.0/22 en1",
            "224.0.0.0/4 en1",
        ],
    ),
    ("netstat_rn_macstudio_6tb_2025-09_excerpt.txt", "routes", 1, UNKNOWN),
    (
        "netstat_rnl_osx10.14.6.txt",
        "routes",
        0,
        [
            "0.0.0.0/0 en0 192.168.1.254",
            "127.0.0.0/8 lo0 127.0.0.1",
            "169.254.0.0/16 en0",
            "192.168.1.0/24 en0",
            "192.168.71.0/24 vmnet8",
            "192.168.101.0/24 vmnet1",
            "224.0.0.0/4 en0",
        ],
    ),
    ("derived/ping_c1_ok_rc0.txt", "ping", 0, Ping(True, 0.412, 0.412, 0.412)),
    ("derived/ping_c1_timeout_rc2.txt", "ping", 2, Ping(False)),
    ("derived/ping_unknown_host_STDERR_rc68.txt", "ping", 68, Ping(False)),
    ("ping_macos_W3000_c2_timeout.txt", "ping", 2, Ping(False)),
    # It came too late: the exit status says so, the text says "received".
    ("ping_macos_W_out_of_wait_time.txt", "ping", 2, Ping(False, 7.013, 7.013, 7.013)),
    ("ping_macos_sendto_no_route_excerpt.txt", "ping", 2, Ping(False)),
    ("ping_osx10.14.6_host_unreachable.txt", "ping", 2, Ping(False)),
    ("ping_osx10.14.6_hostname.txt", "ping", 0, Ping(True, 28.042, 34.67, 41.182)),
    ("ping_osx10.14.6_ok_3of3.txt", "ping", 0, Ping(True, 0.05, 0.066, 0.095)),
]

# Without `-F pcn` lsof tells us nothing of who holds a port; that it is taken, the table does.
UNNAMED = ["another user's process"]
PROCESSES: list[Row] = [
    ("lsof_F_pcn_airplay_fields_test.txt", "lsof", 0, {5000: ["node (pid 999999993)"]}),
    ("lsof_no_match_stdout_EMPTY_rc1.txt", "lsof", 1, {}),
    ("lsof_linux_contrast_noheader.txt", "lsof", 0, {8000: UNNAMED}),
    ("lsof_python_8081_macos26.5.txt", "lsof", 0, {8081: UNNAMED}),
    ("lsof_shared_socket_two_pids_noheader.txt", "lsof", 0, {8003: UNNAMED}),
    ("lsof_without_nP_localhost_ipv4_ipv6_noheader.txt", "lsof", 0, {18789: UNNAMED}),
    (
        "lsof_listen_many_mac15,9_darwin25.5.txt",
        "lsof",
        0,
        dict.fromkeys((3000, 5000, 7000, 8000, 8001, 11434, 16607, 49153, 53953, 61119), UNNAMED),
    ),
    # mlx.launch, its bash and its ssh carry the server's command line too: one is the server.
    ("derived/ps_axo_cluster_node_with_launcher_and_ssh.txt", "servers", 0, (9, [4130])),
    ("derived/ps_axo_cluster_node_with_launcher_and_ssh.txt", "processes", 0, UNKNOWN),
    ("ps_aux_mlx_lm_server_m3ultra.txt", "server row", 0, (1, [62283])),
    ("ps_axu_osx10.14.6.txt", "servers", 0, (377, [])),
    ("ps_ef_osx10.14.6.txt", "servers", 0, (377, [])),
    ("ps_pid_ppid_pgid_orphan_ppid1.txt", "servers", 0, (1, [])),
    ("ps_p_pid_ppid_command_orphan_bash.txt", "processes", 0, UNKNOWN),
    ("sw_vers_macos26.3.txt", "build", 0, "25D125"),
    ("sw_vers_macos26.3_beta.txt", "build", 0, "25D5087f"),
    ("sw_vers_macos26.4.1.txt", "build", 0, "25E253"),
    ("sw_vers_macos26.4.txt", "build", 0, "25E246"),
    ("sw_vers_macos26.5.txt", "build", 0, "25F71"),
    ("sw_vers_macos26.5.txt", "versions", 0, UNKNOWN),
    ("sw_vers_macos26.6.2.txt", "build", 0, "25G83"),
    ("sw_vers_osx10.15.5.txt", "build", 0, "19F101"),
]

COULD_NOT = "[jaccl] Couldn't allocate protection domain"
NEEDS_CABLE = "inv rdma.status: a port that is down needs its cable"
LOGS: list[Row] = [
    (
        "jaccl_err_couldnt_connect_60.txt",
        "log",
        0,
        (
            "RuntimeError: [jaccl] Couldn't connect (error: 60)",
            "check ips in the hostfile and the cable: inv rdma.ping",
        ),
    ),
    ("jaccl_err_no_ipv4_gid_mlx4191.txt", "log", 0, (NO_GID, "inv rdma.setup")),
    ("jaccl_err_pd_exo2111.txt", "log", 0, (COULD_NOT, NEEDS_CABLE)),
    (
        "jaccl_err_post_recv_minus12_mlxlm1737.txt",
        "log",
        0,
        (
            "_pickle.UnpicklingError: invalid load key",
            "one request at a time",
        ),
    ),
    # Its author joined three lines of different ranks; the first of them counts.
    (
        "jaccl_err_post_recv_minus12_mlxlm1737.txt",
        "hint",
        0,
        "ranks read each other's messages wrongly: two requests at once, or ranks of different"
        " versions",
    ),
    ("jaccl_err_qp_create_errno16_mlx4209.txt", "log", 0, (QUEUE_PAIR, "wait 30 s")),
    ("jaccl_err_recv_errno2_exo1847.txt", "log", 0, (RECV2, EARLIEST)),
    (
        "jaccl_err_recv_errno60_exo1847.txt",
        "log",
        0,
        (
            "RuntimeError: [jaccl] Recv failed with errno=60",
            "check ips in the hostfile and the cable: inv rdma.ping",
        ),
    ),
    (
        "jaccl_err_rtr_errno22_exo1847.txt",
        "log",
        0,
        (f"ValueError: {RTR22}", "inv rdma.setup"),
    ),
    (
        "jaccl_log_exo1390_rank0_rtr_errno22.txt",
        "log",
        0,
        (
            "[ 05:21:08.2314AM | WARNING ] Runner dcc00b3f-8ffc-458d-a577-78b2afc53d27 " + CRASHED,
            "inv rdma.setup",
        ),
    ),
    (
        "jaccl_log_exo1390_rank1_rtr_errno22.txt",
        "log",
        0,
        (
            "[ 05:21:08.2359AM | WARNING ] Runner 66b6189d-8142-48d8-9f1f-3fb17097533d " + CRASHED,
            "inv rdma.setup",
        ),
    ),
    ("jaccl_log_exo2067_recv_errno2_traceback.txt", "log", 0, (RECV2, EARLIEST)),
    (
        "jaccl_log_omlx_probe_stdout_vs_stderr.txt",
        "log",
        0,
        (f"oMLX performance probe failed: ValueError: {RTR96}", RETRY),
    ),
    (
        "jaccl_log_tokenity_errno96_launch_warn_metal_timeout.txt",
        "log",
        0,
        (f"Tokenity distributed runtime failed: {RTR96}", RETRY),
    ),
    ("derived/mlx_launch_pty_merged_crlf_stdout.txt", "log", 0, (RECV2, EARLIEST)),
    (
        "mlx_distributed_config_rdma_not_enabled_mlx3777.txt",
        "log",
        0,
        (
            "[ERROR] <host> does not seem to have RDMA enabled",
            "rdma_ctl enable in macOS Recovery on that Mac, then rdma_ctl status",
        ),
    ),
    ("mlx_launch_stderr_ansi_info_completed_verbose_source.txt", "log", 0, (None, None)),
    ("mlx_launch_stderr_ansi_warn_killed_source.txt", "log", 0, (None, None)),
    ("mlx_launch_stderr_ansi_warn_rank1_exit1_source.txt", "log", 0, (None, None)),
    ("server_mlx_lm_clean_httpd.log", "log", 0, (None, None)),
    (
        "server_mlx_lm_httpd_then_load_failure.log",
        "log",
        0,
        (
            "ModuleNotFoundError: No module named 'mlx_lm.models.deepseek_v4'",
            "update mlx-lm on all nodes, or choose another model",
        ),
    ),
    (
        "server_mlx_lm_httpd_then_metal_oom.log",
        "log",
        0,
        (METAL, "a smaller model or context, or more nodes"),
    ),
    ("server_mlx_lm_jang_loaded_before_httpd.log", "log", 0, (None, None)),
    ("server_uvicorn_normal_order.log", "log", 0, (None, None)),
    ("server_uvicorn_reload_order_running_first.log", "log", 0, (None, None)),
    (
        "server_uvicorn_reload_running_but_import_error.log",
        "log",
        0,
        (
            'ERROR:    Error loading ASGI app. Could not import module "main".',
            "check what you gave after --, and python",
        ),
    ),
    (
        "ssh_stderr_no_route_local_network.txt",
        "hint",
        255,
        "the node can't be reached by SSH: it is off or asleep, Remote Login is off, or macOS's"
        " Local Network privacy refuses this terminal",
    ),
]
HOSTS: list[Row] = [
    ("pmset_g_2022_SleepDisabled0.txt", "power", 0,
     Power(1, ("powerd", "coreaudiod", "bluetoothd", "sharingd"))),
    ("pmset_g_2026-09_SleepDisabled1_all_prevented.txt", "power", 0,
     Power(0, ("sharingd", "powerd", "caffeinate", "Claude", "mds_stores", "coreaudiod"))),
    ("pmset_g_2026_taurine_sleep1_displaynote.txt", "power", 0, Power(1, ("caffeinate", "powerd"))),
    ("pmset_g_macos26_DestroyFVKey_nosleepdisabled.txt", "power", 0,
     Power(1, ("powerd", "coreaudiod", "caffeinate"))),
    ("pmset_g_grep_sleep_powernap_2026-09.txt", "power", 0,
     Power(1, ("caffeinate", "sharingd", "powerd", "Claude"))),
    ("shell_stderr_sudo_n.txt", "sudo", 1, False),
    ("shell_stderr_sudo_no_tty.txt", "sudo", 1, False),
]  # fmt: skip
ROWS = [*HOSTS, *MEMORY, *RDMA, *INTERFACES, *THUNDERBOLT, *NETWORK, *PROCESSES, *LOGS]

NOT_READ = {
    "sources.md": "says where the samples come from",
    "derived/ps_etime_forms.txt": "uptime is counted from the record's start",
    "derived/route_get_*": "routes are read from the whole table",
    "derived/uptime_*": "a boot is known by its UUID or time",
    "footprint_*": "asked only while a rank ends (stop/signal.sh): unit/cluster/test_stop.py",
    "memory_pressure_*": "memory is read by vm_stat",
    "networksetup_getinfo_*": "addresses are read by ifconfig",
    "networksetup_list*network*": "interfaces are read from -listallhardwareports",
    "pgrep_*": "processes are read by ps: pgrep differs by system",
    "ps_lstart_*": "lstart is compared, by LC_ALL=C, and never parsed",
    "route_get_*": "routes are read from the whole table",
    "shell_bash_version_*": "scripts are for /bin/sh",
    "shell_stderr_nohup_*": "ranks are detached without nohup",
    "shell_stderr_stat_c_*": "stat is not used",
    "shell_stderr_timeout_*": "limits are set by perl's alarm: there is no timeout",
    "shell_stderr_zsh_*": "scripts go to /bin/sh, never to the user's shell",
    "ssh_noninteractive_*": "what PATH is there is told to users, not parsed",
    "stat_default_*": "stat is not used",
    "uptime_*": "a boot is known by its UUID or time",
}


def _files(folder: Path) -> list[str]:
    return sorted(str(f.relative_to(folder)) for f in folder.rglob("*") if f.is_file())


def _text(path: Path) -> str:
    # As from a node: bytes that are no UTF-8 don't stop the reading, line ends are kept.
    return path.read_bytes().decode("utf-8", "replace")


@pytest.mark.parametrize(
    ("name", "reader", "status", "expected"), ROWS, ids=[f"{r[0]} {r[1]} {r[2]}" for r in ROWS]
)
def test_sample(samples: Path, name: str, reader: str, status: int, expected: Any) -> None:
    text = _text(samples / name)
    if expected == UNKNOWN:
        with pytest.raises(ValueError, match=r"\w"):
            READERS[reader](text, status)
    else:
        assert READERS[reader](text, status) == expected


def test_every_sample_is_accounted_for(samples: Path) -> None:
    read = {row[0] for row in ROWS}
    skipped = {
        name: [pattern for pattern in NOT_READ if fnmatch.fnmatch(name, pattern)]
        for name in _files(samples)
    }
    assert [name for name in _files(samples) if name not in read and not skipped[name]] == []
    assert [name for name in read if skipped.get(name)] == []
    assert read <= set(_files(samples))
    used = {pattern for patterns in skipped.values() for pattern in patterns}
    assert set(NOT_READ) == used


# Every parser as it is, and the samples that are of its kind; all others it must refuse.
PARSERS: Mapping[str, tuple[Reader, tuple[str, ...]]] = {
    "power": (power.parse, ("pmset_*",)),
    "firewall": (firewall.parse, ()),
    "clock": (clock.parse, ()),
    "memory": (memory.parse, ()),
    "model": (model.parse, ()),
    "ports": (ports.parse, ()),
    "processes": (processes.parse, ()),
    "versions": (versions.parse, ()),
    "state": (state.parse, ()),
    "rdma_enabled": (rdma.parse_enabled, ("rdma_ctl_*",)),
    "ibv_devices": (rdma.parse_devices, ("ibv_devices_*",)),
    "ibv_devinfo": (rdma.parse_devinfo, ("ibv_devinfo_*",)),
    "interfaces": (rdma.parse_interfaces, ("ifconfig_*",)),
    # Any JSON is read, and then is not the hostfile's matrix.
    "matrix": (rdma.parse_matrix, ("sp_thunderbolt_json_*", "rdma_ctl_*")),
    "thunderbolt": (thunderbolt.parse_ports, ("sp_thunderbolt_json_*",)),
    "hardware_ports": (
        thunderbolt.parse_hardware_ports,
        ("networksetup_listallhardwareports_*",),
    ),
    "routes": (routes.parse, ("netstat_rn*",)),
    "gpu": (gpu.parse, ()),
    "split": (split.parse, ()),
    "place": (files.parse_place, ()),
}


@pytest.mark.parametrize("parser", PARSERS)
def test_wrong_kind_is_unknown(samples: Path, parser: str) -> None:
    parse, kinds = PARSERS[parser]
    for name in _files(samples):
        if any(fnmatch.fnmatch(name, kind) for kind in kinds):
            continue
        for status in (0, 1):
            try:
                value = parse(_text(samples / name), status)
            except ValueError:
                continue
            pytest.fail(f"{parser} takes {name} for {value!r}")


def test_any_text_is_a_log(samples: Path) -> None:
    """No line of any sample upsets what reads logs, and pieces of logs need their marks."""
    for name in _files(samples):
        text = _text(samples / name)
        assert logs.parse("mac1", text, "nonce") == []
        hint(text.splitlines())
        first_error(text.splitlines())
        assert ping.parse(text, 0) == {}


REAL_PAIRS = [
    (
        ("m5max_mbp_3bus_peer_macstudio", "m4max_mbp_trimmed"),
        ("m3ultra_macstudio_6bus_1peer_1drive", "m3ultra_studio_6tb_no_bridge_trimmed"),
        ("en1", "en3", 80),
    ),
    # One of them has a dock, the other a drive at 40 Gb/s; Thunderbolt 2 is en6 there.
    (
        ("m5max_macos27_local_rdma_disabled_dock", "macB_bridge_2026-10"),
        ("m5max_macos27_peer_rdma_enabled_tb3drive", "macB_bridge_2026-10"),
        ("en6", "en6", 80),
    ),
]


@pytest.mark.parametrize(("one", "two", "expected"), REAL_PAIRS)
def test_real_macs_that_are_cabled(
    samples: Path, one: tuple[str, str], two: tuple[str, str], expected: tuple[str, str, int]
) -> None:
    """Outputs of two Macs, taken at the same time: one cable, and nothing odd."""
    facts = {}
    for host, (profile, names) in (("mac1", one), ("mac2", two)):
        said = _text(samples / f"sp_thunderbolt_json_{profile}.json")
        listed = _text(samples / f"networksetup_listallhardwareports_{names}.txt")
        values: dict[Any, object] = {
            thunderbolt.KEY: thunderbolt.parse_ports(said, 0),
            thunderbolt.HARDWARE_PORTS: thunderbolt.parse_hardware_ports(listed, 0),
        }
        facts[host] = NodeFacts(host, values)
    found, findings = cables.cables(facts)
    assert [(c.a.interface, c.b.interface, c.speed) for c in found] == [expected]
    assert findings == []
