"""The rig itself: hosts that are separate, macOS commands that answer as a Mac's, faults that show.

Commands are read with this project's own parsers and, where the samples of real Macs are at hand,
compared with those line by line.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from conftest import AS_NOBODY, DEADLINE, LISTENS, ROOT, Inv, require, wait_for
from invoke.exceptions import Exit
from rig import (
    FAULTS,
    PORTS,
    Cable,
    Rig,
    machine,
    mesh,
    names,
    network,
    ring,
    sweep,
    two_cables,
    two_nodes,
)

from tasks import local
from tasks.cluster import facts
from tasks.cluster.facts import Fact
from tasks.cluster.facts.links import rdma, routes
from tasks.cluster.facts.machine import memory, ports, processes
from tasks.cluster.facts.machine.memory import GIB

FACTS = {fact.name: fact for fact in (*rdma.FACTS, memory.FACT, ports.FACT, processes.FACT)}
NONCE = "0123abcd"


def ssh(rig: Rig, *words: str) -> subprocess.CompletedProcess[str]:
    """The real client, with the configuration that the rig wrote."""
    line = ["ssh", "-F", str(rig.ssh_config), *words]
    return subprocess.run(line, capture_output=True, text=True, timeout=DEADLINE, check=False)


def read(rig: Rig, host: str, name: str | Fact[Any]) -> Any:
    """A fact of a host, as the tasks read it."""
    fact = FACTS[name] if isinstance(name, str) else name
    done = rig.run(host, ["/bin/sh", "-s"], input=facts.script([fact], NONCE))
    return facts.read([fact], done.stdout, NONCE).get(fact.key)


def said(rig: Rig, host: str, command: str, root: bool = False) -> tuple[str, int]:
    """What a command said on stderr, and its exit status."""
    done = rig.run(host, command, check=False, root=root)
    return done.stderr.strip(), done.returncode


def link(rig: Rig) -> None:
    """Both ends of the first cable out of bridge0, and with addresses."""
    for (host, port), address in rig.links.items():
        rig.run(host, f"ifconfig bridge0 deletem {port}", root=True)
        rig.run(host, f"ifconfig {port} inet {address}", root=True)


def _listens(rig: Rig, host: str) -> bool:
    return 8000 in read(rig, host, "ports")


class TestHosts:
    def test_are_separate(self, two_macs: Rig) -> None:
        rig = two_macs
        for host in rig.names:
            rig.run(
                host, "sleep 300 >/dev/null 2>&1 & touch /tmp/own ~/own /usr/bin/own", root=True
            )
            assert ssh(rig, host, "uname -n; echo $HOME").stdout.split() == [host, rig.home(host)]
        rig.run("mac1", "rm /tmp/own ~/own /usr/bin/own; kill $(pgrep sleep)", root=True)
        kept = rig.run("mac2", "ls /tmp/own ~/own /usr/bin/own").stdout.split()
        assert kept == ["/Users/mac2/own", "/tmp/own", "/usr/bin/own"]
        names_of = [{p.program for p in read(rig, h, "processes").values()} for h in rig.names]
        assert ["sleep" in found for found in names_of] == [False, True]
        assert not Path("/usr/bin/own").exists()
        assert not Path("/Users/mac2").exists()

    def test_have_ports_of_their_own(self, two_macs: Rig) -> None:
        for host in two_macs.names:
            two_macs.run(host, f"{sys.executable} -m http.server 8000 >/dev/null 2>&1 &")
        for host in two_macs.names:
            wait_for(partial(_listens, two_macs, host))
            (holder,) = read(two_macs, host, "ports")[8000]
            assert read(two_macs, host, "processes")[holder.pid].command.endswith("8000")

    def test_see_the_checkout_and_pythons_packages(self, two_macs: Rig) -> None:
        program = "import mlx.core, sys; print(sys.prefix)"
        done = ssh(two_macs, "mac1", f"cd {ROOT} && {sys.executable} -c '{program}'")
        assert done.stdout.strip() == sys.prefix
        assert ssh(two_macs, "mac1", f"touch {ROOT}/x").returncode != 0

    def test_share_the_tests_folder(self, two_macs: Rig, tmp_path: Path) -> None:
        two_macs.run("mac1", f"echo hello >{tmp_path}/there")
        assert (tmp_path / "there").read_text() == "hello\n"

    def test_have_a_default_route_that_leads_here(self, two_macs: Rig) -> None:
        found = read(two_macs, "mac1", routes.FACT)
        (default,) = [route for route in found if route.network.prefixlen == 0]
        assert (str(default.gateway), default.interface) == (two_macs.gateway, "en0")

    def test_have_no_linux_only_commands(self, two_macs: Rig) -> None:
        done = ssh(two_macs, "mac1", "for n in timeout setsid flock nproc ip; do $n; done")
        assert done.stderr.count("command not found") == 5

    def test_know_each_other_by_name(self, two_macs: Rig) -> None:
        two_macs.run("mac1", "ping -c 1 -w 5 mac2.local")

    @pytest.mark.parametrize("shell", ["sh", "zsh", "fish", "tcsh"])
    def test_login_shell_and_home(self, two_macs: Rig, shell: str) -> None:
        require(shutil.which(shell), f"needs {shell}")
        two_macs.user("mac1", shell, "/Users/my mac")
        done = ssh(two_macs, "mac1", "cat /proc/$$/comm; pwd" if shell == "sh" else "pwd")
        assert done.stdout.splitlines()[-1] == "/Users/my mac"
        assert ssh(two_macs, "mac1", "/usr/bin/env").stdout.count("PATH=" + machine.PATH) == 1
        assert re.search(rf"^SHELL=.*/{shell}$", ssh(two_macs, "mac1", "env").stdout, re.MULTILINE)

    def test_host_keys(self, two_macs: Rig) -> None:
        two_macs.trust("mac1")
        assert ssh(two_macs, "mac1", "true").returncode == 0
        assert "Host key verification failed" in ssh(two_macs, "mac2", "true").stderr

    def test_jump(self, two_macs: Rig) -> None:
        before = two_macs.connections("mac1")
        done = ssh(two_macs, "-J", "mac1", "mac2", "uname -n")
        assert done.stdout == "mac2\n", done.stderr
        assert two_macs.connections("mac1") == before + 1

    def test_sshd_comes_and_goes(self, two_macs: Rig) -> None:
        before = two_macs.connections("mac1")
        ssh(two_macs, "mac1", "true")
        assert two_macs.connections("mac1") == before + 1
        two_macs.ssh_off("mac1")
        assert "Connection refused" in ssh(two_macs, "mac1", "true").stderr
        two_macs.ssh("mac1", ForceCommand="echo forced")
        assert ssh(two_macs, "mac1", "true").stdout == "forced\n"


class TestStrict:
    """What a host has that only Linux would not have, or has not that only a Mac would not."""

    def test_nothing_of_linux_shows(self, two_macs: Rig) -> None:
        look = "ls /proc; readlink /tmp; uname -s; id -u; id -gn; cd /tmp && pwd -P"
        told = two_macs.run("mac1", look).stdout.split()
        assert told == ["private/tmp", "Darwin", "501", "staff", "/private/tmp"]
        assert two_macs.run("mac1", ["/bin/sh", "-c", "echo 'a\\nb'"]).stdout == "a\nb\n"

    @pytest.mark.parametrize(
        ("command", "line", "status"),
        [
            ("stat -c %i /", "stat: illegal option -- c", 1),
            ("date -d @0", "date: illegal option -- d", 1),
            ("find /tmp -printf x", "find: -printf: unknown primary or operator", 1),
            ("sed -z p", "sed: illegal option -- z", 1),
            ("ps -o cgroup= -p 1", "ps: cgroup: keyword not found", 1),
            ("netstat -an -p tcp4", "netstat: tcp4: unknown or uninstrumented protocol", 0),
        ],
    )
    def test_words_that_apples_do_not_know(
        self, two_macs: Rig, command: str, line: str, status: int
    ) -> None:
        text, code = said(two_macs, "mac1", command)
        assert (text.partition("\n")[0], code) == (line, status)

    def test_words_that_only_apples_know(self, two_macs: Rig) -> None:
        told = two_macs.run("mac1", "stat -f '%z %Su' /etc/passwd; printf ab | wc -c").stdout
        assert re.fullmatch(r"\d+ root\n {7}2\n", told)

    def test_a_users_own_processes(self, two_macs: Rig) -> None:
        """Environments and sockets of others are not shown, their command lines are."""
        two_macs.run("mac1", "OWN=1 sleep 301 >/dev/null 2>&1 &")
        two_macs.run("mac1", "OTHER=1 sleep 302 >/dev/null 2>&1 &", root=True)
        shown = two_macs.run("mac1", "ps axwwE -o command=").stdout
        assert re.search(r"^sleep 301 .*OWN=1", shown, re.MULTILINE)
        assert re.search(r"^sleep 302$", shown, re.MULTILINE)
        listeners = "lsof -nP -iTCP -sTCP:LISTEN -F p"
        assert two_macs.run("mac1", listeners, check=False).stdout == ""
        assert two_macs.run("mac1", listeners, root=True).stdout

    def test_a_command_ends_with_whoever_asked(self, two_macs: Rig) -> None:
        """What process 1 does for a client is over when that is killed, and says how it ended."""
        line = "iostat -n 0 -c 2 -w 300 >/dev/null & p=$!; sleep 0.3; kill -9 $p; wait $p; echo $?"
        assert two_macs.run("mac1", line).stdout == "137\n"
        wait_for(lambda: len(two_macs.run("mac1", "ps ax -o command=").stdout.splitlines()) <= 4)

    def test_a_kinder_host(self, rigs: Callable[..., Rig]) -> None:
        """As `inv local.up` has it without --strict."""
        rig = rigs(2, two_nodes(), is_strict=False)
        assert rig.run("mac1", "id -u; ls -d /proc/self").stdout.split() == ["0", "/proc/self"]
        assert read(rig, "mac1", "processes")
        assert said(rig, "mac1", "ifconfig en5 10.1.0.1")[1] == 1
        rig.run("mac1", "sudo -n ifconfig en5 10.1.0.1")


class TestLinks:
    def test_ping_over_a_link(self, two_macs: Rig) -> None:
        assert said(two_macs, "mac1", "ping -c 1 -w 1 10.254.0.6")[1] != 0
        link(two_macs)
        assert rdma_address(two_macs, "mac1", "en5") == ["10.254.0.5/30"]
        two_macs.run("mac1", "ping -c 1 -w 5 10.254.0.6")
        two_macs.run("mac2", "ping -c 1 -w 5 10.254.0.5")

    @pytest.mark.parametrize(
        ("command", "addresses"),
        [
            ("en5 inet 10.1.0.1 netmask 255.255.255.252", ["10.1.0.1/30"]),
            ("en5 inet 10.1.0.1 netmask 0xffffff00", ["10.1.0.1/24"]),
            ("en5 10.1.0.1/29", ["10.1.0.1/29"]),
            ("en5 10.1.0.1", ["10.1.0.1/8"]),
            ("en5 inet 10.254.0.5 netmask 255.255.255.0", ["10.254.0.5/24"]),
            ("en5 inet 10.1.0.1/30 alias", ["10.254.0.5/30", "10.1.0.1/30"]),
            ("en5 inet 10.254.0.5 -alias", []),
            ("en5 delete", []),
        ],
    )
    def test_addresses_in_bsd_words(
        self, two_macs: Rig, command: str, addresses: list[str]
    ) -> None:
        link(two_macs)
        two_macs.run("mac1", f"sudo -n ifconfig {command}")
        assert rdma_address(two_macs, "mac1", "en5") == addresses

    @pytest.mark.parametrize(
        ("command", "error"),
        [
            ("en9", "interface en9 does not exist"),
            ("en5 inet 10.300.0.1", "10.300.0.1: bad value"),
            ("en5 inet 10.1.0.1 -alias", "ioctl (SIOCDIFADDR): Can't assign requested address"),
            ("bridge0 deletem en9", "BRDGDEL en9: No such file or directory"),
            ("bridge0 deletemember en5", "deletemember: bad value"),
            ("bridge0 addmember en5", "addmember: bad value"),
            ("bridge0 deletem", "'deletem' requires argument"),
            ("en5 10.1.0.1 inet", "inet: bad value"),
            ("en5 10.1.0.1 netmask 255.255", "255.255: bad value"),
            ("bridge0 addm en5", "BRDGADD en5: File exists"),
            ("bridge0 create", "SIOCIFCREATE2: File exists"),
        ],
    )
    def test_what_ifconfig_refuses(self, two_macs: Rig, command: str, error: str) -> None:
        assert said(two_macs, "mac1", f"ifconfig {command}", root=True) == (f"ifconfig: {error}", 1)

    def test_only_root_may_set_an_interface(self, two_macs: Rig) -> None:
        error = "ifconfig: ioctl (SIOCAIFADDR): permission denied"
        assert said(two_macs, "mac1", "ifconfig en5 10.1.0.1/30") == (error, 1)
        assert rdma_address(two_macs, "mac1", "en5") == []

    def test_bridges(self, two_macs: Rig) -> None:
        assert members(two_macs, "bridge0") == PORTS
        two_macs.run("mac1", "ifconfig bridge0 deletem en5 deletem en2", root=True)
        assert members(two_macs, "bridge0") == ("en3", "en4", "en6", "en7")
        two_macs.run("mac1", "ifconfig bridge1 create; ifconfig bridge1 addm en5", root=True)
        assert members(two_macs, "bridge1") == ("en5",)
        two_macs.run("mac1", "ifconfig bridge0 destroy", root=True)
        assert "bridge0" not in read(two_macs, "mac1", "interfaces")

    def test_a_mesh_of_bridges_is_no_loop(self, rigs: Callable[..., Rig]) -> None:
        """Fresh from the box every cable of a mesh joins two bridges: nothing may go round."""
        rig = rigs(3, mesh(3))
        rig.run("mac1", "ifconfig bridge0 10.9.0.1/24", root=True)
        rig.run("mac1", "ping -c 1 -w 1 10.9.0.2", check=False)
        line = "cat /.sys/class/net/bridge0/statistics/rx_packets"
        assert int(rig.run("mac2", line).stdout) < 1000

    def test_cables_move(self, two_macs: Rig) -> None:
        link(two_macs)
        two_macs.cut("mac1", "en5")
        two_macs.plug("mac1", "en5", "mac2", "en3")
        assert two_macs.cables == [Cable("mac1", "en5", "mac2", "en3")]
        assert statuses(two_macs, "mac2")["en3"] == "active"
        assert statuses(two_macs, "mac2")["en5"] == "inactive"
        assert said(two_macs, "mac1", "ping -c 1 -w 1 10.254.0.6")[1] != 0
        assert [peer for peer, _ in peers(two_macs, "mac2")] == [domain(two_macs, "mac1", "en5")]

    def test_two_cables_between_two(self, rigs: Callable[..., Rig]) -> None:
        rig = rigs(2, two_cables(), bridged=False)
        for (host, port), address in rig.links.items():
            rig.run(host, f"ifconfig {port} {address}", root=True)
        rig.run("mac1", "ping -c 1 -w 5 10.254.0.6 && ping -c 1 -w 5 10.254.0.10")


def members(rig: Rig, bridge: str) -> tuple[str, ...]:
    found: tuple[str, ...] = read(rig, "mac1", "interfaces")[bridge].members
    return found


def rdma_address(rig: Rig, host: str, port: str) -> list[str]:
    return [str(address) for address in read(rig, host, "interfaces")[port].addresses]


def statuses(rig: Rig, host: str) -> dict[str, str]:
    found = read(rig, host, "interfaces").items()
    return {name: each.status for name, each in found if name in PORTS}


def domain(rig: Rig, host: str, port: str) -> str:
    """The UUID of a port's Thunderbolt domain."""
    rows = rig.state(host)["ports"]
    return next(str(row["domain"]) for row in rows if row["interface"] == port)


def buses(rig: Rig, host: str) -> list[dict[str, Any]]:
    text = rig.run(host, "system_profiler SPThunderboltDataType -json").stdout
    found: list[dict[str, Any]] = json.loads(text)["SPThunderboltDataType"]
    return found


def peers(rig: Rig, host: str) -> list[tuple[str, int]]:
    """(domain, how many services it tells) of each Mac that is plugged in, behind docks too."""

    def walk(items: list[dict[str, Any]]) -> Iterator[tuple[str, int]]:
        for item in items:
            if "domain_uuid_key" in item:
                yield item["domain_uuid_key"], len(item["services_title"])
            yield from walk(item.get("_items", []))

    return [found for bus in buses(rig, host) for found in walk(bus.get("_items", []))]


class TestCommands:
    """What each macOS command says, fresh from the box; `link` is in TestLinks and TestFaults."""

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("rdma_enabled", True),
            ("ibv_devices", tuple(f"rdma_{port}" for port in PORTS)),
            ("memory", memory.Memory(512 * GIB, 9 * GIB, 16384, 0)),
        ],
    )
    def test_facts(self, two_macs: Rig, name: str, value: object) -> None:
        assert read(two_macs, "mac1", name) == value

    def test_devices(self, two_macs: Rig) -> None:
        found = read(two_macs, "mac1", "ibv_devinfo")
        assert [name for name, device in found.items() if device.is_active] == ["rdma_en5"]
        assert {device.max_pd for device in found.values()} == {11}
        assert not any(device.ipv4_gids for device in found.values())

    def test_interfaces(self, two_macs: Rig) -> None:
        found = read(two_macs, "mac1", "interfaces")
        assert set(found) == {"lo0", "gif0", "stf0", "en0", "en1", *PORTS, "bridge0"}
        assert found["en0"].ipv4 == (two_macs.address("mac1"),)
        assert [n for n, each in found.items() if each.status == "active"][:2] == ["en0", "en5"]
        assert two_macs.run("mac1", "ifconfig -l").stdout.split()[:4] == [
            "lo0",
            "gif0",
            "stf0",
            "en0",
        ]

    def test_thunderbolt(self, two_macs: Rig) -> None:
        found = buses(two_macs, "mac1")
        assert [bus["_name"][-1] for bus in found] == list("543210")
        assert peers(two_macs, "mac1") == [(domain(two_macs, "mac2", "en5"), 2)]
        assert {bus["domain_uuid_key"] for bus in found} == {
            domain(two_macs, "mac1", port) for port in PORTS
        }

    def test_devices_in_ports(self, two_macs: Rig) -> None:
        """A Mac may be behind a dock; a drive is no Mac."""
        two_macs.put_device("mac1", "en5", "dock")
        two_macs.put_device("mac1", "en2", "drive")
        by_bus = {bus["_name"][-1]: bus.get("_items", []) for bus in buses(two_macs, "mac1")}
        assert by_bus["0"][0]["vendor_name_key"] == "Other World Computing"
        assert "_items" in by_bus["3"][0]
        assert peers(two_macs, "mac1") == [(domain(two_macs, "mac2", "en5"), 2)]

    def test_hardware_ports(self, two_macs: Rig) -> None:
        text = two_macs.run("mac1", "networksetup -listallhardwareports").stdout
        found = dict(re.findall(r"^Hardware Port: (.*)\nDevice: (\w+)$", text, re.MULTILINE))
        assert found["Thunderbolt 4"] == "en5"
        assert found["Thunderbolt Bridge"] == "bridge0"
        two_macs.run("mac1", "ifconfig bridge0 destroy", root=True)
        text = two_macs.run("mac1", "networksetup -listallhardwareports").stdout
        assert "Bridge" not in text

    def test_sysctl(self, two_macs: Rig) -> None:
        done = two_macs.run("mac1", "sysctl -n hw.memsize nix.da kern.osversion", check=False)
        assert (done.stdout.split(), done.returncode) == ([str(512 * GIB), "25E253"], 1)
        assert done.stderr == "sysctl: unknown oid 'nix.da'\n"

    def test_route(self, two_macs: Rig) -> None:
        link(two_macs)
        there = two_macs.run("mac1", "route -n get 10.254.0.6").stdout
        assert "interface: en5" in there
        assert "gateway" not in there
        away = two_macs.run("mac1", "route -n get 192.0.2.1").stdout
        assert f"gateway: {two_macs.gateway}" in away
        two_macs.run("mac1", "/.rig/bin/ip route del default", root=True)
        error = "route: writing to routing socket: not in table"
        assert said(two_macs, "mac1", "route -n get default") == (error, 0)

    def test_netstat(self, two_macs: Rig) -> None:
        text = two_macs.run("mac1", "echo '== table'; netstat -an -p tcp; echo '== whole'").stdout
        assert 22 in ports.parse(text, 0)
        link(two_macs)
        rows = two_macs.run("mac1", "netstat -rn -f inet").stdout
        assert re.search(r"^10\.254\.0\.4/30 +link#\d+ +UCS +en5 +!$", rows, re.MULTILINE)

    def test_calls_are_logged(self, two_macs: Rig) -> None:
        two_macs.run("mac1", "sudo -n ifconfig bridge0 deletem en5; sw_vers >/dev/null")
        words = ["ifconfig", "bridge0", "deletem", "en5"]
        assert two_macs.calls("mac1") == [["sudo", "-n", *words], words, ["sw_vers"]]
        assert two_macs.calls("mac1", "sudo") == [["sudo", "-n", *words]]
        assert two_macs.calls("mac2") == []


RULES = "admin ALL=(root) NOPASSWD: /sbin/ifconfig en5 inet *, /bin/launchctl print \\\n  a\\,b\n"
LIMITED = f"{facts.limited(1, 'rdma_ctl status')}; exit $?"
NEEDED = ("sudo: a password is required", 1)


class TestSudo:
    @pytest.mark.parametrize(
        ("policy", "command", "outcome"),
        [
            ("free", "sudo -n true", ("", 0)),
            ("free", "sudo -n nix", ("sudo: nix: command not found", 1)),
            ("password", "sudo -n true", NEEDED),
            ("password", "sudo -n -l", NEEDED),
            ("password", "sudo -k", ("", 0)),
            ("password", "echo secret | sudo -S -p '' true", ("", 0)),
            ("password", "printf 'no\\nsecret\\n' | sudo -S -p '' true", ("Sorry, try again.", 0)),
            (
                "password",
                "echo no | sudo -S -p '' true",
                (
                    "Sorry, try again.\n\nsudo: no password was provided\n"
                    "sudo: 1 incorrect password attempt",
                    1,
                ),
            ),
            ("rules", "sudo -n ifconfig en5 inet 10.1.0.1/30", ("", 0)),
            ("rules", "sudo -n /sbin/ifconfig en5 inet 10.1.0.1/30", ("", 0)),
            ("rules", "sudo -n ifconfig en6 inet 10.1.0.1/30", NEEDED),
            ("rules", "sudo -n true", NEEDED),
            # What MAY run, if need be with a password: no proof that it runs without.
            ("rules", "sudo -n -l /usr/bin/true", ("", 0)),
        ],
    )
    def test_policy(
        self, two_macs: Rig, policy: str, command: str, outcome: tuple[str, int]
    ) -> None:
        two_macs.fault("mac1", "sudo_password", on=policy != "free")
        if policy == "rules":
            two_macs.run("mac1", "cat >/etc/sudoers.d/own", input=RULES, root=True)
        assert said(two_macs, "mac1", command) == outcome

    def test_stdin_after_the_password_is_the_commands(self, two_macs: Rig) -> None:
        two_macs.fault("mac1", "sudo_password")
        done = two_macs.run("mac1", "printf 'secret\\nrest\\n' | sudo -S -p '' cat")
        assert done.stdout == "rest\n"

    def test_without_a_terminal(self, two_macs: Rig) -> None:
        two_macs.fault("mac1", "sudo_password")
        done = ssh(two_macs, "mac1", "sudo true")
        assert done.stderr.splitlines()[-1] == NEEDED[0]
        assert "a terminal is required" in done.stderr


def gids(rig: Rig) -> Any:
    return read(rig, "mac1", "ibv_devinfo")["rdma_en5"].ipv4_gids


def is_up(rig: Rig, host: str = "mac1") -> Any:
    found = read(rig, host, "ibv_devinfo")
    return found["rdma_en5"].is_active if found else None


# Fault and its argument; each look at the hosts, with what is seen before and during it.
Look = Callable[[Rig], Any]
SHOWN: dict[tuple[str, str], list[tuple[Look, Any, Any]]] = {
    ("rdma_disabled", ""): [
        (lambda rig: read(rig, "mac1", "rdma_enabled"), True, False),
        (lambda rig: len(read(rig, "mac1", "ibv_devices")), 6, 0),
        (lambda rig: is_up(rig, "mac2"), True, False),
        (lambda rig: peers(rig, "mac2")[0][1], 2, 1),
    ],
    ("tb4", ""): [
        (lambda rig: read(rig, "mac1", "rdma_enabled"), True, True),
        (lambda rig: len(read(rig, "mac1", "ibv_devices")), 6, 0),
        (lambda rig: is_up(rig, "mac2"), True, False),
        (lambda rig: speed(rig, "mac1"), "80 Gb/s", "40 Gb/s"),
        (lambda rig: speed(rig, "mac2"), "80 Gb/s", "40 Gb/s"),
    ],
    ("device_missing", "rdma_en5"): [(lambda rig: len(read(rig, "mac1", "ibv_devices")), 6, 5)],
    ("port_down", "rdma_en5"): [
        (lambda rig: is_up(rig, "mac1"), True, False),
        (lambda rig: is_up(rig, "mac2"), True, True),
    ],
    ("no_ipv4_gid", "rdma_en5"): [
        (lambda rig: gids(rig), ("10.254.0.5",), ()),
        (lambda rig: len(rdma_address(rig, "mac1", "en5")), 1, 1),
    ],
    ("bridged", "en5"): [
        (lambda rig: gids(rig), ("10.254.0.5",), ()),
        (lambda rig: len(members(rig, "bridge0")), 5, 6),
    ],
    ("link_cut", "en5"): [
        (lambda rig: is_up(rig, "mac1"), True, False),
        (lambda rig: is_up(rig, "mac2"), True, False),
        (lambda rig: statuses(rig, "mac2")["en5"], "active", "inactive"),
        (lambda rig: said(rig, "mac1", "ping -c 1 -w 1 10.254.0.6")[1], 0, 1),
        (lambda rig: len(peers(rig, "mac1")), 1, 0),
    ],
    ("other_case", "/Users/mac1"): [
        (lambda rig: said(rig, "mac1", "[ /USERS/MAC1 -ef ~ ]")[1], 1, 0),
    ],
    ("sudo_password", ""): [(lambda rig: said(rig, "mac1", "sudo -n true"), ("", 0), NEEDED)],
    ("wired_leak", "380"): [(lambda rig: read(rig, "mac1", "memory").wired // GIB, 9, 389)],
    ("os_build", "25F80"): [(lambda rig: word(rig, "sw_vers -buildVersion"), "25E253", "25F80")],
    ("max_pd_used", ""): [(lambda rig: word(rig, f"ioclasscount {DOMAINS}"), "0", "11")],
    # Ended by SIGALRM after a second, as the tasks' own time limit does.
    ("hang", "rdma_ctl"): [
        (lambda rig: said(rig, "mac1", LIMITED)[1], 0, 128 + signal.SIGALRM),
    ],
}
DOMAINS = "AppleThunderboltRDMAProtectionDomain"


def word(rig: Rig, command: str) -> str:
    """The last word that a command prints."""
    return rig.run("mac1", command).stdout.split()[-1]


def speed(rig: Rig, host: str) -> str:
    linked = [bus for bus in buses(rig, host) if "_items" in bus]
    return str(linked[0]["receptacle_1_tag"]["current_speed_key"])


class TestFaults:
    @pytest.mark.parametrize(("name", "what"), SHOWN)
    def test_shows_and_heals(self, two_macs: Rig, name: str, what: str) -> None:
        looks = SHOWN[name, what]
        words = [what] if what else []
        link(two_macs)
        assert [look(two_macs) for look, _, _ in looks] == [before for _, before, _ in looks]
        two_macs.fault("mac1", name, *words)
        assert [look(two_macs) for look, _, _ in looks] == [during for _, _, during in looks]
        two_macs.heal("mac1", name, *words)
        assert [look(two_macs) for look, _, _ in looks] == [before for _, before, _ in looks]

    def test_every_fault_is_shown(self) -> None:
        # What configd has put into a bridge stays there when it is told to stop: see TestBoot.
        assert {name for name, _ in SHOWN} | {"rebridge", "tmp_cleaned"} == set(FAULTS)

    def test_what_the_cleaner_takes(self, two_macs: Rig) -> None:
        two_macs.run("mac1", "cd /tmp; mkdir -p a/b c; touch a/x ~/x; ln -s ~/x c/link")
        two_macs.fault("mac1", "tmp_cleaned")
        left = two_macs.run("mac1", "find /tmp/ -xdev ! -name 'pytest*'; ls ~").stdout.split()
        assert {"/tmp/c/link", "x"} <= set(left)
        assert not {"/tmp/a", "/tmp/a/x"} & set(left)

    def test_a_cut_link_stays_up(self, two_macs: Rig) -> None:
        """As on a Mac: no carrier, but the interface is not taken down."""
        two_macs.cut("mac1", "en5")
        for host in two_macs.names:
            assert "<UP," in two_macs.run(host, "ifconfig en5").stdout

    @pytest.mark.parametrize(
        ("name", "what"),
        [("port_down", "rdma_en99"), ("hang", "nix"), ("link_cut", "en2"), ("wired_leak", "much")],
    )
    def test_wrong_argument(self, two_macs: Rig, name: str, what: str) -> None:
        with pytest.raises(ValueError, match=what):
            two_macs.fault("mac1", name, what)


PLIST = """<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN"
 "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<plist version="1.0"><dict>
<key>Label</key><string>own</string>
<key>ProgramArguments</key>
<array><string>/bin/sh</string><string>-c</string>
<string>ifconfig en5 10.1.0.1/30; exec sleep 300</string></array>
<key>RunAtLoad</key><true/>
</dict></plist>
"""
DAEMON = "/Library/LaunchDaemons/own.plist"


class TestBoot:
    def test_reboot(self, two_macs: Rig) -> None:
        link(two_macs)
        two_macs.run("mac1", "sleep 300 >/dev/null 2>&1 & touch /tmp/own ~/own")
        two_macs.fault("mac1", "wired_leak", "380")
        boot = "sysctl -n kern.bootsessionuuid kern.boottime"
        before = {host: two_macs.run(host, boot).stdout.split() for host in two_macs.names}
        two_macs.reboot("mac1")
        assert rdma_address(two_macs, "mac1", "en5") == []
        assert rdma_address(two_macs, "mac2", "en5") == ["10.254.0.6/30"]
        assert read(two_macs, "mac1", "interfaces")["bridge0"].members == PORTS
        assert read(two_macs, "mac1", "memory").wired == 9 * GIB
        assert two_macs.run("mac1", "ls /tmp/own ~/own; pgrep sleep", check=False).stdout == (
            "/Users/mac1/own\n"
        )
        after = {host: two_macs.run(host, boot).stdout.split() for host in two_macs.names}
        assert after["mac2"] == before["mac2"]
        assert after["mac1"][0] != before["mac1"][0]
        assert ssh(two_macs, "mac1", "true").returncode == 0

    def test_daemons_run_at_boot_as_root(self, two_macs: Rig) -> None:
        two_macs.run("mac1", f"cat >{DAEMON}", input=PLIST, root=True)
        two_macs.reboot("mac1")
        wait_for(lambda: rdma_address(two_macs, "mac1", "en5") == ["10.1.0.1/30"])
        assert "state = running" in two_macs.run("mac1", "launchctl print system/own").stdout

    def test_launchctl(self, two_macs: Rig) -> None:
        load = f"launchctl bootstrap system {DAEMON}"
        two_macs.run("mac1", f"cat >{DAEMON}; plutil -lint {DAEMON}", input=PLIST, root=True)
        assert said(two_macs, "mac1", load) == ("Bootstrap failed: 1: Operation not permitted", 1)
        two_macs.run("mac1", load, root=True)
        wait_for(lambda: rdma_address(two_macs, "mac1", "en5") == ["10.1.0.1/30"])
        again = ("Bootstrap failed: 5: Input/output error", 5)
        assert said(two_macs, "mac1", load, root=True) == again
        unload = "launchctl bootout system/own"
        two_macs.run("mac1", unload, root=True)
        wait_for(lambda: not two_macs.run("mac1", "pgrep sleep", check=False).stdout)
        gone = ("Boot-out failed: 3: No such process", 3)
        assert said(two_macs, "mac1", unload, root=True) == gone
        done = two_macs.run("mac1", "launchctl print system/own", check=False)
        assert (done.returncode, "Could not find service" in done.stdout) == (113, True)
        # It is not done with what it has only just let go of.
        busy = ("Bootstrap failed: 36: Operation now in progress", 36)
        answers = [said(two_macs, "mac1", load, root=True) for _ in range(3)]
        assert answers == [busy, again, ("", 0)]

    def test_configd_puts_ports_back(self, two_macs: Rig) -> None:
        link(two_macs)
        two_macs.fault("mac1", "rebridge")
        assert read(two_macs, "mac1", "interfaces")["bridge0"].members == PORTS
        for host in two_macs.names:
            two_macs.run(host, "ifconfig bridge0 deletem en4", root=True)
            two_macs.put_device(host, "en2", "dock")
        assert "en4" in read(two_macs, "mac1", "interfaces")["bridge0"].members
        assert "en4" not in read(two_macs, "mac2", "interfaces")["bridge0"].members
        two_macs.heal("mac1", "rebridge")
        two_macs.run("mac1", "ifconfig bridge0 deletem en4", root=True)
        two_macs.put_device("mac1", "en3", "dock")
        assert "en4" not in read(two_macs, "mac1", "interfaces")["bridge0"].members

    def test_launchd_takes_no_file_that_others_may_write(self, two_macs: Rig) -> None:
        two_macs.run("mac1", f"cat >{DAEMON}; chmod 666 {DAEMON}", input=PLIST, root=True)
        error = ("Bootstrap failed: 122: Path had bad ownership/permissions", 122)
        assert said(two_macs, "mac1", f"launchctl bootstrap system {DAEMON}", root=True) == error

    def test_plutil(self, two_macs: Rig) -> None:
        text = PLIST.replace("</dict>", "")
        done = two_macs.run("mac1", "cat >/tmp/x; plutil -lint /tmp/x", input=text, check=False)
        assert done.returncode == 1
        assert re.match(r"/tmp/x: \(.+\)$", done.stdout)
        assert two_macs.run("mac1", "plutil -lint -", input=PLIST).stdout == "<stdin>: OK\n"


def snapshot(rig: Rig) -> dict[str, Any]:
    """All of a rig that a test might change."""
    found: dict[str, Any] = {"cables": sorted(rig.cables), "hosts": rig.known_hosts.read_text()}
    for host in rig.names:
        state = rig.state(host)
        del state["boot_uuid"], state["boot_seconds"]
        listing = "find /tmp /Users /Library /etc/sudoers.d -xdev; grep ^admin: /etc/passwd"
        found[host] = {
            "interfaces": read(rig, host, "interfaces"),
            "programs": sorted(p.program for p in read(rig, host, "processes").values())[:2],
            "processes": len(rig.run(host, "pgrep .").stdout.split()),
            "files": sorted(rig.run(host, listing).stdout.splitlines()),
            "routes": read(rig, host, routes.FACT),
            "state": state,
        }
    return found


def test_reset(two_macs: Rig) -> None:
    before = snapshot(two_macs)
    link(two_macs)
    dirty = (
        "ifconfig bridge0 destroy; ifconfig bridge1 create; ifconfig bridge1 addm en2;"
        "ifconfig en6 10.1.0.1/30; ifconfig en6 10.2.0.1/30 alias; ifconfig en3 down;"
        "ifconfig en0 10.3.0.1/24; mkdir ~/.mlx-tp; touch /tmp/x ~/.mlx-tp/x ~/-x;"
        f"touch /etc/sudoers.d/x {DAEMON}; sleep 300 >/dev/null 2>&1 &"
    )
    two_macs.run("mac1", dirty, root=True)
    two_macs.cut("mac1", "en5")
    two_macs.plug("mac1", "en2", "mac2", "en7")
    two_macs.fault("mac2", "rdma_disabled")
    two_macs.fault("mac2", "hang", "ifconfig")
    two_macs.user("mac2", "sh", "/Users/elsewhere")
    two_macs.trust()
    two_macs.reset()
    assert snapshot(two_macs) == before
    two_macs.reset()
    assert two_macs.calls("mac1") == []
    assert ssh(two_macs, "mac2", "pwd").stdout == "/Users/mac2\n"


class TestTopologies:
    @pytest.mark.parametrize(
        ("cables", "count"),
        [
            (two_nodes(), 1),
            (two_cables(), 2),
            (mesh(2), 1),
            (mesh(3), 3),
            (mesh(4), 6),
            (mesh(6), 15),
            (ring(3), 3),
            (ring(4), 4),
            (mesh(3, missing=[("mac3", "mac1")]), 2),
        ],
    )
    def test_every_port_is_used_once(self, cables: list[Cable], count: int) -> None:
        ends = [end for c in cables for end in ((c.host, c.port), (c.other, c.other_port))]
        assert len(cables) == count
        assert len(set(ends)) == 2 * count
        assert {port for _, port in ends} <= set(PORTS)

    def test_a_missing_cable_moves_no_other(self) -> None:
        whole = mesh(4)
        assert mesh(4, missing=[("mac1", "mac2")]) == whole[1:]

    def test_addresses_are_those_of_the_example(self, rigs: Callable[..., Rig]) -> None:
        rig = rigs(3, ring(3), bridged=False)
        assert rig.links["mac1", "en3"] == "10.254.0.5/30"
        for (host, port), address in rig.links.items():
            rig.run(host, f"ifconfig {port} {address}", root=True)
        for before, host in zip(rig.names[-1:] + rig.names, rig.names, strict=False):
            rig.run(before, f"ping -c 1 -w 5 {rig.ring_address(host)}")


def mine() -> set[int]:
    """The numbers of the rigs of this process that have a bridge on this machine."""
    me = f"pid:{machine.identity(os.getpid())}"
    return {number for number, owner in network.owners().items() if owner == me}


def hosts_of(base: Path) -> list[str]:
    """The processes that keep the hosts of a rig."""
    data = json.loads((base / "rig.json").read_text())
    keepers: list[str] = [data["cables_keeper"], *(keeper for keeper, _ in data["hosts"].values())]
    return keepers


class TestLifeOfARig:
    def test_leaves_nothing_behind(self, two_macs: Rig, tmp_path: Path) -> None:
        """A second rig beside the first one: another number, other addresses, and gone."""
        before = mine()
        rig = Rig(tmp_path / "rig", names(2), two_nodes()).up()
        assert rig.number not in before
        assert mine() == {*before, rig.number}
        keepers = hosts_of(rig.base)
        pids = [each.first for each in rig.machines.values()]
        assert all(map(machine.is_alive, [*keepers, *pids]))
        assert ssh(rig, "mac1", "uname -n").stdout == ssh(two_macs, "mac1", "uname -n").stdout
        rig.down()
        assert mine() == before
        assert not any(map(machine.is_alive, [*keepers, *pids]))
        assert not rig.base.exists()
        # Its process numbers may be another's by now.
        with pytest.raises(RuntimeError, match="mac1 is not up"):
            rig.run("mac1", "true")
        assert str(rig.base) not in Path("/proc/mounts").read_text()

    def test_dies_with_its_process(self, two_macs: Rig, tmp_path: Path) -> None:
        """What a killed run leaves, a bridge without hosts, the next one sweeps up."""
        program = (
            "import sys, time; from pathlib import Path; from rig import *\n"
            f"Rig(Path({str(tmp_path / 'rig')!r}), names(2), two_nodes()).up()\n"
            "print('up', flush=True); time.sleep(300)"
        )
        line = [sys.executable, "-c", program]
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "tests")}
        with subprocess.Popen(line, stdout=subprocess.PIPE, text=True, env=environment) as process:
            assert process.stdout
            assert process.stdout.readline() == "up\n"
            owner = f"pid:{machine.identity(process.pid)}"
            process.send_signal(signal.SIGKILL)
        keepers = hosts_of(tmp_path / "rig")
        wait_for(lambda: not any(map(machine.is_alive, keepers)))
        sweep()
        assert owner not in network.owners().values()

    def test_takes_only_an_empty_folder(self, two_macs: Rig, tmp_path: Path) -> None:
        (tmp_path / "mine").touch()
        with pytest.raises(RuntimeError, match="not empty"):
            Rig(tmp_path).up()
        assert (tmp_path / "mine").exists()

    def test_failure_while_coming_up(self, two_macs: Rig, tmp_path: Path) -> None:
        before = mine()
        rig = Rig(tmp_path / "rig", names(2), [("mac1", "en5", "mac2", "en99")])
        with pytest.raises(RuntimeError, match="en99"):
            rig.up()
        assert mine() == before
        assert not rig.base.exists()


class TestLocal:
    """`inv local.*`: the same rig, which lives on without its command."""

    def test_life(self, inv: Inv, two_macs: Rig, home: Path) -> None:
        """With servers of this machine's people beside it, which hosts know nothing of."""
        base = home / "my rig"
        server = ["perl", "-e", LISTENS, "0", "-m", "mlx_lm", "server"]
        others = [subprocess.Popen(server), subprocess.Popen([*AS_NOBODY, *server])]
        inv.env["INVOKE_LOCAL_BASE"] = str(base)
        try:
            up = inv("local.up", "--strict", "--nodes", "3", "--topology", "ring")
            assert "inv local.down" in up.out
            assert "less strict than a Mac: file names mind case" in up.err
            inv("local.up", code=2).one_line()
            keepers = hosts_of(base)
            assert all(map(machine.is_alive, keepers))
            inv.config = base / "invoke.yaml"
            inv("rdma.setup")
            inv("local.fault", "mac1", "link_cut:en3")
            inv("rdma.ping", code=3)
            inv("local.fault", "mac1", "link_cut:en3", "--off")
            inv("rdma.ping")
            inv("local.reboot", "mac3")
            assert "mac3" in inv("rdma.address", "--dry-run").out
            assert "port_down:rdma_enN" in inv("local.fault", "mac1", "nix", code=2).one_line()
            assert "mac3" in inv("local.fault", "mac4", "tb4", code=2).one_line()
        finally:
            inv.config = None
            inv("local.down")
        assert not any(map(machine.is_alive, keepers))
        assert not base.exists()
        assert f"at:{base}" not in network.owners().values()
        assert [each.poll() for each in others] == [None, None]
        for each in others:
            each.kill()
            each.wait(DEADLINE)
        inv("local.down")
        assert "inv local.up" in inv("local.fault", "mac1", "tb4", code=2).one_line()

    @pytest.mark.parametrize(
        "words", [("--nodes", "7"), ("--nodes", "x"), ("--topology", "star"),
                  ("--topology", "two-cables", "--nodes", "3")],
    )  # fmt: skip
    def test_wrong_options(self, inv: Inv, home: Path, words: tuple[str, ...]) -> None:
        inv.env["INVOKE_LOCAL_BASE"] = str(home / "rig")
        assert words[0] in inv("local.up", *words, code=2).one_line()
        assert not (home / "rig").exists()

    def test_a_folder_of_something_else_stays(self, inv: Inv, home: Path) -> None:
        """Whatever `local.base` names: a home, or a checkout. Who is not root is told just that."""
        (home / "notes.txt").write_text("mine")
        inv.env["INVOKE_LOCAL_BASE"] = str(home)
        line = inv("local.down", code=2).one_line()
        assert (line == f"{home} holds no test hosts: it is left as it is") == (os.getuid() == 0)
        assert (home / "notes.txt").read_text() == "mine"

    def test_missing_ssh_configuration(self, inv: Inv) -> None:
        inv.env["INVOKE_TP_SSH_CONFIG"] = "nix"
        line = inv("tp.status", "--hosts", "mac1", code=2).one_line()
        assert line == "tp.ssh_config nix: no such file"

    def test_needs_root_and_says_so(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "platform", "linux")
        monkeypatch.setattr(os, "getuid", lambda: 501)
        with pytest.raises(
            Exit, match=r"^local\.up needs root.*sudo uv run inv local\.up$"
        ) as found:
            local._check("local.up")
        assert found.value.code == 2


SAMPLES = ROOT.parent / "shared" / "macos-samples"
# A command, and the samples of real Macs that have each of its lines.
FORMS = [
    ("ifconfig -a", "ifconfig_*"),
    ("ifconfig en9 2>&1 || :", "derived/ifconfig_missing*"),
    ("vm_stat", "vm_stat_*"),
    ("sw_vers", "sw_vers_macos*"),
    ("rdma_ctl status", "rdma_ctl_status_enabled.txt"),
    ("ibv_devices", "ibv_devices_*"),
    ("ibv_devinfo", "ibv_devinfo_*"),
    ("ibv_devinfo -v", "ibv_devinfo_*"),
    ("networksetup -listallhardwareports", "networksetup_listallhardwareports_*"),
    ("networksetup -listnetworkserviceorder", "networksetup_listnetworkserviceorder_*"),
    ("sysctl hw.memsize iogpu.wired_limit_mb kern.boottime", "derived/sysctl_three*"),
    ("sysctl -n kern.boottime", "sysctl_boottime*"),
    ("route -n get default", "route_get_default*"),
    ("route -n get 10.254.0.6", "derived/route_get_onlink*"),
    ("netstat -rn -f inet", "netstat_rn_*"),
]


def shapes(text: str) -> set[str]:
    """Lines with "#" for each word with a digit in it, and one space for many."""
    known = {re.sub(r"\S*\d\S*", "#", line) for line in text.splitlines()}
    date = re.compile(r"\b(Mon|Tue|Wed|Thu|Fri|Sat|Sun) [A-Z]..")
    return {date.sub("DATE", " ".join(line.split())) for line in known}


if SAMPLES.is_dir():
    # Not everybody has them; where they are, nothing is skipped.

    @pytest.mark.parametrize(("command", "pattern"), FORMS, ids=[form[0] for form in FORMS])
    def test_form_of_a_real_mac(two_macs: Rig, command: str, pattern: str) -> None:
        link(two_macs)
        known = {s for path in SAMPLES.glob(pattern) for s in shapes(path.read_text())}
        assert known
        assert shapes(two_macs.run("mac1", command).stdout) - known == set()

    def test_form_of_system_profiler(two_macs: Rig) -> None:
        """The same keys in the same places, and the same way to write them."""

        def places(data: Any, at: str = "") -> set[str]:
            if isinstance(data, dict):
                return {p for key, value in data.items() for p in places(value, f"{at}.{key}")}
            if isinstance(data, list):
                return {p for value in data for p in places(value, at)}
            return {f"{at} {type(data).__name__}"}

        two_macs.put_device("mac1", "en2", "dock")
        two_macs.put_device("mac1", "en3", "drive")
        samples = [path.read_text() for path in SAMPLES.glob("sp_thunderbolt_json_*")]
        known = {p for text in samples for p in places(json.loads(text))}
        text = two_macs.run("mac1", "system_profiler SPThunderboltDataType -json").stdout
        assert places(json.loads(text)) - known == set()
        assert '  "SPThunderboltDataType" : [' in text
