"""inv hosts.*: the cluster as configured, the hosts as they are, and their host keys."""

from __future__ import annotations

import json
import os
import pty
import re
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import DEADLINE, Inv, Sshd
from rig import Rig

from tasks.cluster import facts as reading
from tasks.cluster.checks import FAIL, OK, WARN
from tasks.cluster.checks import machine as host_checks
from tasks.cluster.errors import BadInput
from tasks.cluster.facts import Key, NodeFacts, Unknown
from tasks.cluster.facts.links import reach
from tasks.cluster.facts.links.reach import Reach
from tasks.cluster.facts.machine import clock, firewall, power, restarts, sudo, versions
from tasks.cluster.facts.machine.power import Power
from tasks.cluster.facts.machine.restarts import FileVault, Updates
from tasks.cluster.ssh import keyscan, known_hosts
from tasks.cluster.ssh.known_hosts import KnownHost, KnownKeys


def prefer(managed: str, own: str) -> str:
    """What facts/updates.sh says of these two values."""
    return f"/Library/Managed Preferences: {managed}\n/Library/Preferences: {own}\n"


@pytest.mark.parametrize(
    ("parse", "text", "status", "expected"),
    [
        (power.parse, "no macOS\n", 0, None),
        (power.parse, " sleep                0\n", 0, Power(0)),
        (power.parse, " SleepDisabled\t\t1\n sleep                5\n", 0, Power(0)),
        (power.parse, " sleep                5\n lowpowermode         1\n", 0, Power(5, (), True)),
        (power.parse, " sleep                5\n powermode            1\n", 0, Power(5, (), True)),
        (power.parse, " sleep                5\n powermode            2\n", 0, Power(5)),
        (power.parse, " disksleep            5\n displaysleep         5\n", 0, ValueError),
        (power.parse, " sleep                5\n", 1, ValueError),
        (power.parse, "", 0, ValueError),
        (firewall.parse, "Firewall is disabled. (State = 0)\n", 0, firewall.OFF),
        (firewall.parse, "Firewall is enabled. (State = 1)\n", 0, firewall.ON),
        (firewall.parse, "Firewall is enabled. (State = 2)\n", 0, firewall.BLOCKS_ALL),
        (firewall.parse, "no macOS\n", 0, None),
        (firewall.parse, "Firewall is enabled.\n", 0, ValueError),
        (firewall.parse, "Firewall is disabled. (State = 0)\n", 1, ValueError),
        (clock.parse, "1764000000\n", 0, 1764000000.0),
        (clock.parse, "now\n", 0, ValueError),
        (sudo.parse, "", 0, True),
        (sudo.parse, "sudo: a password is required\n", 1, False),
        (sudo.parse, "sh: sudo: command not found\n", 127, ValueError),
        (sudo.parse, "lo0: error fetching interface information: Device not found\n", 1, True),
        (sudo.parse, "sudo: ifconfig: command not found\n", 1, True),
        (restarts.parse_filevault, "no macOS\n", 0, None),
        (restarts.parse_filevault, "macos 26.4.1\nFileVault is Off.\n", 0, FileVault(False)),
        (restarts.parse_filevault, "macos 26.4.1\nFileVault is On.\n", 0, FileVault(True, True)),
        (restarts.parse_filevault, "macos 15.7\nFileVault is On.\n", 0, FileVault(True)),
        (
            restarts.parse_filevault,
            "macos 26.3\nFileVault is Off, but will be enabled after the next restart.\n",
            0,
            FileVault(True, True),
        ),
        (restarts.parse_filevault, "macos 26.3\n", 142, ValueError),
        (restarts.parse_filevault, "", 0, ValueError),
        (restarts.parse_updates, "no macOS\n", 0, None),
        (restarts.parse_updates, prefer("", ""), 0, Updates(False)),
        (restarts.parse_updates, prefer("", "1"), 0, Updates(True)),
        (restarts.parse_updates, prefer("0", "1"), 0, Updates(False, True)),
        (restarts.parse_updates, prefer("1", "0"), 0, Updates(True, True)),
        (restarts.parse_updates, prefer("", "maybe"), 0, ValueError),
        (restarts.parse_updates, "", 1, ValueError),
    ],
)
def test_parsers(parse: Callable[..., Any], text: str, status: int, expected: Any) -> None:
    if expected is ValueError:
        with pytest.raises(ValueError, match="can't be"):
            parse(text, status)
    else:
        assert parse(text, status) == expected


@pytest.mark.parametrize(
    ("key", "value", "level", "says"),
    [
        (sudo.KEY, True, OK, "without password"),
        (sudo.KEY, False, WARN, "--ask-sudo"),
        (clock.KEY, 104.0, OK, "as here"),
        (clock.KEY, 96.0, OK, "as here"),
        (clock.KEY, 120.0, WARN, "18 s ahead of the clock here"),
        (clock.KEY, 60.0, WARN, "39 s behind the clock here"),
        (power.KEY, None, OK, "no macOS"),
        (power.KEY, Power(0), OK, "never sleeps"),
        (power.KEY, Power(10, ("powerd",)), WARN, "10 min without use (now kept awake by powerd"),
        (power.KEY, Power(0, (), True), WARN, "low power mode"),
        (power.KEY, Power(0, comes_back=True), OK, "starts again after a power failure"),
        (power.KEY, Power(5, comes_back=False), WARN,
         "stays off after a power failure: sudo pmset -a sleep 0 autorestart 1"),
        (restarts.FILEVAULT_KEY, None, OK, "no macOS"),
        (restarts.FILEVAULT_KEY, FileVault(False), OK, "is off"),
        (restarts.FILEVAULT_KEY, FileVault(True), WARN, "no ssh before a login at its screen"),
        (restarts.FILEVAULT_KEY, FileVault(True, True), WARN, "ssh -o PubkeyAuthentication=no"),
        (restarts.FILEVAULT_KEY, Unknown("why"), FAIL, "unknown: why"),
        (restarts.UPDATES_KEY, None, OK, "no macOS"),
        (restarts.UPDATES_KEY, Updates(False), OK, "by itself"),
        (restarts.UPDATES_KEY, Updates(True), WARN, "sudo defaults write /Library/"),
        (restarts.UPDATES_KEY, Updates(True, True), WARN, "ask who manages it"),
        (firewall.KEY, None, OK, "no macOS"),
        (firewall.KEY, firewall.OFF, OK, "off"),
        (firewall.KEY, firewall.ON, WARN, "--unblockapp"),
        (firewall.KEY, firewall.BLOCKS_ALL, FAIL, "--setblockall off"),
        (reach.KEY, Reach("b:22", "connected", True), OK, "reaches b:22"),
        (reach.KEY, Reach("b:22", "ECONNREFUSED", False), OK, "reaches b:22"),
        (reach.KEY, Reach("b:22", "EHOSTUNREACH", True), FAIL, "Local Network privacy refuses"),
        (reach.KEY, Reach("b:22", "EHOSTUNREACH", False), FAIL, "do both nodes have these"),
        (reach.KEY, Reach("b:22", "ETIMEDOUT", True), FAIL, "ETIMEDOUT from b:22, nc connects"),
        (sudo.KEY, Unknown("no answer"), FAIL, "unknown: no answer"),
        (power.KEY, Unknown("why"), FAIL, "unknown: why"),
    ],
)  # fmt: skip
def test_what_a_host_is_judged_by(key: Key[Any], value: Any, level: str, says: str) -> None:
    """Read between 100 and 102 by our clock."""
    (found,) = host_checks.judge({"mac1": NodeFacts("mac1", {key: value})}, 100.0, 102.0)
    assert (found.check, found.node, found.level) == (key.name, "mac1", level)
    assert says in f"{found.what}: {found.fix}"


def test_versions_side_by_side() -> None:
    facts = {
        node: NodeFacts(node, {versions.KEY: {"mlx": mlx, "os": "25E253"}})
        for node, mlx in (("mac1", "0.32.4"), ("mac2", "0.32.1"))
    }
    both = [(FAIL, "mlx", ["0.32.4", "0.32.1"]), (OK, "os", ["25E253", "25E253"])]
    assert host_checks.versions(facts) == both
    lost = host_checks.versions({**facts, "mac3": NodeFacts("mac3", {versions.KEY: Unknown("x")})})
    assert [row[0] for row in lost] == [FAIL, FAIL]
    assert lost[1][2][2] == "unknown"


def test_reaching_a_peer() -> None:
    """The python for real: a listener, a closed port, and a python that says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert asked(sys.executable, port).python == "connected"
    assert asked(sys.executable, port).python == "ECONNREFUSED"
    assert isinstance(asked("/bin/true", port), Unknown)


def test_an_nc_that_waits_for_a_peer_is_ended(tmp_path: Path) -> None:
    """As Apple's does, whose -w limits no connect."""
    nc = tmp_path / "nc"
    nc.write_text("#!/bin/sh\nexec sleep 60\n")
    nc.chmod(0o755)
    assert not asked(sys.executable, 1, str(nc)).nc


def asked(python: str, port: int, nc: str = "/bin/true") -> Any:
    """What reach.fact reads here, with an nc that connects, or another."""
    import subprocess

    fact = reach.fact(python, "/", "127.0.0.1", port)
    script = reading.script([fact], "f00d").replace("/usr/bin/nc", nc)
    done = subprocess.run(
        ["/bin/sh", "-s"], input=script, capture_output=True, text=True, timeout=DEADLINE
    )
    return reading.read([fact], done.stdout, "f00d").get(fact.key)


def test_list(inv: Inv, sshd: Sshd, home: Path) -> None:
    """As configured, with what ssh's configuration makes of it; nobody is asked."""
    hosts = [
        {"ssh": "mac1", "ips": ["10.254.0.5"], "rdma": [None, "rdma_en5"], "python": "/opt/py"},
        {"ssh": "mac2", "ips": ["10.254.0.6"], "rdma": ["rdma_en5", None], "gateway": "mac1"},
    ]
    file = home / "hosts.json"
    file.write_text(json.dumps({"backend": "jaccl", "engine": "mlx-lm", "hosts": hosts}))
    found = inv("hosts.list", "--hostfile", str(file), "--json").json()
    assert [list(row.values())[:4] for row in found["hosts"]] == [
        ["0", "mac1", "10.254.0.5", "en5"],
        ["1", "mac2", "10.254.0.6", "en5"],
    ]
    assert found["hosts"][0]["user"].endswith(f" (port {sshd.ports['mac1']})")
    assert [row["python"] for row in found["hosts"]] == ["/opt/py", "python3"]
    shown = inv("hosts.list", "--hostfile", str(file)).out
    assert re.search(r"^1 +mac2 +10.254.0.6 +en5 .* python3 +mac1$", shown, re.MULTILINE)
    assert not any(sshd.connections(name) for name in sshd.names)


# A python that macOS keeps from other machines of its network.
KEPT = "import socket, errno\ndef refuse(*words): raise OSError(errno.EHOSTUNREACH, 'no route')\n"
KEPT += "socket.create_connection = refuse\n"


def test_check(inv: Inv, home: Path, macs: Callable[..., Rig]) -> None:
    rig = macs()
    hosts = [{"ssh": name, "ips": [rig.address(name)]} for name in rig.names]
    file = home / "hosts.json"
    words = ("hosts.check", "--hostfile", str(file))
    file.write_text(json.dumps({"engine": "mlx-lm", "hosts": hosts, "python": sys.executable}))
    good = inv(*words)
    assert re.search(r"^ok +mlx +(\S+) +\1$", good.out, re.MULTILINE)
    assert re.search(
        r"^warn +power +2 nodes +sleeps after 1 min .* power failure: ", good.out, re.MULTILINE
    )
    assert re.search(r"^ok +firewall +2 nodes +the firewall is off$", good.out, re.MULTILINE)
    assert re.search(r"^ok +reach +mac1 +python reaches ", good.out, re.MULTILINE)
    rig.set("mac1", sleep_minutes=0, autorestart=1, filevault="On", firewall=2)
    rig.set("mac2", defaults={host_checks.PREFERENCES: {host_checks.INSTALL: 1}})
    rig.set("mac2", build_version="25F80", sudo={"passwordless": False, "password": "secret"})
    (home / "kept").mkdir()
    (home / "kept" / "sitecustomize.py").write_text(KEPT)
    kept = home / "kept" / "python"
    kept.write_text(f'#!/bin/sh\nPYTHONPATH={home}/kept exec {sys.executable} "$@"\n')
    kept.chmod(0o755)
    hosts[1]["python"] = str(kept)
    file.write_text(json.dumps({"engine": "mlx-lm", "hosts": hosts, "python": sys.executable}))
    bad = inv(*words, code=3)
    for row in (
        r"fail +os +25E253 +25F80",
        r"fail +firewall +mac1 +the firewall blocks all that comes in: .*",
        r"ok +power +mac1 +never sleeps, starts again after a power failure",
        r"warn +filevault +mac1 +FileVault is on: .* over ssh too: .*",
        r"ok +filevault +mac2 +FileVault is off",
        r"ok +updates +mac1 +installs no update of macOS by itself",
        r"warn +updates +mac2 +installs updates of macOS by itself, and restarts: .*",
        r"warn +sudo +mac2 +sudo wants a password: .*",
        r"fail +reach +mac2 +Local Network privacy refuses python: EHOSTUNREACH .*",
    ):
        assert re.search(f"^{row}$", bad.out, re.MULTILINE), row
    rig.ssh_off("mac2")
    lost = inv(*words, "--json", code=5).json()
    assert not lost["ok"]
    assert list(lost["versions"]) == ["mac1"]
    assert [each["node"] for each in lost["findings"] if each["check"] == "reachable"] == ["mac2"]


def test_what_a_scan_shows() -> None:
    key = "AAAAC3NzaC1lZDI1NTE5AAAAIJTkBWLpC/9M9KDnxcmtnNWDXqbVfZ6jtmwQ+yEMTgiV"
    text = f"# mac1:22 SSH-2.0-OpenSSH\n[mac1]:22 ssh-ed25519 {key}\njunk\na b !!!\n"
    (found,) = keys = keyscan.parse(text)
    assert (found.kind, found.text) == ("ssh-ed25519", key)
    raw, other = known_hosts.decoded(key), b"other"
    known = KnownHost("f", "", "ssh-ed25519", raw)
    for entries, state in (
        ([], keyscan.NEW),
        ([known], keyscan.KNOWN),
        ([KnownHost("f", "", "ssh-rsa", other)], keyscan.NEW),
        ([KnownHost("f", "", "ssh-ed25519", other)], keyscan.WRONG),
        ([known, KnownHost("f", "@revoked", "ssh-ed25519", raw)], keyscan.WRONG),
    ):
        assert keyscan.judge("mac1", keys, KnownKeys("mac1", entries), "f").state == state
    assert keyscan.judge("mac1", [], KnownKeys("mac1", []), "f").state == keyscan.LOST


def test_trust(inv: Inv, sshd: Sshd) -> None:
    """Shown with ssh's own fingerprint, accepted on yes only, and then taken."""
    import subprocess

    words = ("hosts.trust", "--hosts", "mac1,mac2")
    sshd.trust("mac1")
    file = sshd.folder / "known_hosts"
    before = file.read_text()
    assert "add --yes" in inv(*words, code=2).err
    shown = inv(*words, "--dry-run").out
    line = ["ssh-keygen", "-l", "-f", str(sshd.folder / "mac2.key.pub")]
    print_of = subprocess.run(line, capture_output=True, text=True, check=True).stdout.split()[1]
    assert re.search(r"^ok +mac1 +ssh-ed25519 SHA256:", shown, re.MULTILINE)
    assert re.search(rf"^new +mac2 +ssh-ed25519 {re.escape(print_of)}$", shown, re.MULTILINE)
    assert typed(inv, "no\n", *words) == 3
    assert file.read_text() == before
    assert typed(inv, "yes\n", *words) == 0
    assert file.read_text().startswith(before)
    assert inv("tp.memory", "--hosts", "mac1,mac2", "--engine", "mlx-lm").code == 0
    assert inv(*words, "--json").json()["hosts"][1]["state"] == "ok"


def test_known_hosts_that_cant_be_written(tmp_path: Path) -> None:
    """A folder, or a file's name with a file above it."""
    (tmp_path / "file").touch()
    for path in (tmp_path, tmp_path / "file" / "known"):
        scanned = keyscan.Scanned("mac1", keyscan.NEW, (), name="mac1", file=str(path))
        with pytest.raises(BadInput, match=rf"mac1: can't write to {path} \("):
            keyscan.accept(scanned)


def typed(inv: Inv, text: str, *words: str) -> int:
    """The exit status when `text` is typed on a terminal."""
    ours, theirs = pty.openpty()
    os.write(ours, text.encode())
    process = inv.start(*words, stdin=theirs)
    process.communicate(timeout=DEADLINE)
    os.close(ours)
    os.close(theirs)
    return process.returncode


def test_a_key_that_has_changed_is_never_accepted(inv: Inv, sshd: Sshd) -> None:
    file = sshd.folder / "known_hosts"
    other = (sshd.folder / "user.key.pub").read_text().rsplit(" ", 1)[0]
    file.write_text(f"[127.0.0.1]:{sshd.ports['mac1']} {other}\n")
    before = file.read_text()
    refused = inv("hosts.trust", "--hosts", "mac1", "--yes", code=3)
    assert "has changed: if you know why: ssh-keygen -R" in refused.err
    assert file.read_text() == before
    sshd.stop("mac2")
    assert "showed no host key" in inv("hosts.trust", "--hosts", "mac2", "--yes", code=5).err
