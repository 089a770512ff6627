"""What hosts.check says of a Mac's own settings, fact by fact: values -> level, words, remedy."""

from __future__ import annotations

from typing import Any

import pytest

from tasks.cluster.checks import FAIL, OK, WARN, machine
from tasks.cluster.facts import Key, NodeFacts, Unknown
from tasks.cluster.facts.links import reach
from tasks.cluster.facts.links.reach import Reach
from tasks.cluster.facts.machine import clock, firewall, power, restarts, sudo, versions
from tasks.cluster.facts.machine.power import Power
from tasks.cluster.facts.machine.restarts import FileVault, Updates

BEGUN, ENDED = 1000.0, 1002.0  # of our clock, while the nodes were asked
NETWORK_TIME = "set the time by network: sudo sntp -sS time.apple.com"
PRIVACY = "allow it: System Settings, Privacy & Security, Local Network; or log in by sshd"
ADDRESSES = "do both nodes have these addresses? inv hosts.list, inv rdma.ping"
VAULT = "before a restart that is planned: sudo fdesetup authrestart; or sudo fdesetup disable"
LOCKED = "FileVault is on: after a restart "
BY_ITSELF = "installs updates of macOS by itself, and restarts"
UPDATE = "/Library/Preferences/com.apple.SoftwareUpdate AutomaticallyInstallMacOSUpdates"
REFUSED = "Local Network privacy refuses python: EHOSTUNREACH to mac2, nc connects"
ADD = "if others can't reach a rank: sudo /usr/libexec/ApplicationFirewall/socketfilterfw"

ROWS: list[tuple[Key[Any], Any, str, str, str]] = [
    (sudo.KEY, True, OK, "sudo without password", ""),
    (sudo.KEY, False, WARN, "sudo wants a password",
     "rdma.setup needs --ask-sudo, and tells a sudoers line"),
    (clock.KEY, ENDED + 5, OK, "as here", ""),
    (clock.KEY, BEGUN - 6, OK, "as here", ""),
    (clock.KEY, ENDED + 6, WARN, "6 s ahead of the clock here", NETWORK_TIME),
    (clock.KEY, BEGUN - 7, WARN, "6 s behind the clock here", NETWORK_TIME),
    (power.KEY, None, OK, machine.NO_MAC, ""),
    (power.KEY, Power(0), OK, "never sleeps", ""),
    (power.KEY, Power(0, comes_back=True), OK,
     "never sleeps, starts again after a power failure", ""),
    (power.KEY, Power(10), WARN, "sleeps after 10 min without use", "sudo pmset -a sleep 0"),
    (power.KEY, Power(1, ("caffeinate", "sshd")), WARN,
     "sleeps after 1 min without use (now kept awake by caffeinate, sshd)",
     "sudo pmset -a sleep 0"),
    (power.KEY, Power(10, is_low=True, comes_back=False), WARN,
     "sleeps after 10 min without use, low power mode, stays off after a power failure",
     "sudo pmset -a sleep 0 lowpowermode 0 autorestart 1"),
    (restarts.FILEVAULT_KEY, None, OK, machine.NO_MAC, ""),
    (restarts.FILEVAULT_KEY, FileVault(False), OK, "FileVault is off", ""),
    (restarts.FILEVAULT_KEY, FileVault(True), WARN,
     f"{LOCKED}no ssh before a login at its screen", VAULT),
    (restarts.FILEVAULT_KEY, FileVault(True, True), WARN,
     f"{LOCKED}no key comes in until a password has, over ssh too",
     f"unlock it by ssh -o PubkeyAuthentication=no, once; {VAULT}"),
    (restarts.UPDATES_KEY, None, OK, machine.NO_MAC, ""),
    (restarts.UPDATES_KEY, Updates(False), OK, "installs no update of macOS by itself", ""),
    (restarts.UPDATES_KEY, Updates(True), WARN, BY_ITSELF,
     f"sudo defaults write {UPDATE} -bool FALSE"),
    (restarts.UPDATES_KEY, Updates(True, True), WARN, BY_ITSELF,
     "a profile says so: ask who manages it"),
    (firewall.KEY, None, OK, machine.NO_MAC, ""),
    (firewall.KEY, firewall.OFF, OK, "the firewall is off", ""),
    (firewall.KEY, firewall.ON, WARN, "the firewall is on",
     f"{ADD} --add PYTHON, --unblockapp PYTHON"),
    (firewall.KEY, firewall.BLOCKS_ALL, FAIL, "the firewall blocks all that comes in",
     "sudo /usr/libexec/ApplicationFirewall/socketfilterfw --setblockall off"),
    (reach.KEY, Reach("mac2", "connected", False), OK, "python reaches mac2", ""),
    (reach.KEY, Reach("mac2", "ECONNREFUSED", False), OK, "python reaches mac2", ""),
    (reach.KEY, Reach("mac2", "EHOSTUNREACH", True), FAIL, REFUSED, PRIVACY),
    (reach.KEY, Reach("mac2", "EHOSTUNREACH", False), FAIL,
     "python gets EHOSTUNREACH from mac2", ADDRESSES),
    (reach.KEY, Reach("mac2", "ETIMEDOUT", True), FAIL,
     "python gets ETIMEDOUT from mac2, nc connects", ADDRESSES),
]  # fmt: skip


@pytest.mark.parametrize(("key", "value", "level", "what", "fix"), ROWS)
def test_what_is_said(key: Key[Any], value: Any, level: str, what: str, fix: str) -> None:
    facts = {"mac1": NodeFacts("mac1", {key: value}), "mac2": NodeFacts("mac2", {})}
    (found,) = machine.judge(facts, BEGUN, ENDED)
    assert (found.check, found.node) == (key.name, "mac1")
    assert (found.level, found.what, found.fix) == (level, what, fix)


@pytest.mark.parametrize("key", {row[0].name: row[0] for row in ROWS}.values())
def test_what_is_unknown_fails(key: Key[Any]) -> None:
    facts = {"mac1": NodeFacts("mac1", {key: Unknown("pmset: exit 1")})}
    (found,) = machine.judge(facts, BEGUN, ENDED)
    assert (found.level, found.what) == (FAIL, "unknown: pmset: exit 1")
    assert found.fix == "run it on the node to see why"


def test_versions_stand_side_by_side() -> None:
    said = [{"python": "3.13", "mlx": "0.32"}, {"python": "3.13", "mlx": "0.31", "macos": "26.3"}]
    nodes = {f"mac{n}": NodeFacts(f"mac{n}", {versions.KEY: v}) for n, v in enumerate(said, 1)}
    nodes["mac3"] = NodeFacts("mac3", {versions.KEY: Unknown("no python")})
    assert machine.versions({"mac1": nodes["mac1"]}) == [
        (OK, "python", ["3.13"]),
        (OK, "mlx", ["0.32"]),
    ]
    assert machine.versions(nodes) == [
        (FAIL, "python", ["3.13", "3.13", "unknown"]),
        (FAIL, "mlx", ["0.32", "0.31", "unknown"]),
        (FAIL, "macos", ["unknown", "26.3", "unknown"]),
    ]
