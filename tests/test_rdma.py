"""inv rdma.* on test hosts that are like Macs: real interfaces, real SSH, macOS's own words."""

from __future__ import annotations

import json
import os
import plistlib
import pty
import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import DEADLINE, Done, Inv, wait_for
from rig import Rig, mesh, ring, two_cables, two_nodes
from terminals import END, Terminal
from terminals import terminal as terminal

Macs = Callable[..., Rig]
MATRIX = "/tmp/mlx_ibv_devices.json"
TOPOLOGIES = {
    "two": (2, two_nodes()),
    "two cables": (2, two_cables()),
    "mesh of three": (3, mesh(3)),
    "mesh of four": (4, mesh(4)),
    "ring of four": (4, ring(4)),
    "a cable missing": (3, mesh(3, missing=[("mac1", "mac3")])),
}


def nodes(rig: Rig) -> list[str]:
    """The --node options for the rig's links, in rank order."""
    rows = sorted(rig.links.items())
    return [
        word
        for (host, port), address in rows
        for word in ("--node", f"{host}:{port}:{address.partition('/')[0]}")
    ]


def matrix(rig: Rig) -> list[list[Any]]:
    """What the rig's cables come to, by a way of its own; cables in the order of their ports."""
    cells: dict[tuple[str, str], list[str]] = {}
    for one, two in sorted(sorted(((c.host, c.port), (c.other, c.other_port))) for c in rig.plan):
        cells.setdefault((one[0], two[0]), []).append(f"rdma_{one[1]}")
        cells.setdefault((two[0], one[0]), []).append(f"rdma_{two[1]}")
    rows = [[cells.get((row, column)) for column in rig.names] for row in rig.names]
    return [[cell[0] if cell and len(cell) == 1 else cell for cell in row] for row in rows]


def snapshot(rig: Rig) -> list[str]:
    """All that rdma.* could change on the hosts, but for the number of its hold."""
    look = (
        "/sbin/ifconfig -a | grep -v -e media -e 'status:'; cat /tmp/mlx_* 2>/dev/null;"
        " ls -a /tmp /Library/LaunchDaemons; ls -A ~/.mlx-tp 2>/dev/null | grep -vx default; true"
    )
    return [rig.run(host, look).stdout for host in rig.names]


def cycled(rig: Rig) -> list[list[str]]:
    """The calls that took an interface down or up: there must never be one."""
    calls = [call for host in rig.names for call in rig.calls(host, "ifconfig")]
    return [call for call in calls if {"down", "up"} & set(call)]


def sudos(rig: Rig) -> list[list[str]]:
    return [call for host in rig.names for call in rig.calls(host, "sudo")]


@pytest.mark.parametrize("name", TOPOLOGIES)
def test_setup_from_the_box(inv: Inv, macs: Macs, name: str) -> None:
    """Bridged ports without addresses become links; a second run changes nothing."""
    count, cables = TOPOLOGIES[name]
    rig = macs(count, cables)
    first = inv("rdma.setup", *nodes(rig))
    changed = re.findall(r"^changed +(\S+) +(.*)$", first.out, re.MULTILINE)
    assert len(changed) == 4 * len(cables) + count
    pings = re.findall(r"^ok +mac\d +en\d -> mac\d [\d.]+: [\d.]+ ms", first.out, re.MULTILINE)
    assert len(pings) == 2 * len(cables)
    texts = [rig.run(host, f"cat {MATRIX}").stdout for host in rig.names]
    assert [json.loads(text) for text in texts] == [matrix(rig)] * count
    for (host, port), address in rig.links.items():
        shown = rig.run(host, f"/sbin/ifconfig {port}").stdout
        assert f"inet {address.partition('/')[0]} netmask 0xfffffffc" in shown
    unlinked = re.findall(r"^no link between (\S+) and (\S+)$", first.err, re.MULTILINE)
    linked = {frozenset((c.host, c.other)) for c in cables}
    assert len(unlinked) == count * (count - 1) / 2 - len(linked)

    before = snapshot(rig)
    rig.forget_calls()
    second = inv("rdma.setup", *nodes(rig))
    unchanged = re.findall(r"^unchanged +(\S+)", second.out, re.MULTILINE)
    assert unchanged == list(rig.names)
    assert "changed  " not in second.out.replace("unchanged", "")
    assert not sudos(rig)
    assert snapshot(rig) == before
    assert not cycled(rig)


def test_only_what_is_wrong_is_mended(inv: Inv, macs: Macs) -> None:
    rig = macs(2, two_cables())
    inv("rdma.setup", *nodes(rig))
    rig.bridge("mac2", "en4")
    rig.forget_calls()
    again = inv("rdma.setup", *nodes(rig), "--json").json()
    rows = [(each["state"], each["host"]) for each in again["changes"]]
    assert rows == [("unchanged", "mac1"), ("changed", "mac2")]
    assert again["changes"][1]["what"] == "take en4 out of bridge0"
    assert {each["check"] for each in again["findings"]} > {"ping"}
    assert {call[2] for call in sudos(rig) if "-l" not in call} == {"/sbin/ifconfig"}
    assert not rig.calls("mac1", "sudo")


def test_phases_alone(inv: Inv, macs: Macs) -> None:
    rig = macs()
    for task in ("rdma.unbridge", "rdma.address", "rdma.devices"):
        assert inv(task, *nodes(rig), "--json", "--dry-run").json()["changes"] == []
    done = inv("rdma.unbridge", *nodes(rig), "--json").json()["changes"]
    assert [each["state"] for each in done] == ["changed", "changed"]
    assert "en5" not in rig.run("mac1", "/sbin/ifconfig bridge0").stdout
    assert "no IPv4 address, not 10.254.0.5/30" in inv("rdma.status", *nodes(rig), code=3).out
    inv("rdma.address", *nodes(rig))
    assert f"{MATRIX} is missing: inv rdma.setup" in inv("rdma.status", *nodes(rig), code=3).out
    inv("rdma.devices", *nodes(rig))
    inv("rdma.status", *nodes(rig))
    found = inv("rdma.ping", *nodes(rig), "--json").json()
    assert found["ok"]
    assert [each["node"] for each in found["findings"]] == ["mac1", "mac2"]


def cluster(inv: Inv, rig: Rig, path: Path, **more: Any) -> Path:
    """A jaccl hostfile for the rig's links."""
    rows = matrix(rig)
    hosts = [
        {
            "ssh": name,
            "ips": [rig.address(name)],
            "rdma": rows[index],
            "links": {port: a for (host, port), a in sorted(rig.links.items()) if host == name},
        }
        for index, name in enumerate(rig.names)
    ]
    path.write_text(json.dumps({"backend": "jaccl", "engine": "mlx-lm", "hosts": hosts, **more}))
    return path


@pytest.mark.parametrize("name", ["two", "two cables", "mesh of four"])
def test_setup_from_the_configured_hostfile(
    inv: Inv, macs: Macs, tmp_path: Path, name: str
) -> None:
    rig = macs(*TOPOLOGIES[name])
    inv.env["INVOKE_TP_HOSTFILE"] = str(cluster(inv, rig, tmp_path / "hosts.json"))
    inv("rdma.setup")
    assert json.loads(rig.run("mac1", f"cat {MATRIX}").stdout) == matrix(rig)
    # The same cluster passes the check that tp.start makes before jaccl.
    shown = inv("tp.preflight", "--skip", "memory,processes,ports,model,versions,cooldown").out
    assert re.search(r"^ok +rdma +\d nodes +devices up, links have IPv4$", shown, re.MULTILINE)


# What is refused before any node is asked: (words, what the line says).
REFUSED_UNSEEN: list[tuple[list[str], str]] = [
    (["--node", "mac1:en5"], "give HOST:IFACE:IP"),
    (["--node", "mac1:en5:10.254.0.5"], "is alone in 10.254.0.4/30"),
    (["--node", "mac1:en5:10.254.0.5", "--node", "mac2:en5:10.254.0.5"], "is there twice"),
    (["--node", "mac1:en5:10.254.0.5", "--node", "mac2:en5:10.254.0.9"], "is alone in"),
    (["--node", "mac1:en5:10.254.0.5", "--netmask", "40"], "--netmask 40"),
    (["--node", "mac1:en5:10.254.0.5", "--hostfile", "hosts/local.json"], "not both"),
    (["--proxy", "mac1:mac2"], "belong to --node"),
    (
        ["--node", "a:en5:10.0.0.1", "--node", "b:en5:10.0.0.2", "--proxy", "b:b"],
        "is not its own way",
    ),
    (["--hostfile", "hosts/local.json"], 'no "links"'),
    (["--hostfile", "nowhere.json"], "no such hostfile"),
]


@pytest.mark.parametrize(
    ("words", "says"), REFUSED_UNSEEN, ids=[" ".join(w) for w, _ in REFUSED_UNSEEN]
)
def test_wrong_use_asks_no_node(inv: Inv, macs: Macs, words: list[str], says: str) -> None:
    rig = macs()
    assert says in inv("rdma.setup", *words, code=2).one_line()
    assert [rig.connections(host) for host in rig.names] == [0, 0]


def office(rig: Rig) -> list[str]:
    """Addresses in the subnet of the hosts' default route."""
    base = rig.gateway.rpartition(".")[0]
    return ["--node", f"mac1:en5:{base}.101", "--node", f"mac2:en5:{base}.102"]


@pytest.mark.parametrize(
    ("prepare", "words", "says"),
    [
        (None, office, "is in use"),
        (
            lambda rig: rig.run("mac2", "/sbin/ifconfig en3 inet 10.254.0.6/24", root=True),
            nodes,
            "en3 has 10.254.0.6/24",
        ),
        (
            None,
            lambda rig: ["--node", "mac1:en5:10.254.0.5", "--node", "mac2:en19:10.254.0.6"],
            "no interface en19",
        ),
        (
            None,
            lambda rig: ["--node", "mac1:en0:10.254.0.5", "--node", "mac2:en5:10.254.0.6"],
            "en0 is no Thunderbolt port (those are en2, ",
        ),
        (lambda rig: rig.fault("mac2", "hang", "netstat"), nodes, "its routes can't be read"),
        (lambda rig: rig.fault("mac2", "hang", "ifconfig"), nodes, "its interfaces can't be read"),
        (
            lambda rig: rig.run("mac2", f"echo nonsense >{MATRIX}"),
            nodes,
            "its matrix can't be read",
        ),
    ],
    ids=[
        "office subnet",
        "other interface",
        "no interface",
        "management",
        "no routes",
        "no ifconfig",
        "matrix",
    ],
)
def test_refused_before_anything_is_touched(
    inv: Inv, macs: Macs, prepare: Any, words: Callable[[Rig], list[str]], says: str
) -> None:
    rig = macs()
    if prepare:
        prepare(rig)
    rig.forget_calls()
    before = [rig.run(host, f"/sbin/ip addr; cat {MATRIX}; true").stdout for host in rig.names]
    done = inv("rdma.setup", *words(rig), code=3)
    assert says in done.err
    assert done.err.splitlines()[-1] == "nothing was changed"
    assert not sudos(rig)
    after = [rig.run(host, f"/sbin/ip addr; cat {MATRIX}; true").stdout for host in rig.names]
    assert after == before


def test_unreachable_node(inv: Inv, macs: Macs) -> None:
    rig = macs()
    rig.ssh_off("mac2")
    before = snapshot(rig)
    done = inv("rdma.setup", *nodes(rig), code=5)
    assert re.search(r"^fail +mac2 .*ssh .*-v mac2 true", done.err, re.MULTILINE)
    assert snapshot(rig) == before


def test_sudo_that_wants_a_password(inv: Inv, macs: Macs) -> None:
    """Found out before the first change, on every node, with a sudoers line that helps."""
    rig = macs()
    rig.fault("mac2", "sudo_password")
    before = snapshot(rig)
    refused = inv("rdma.setup", *nodes(rig), code=3)
    assert "nothing was changed" in refused.err
    assert snapshot(rig) == before
    line = re.search(r"^fail +mac2 .*sudoers.d/mlx-tp: (\S+ ALL=\(root\) .*)$", refused.err, re.M)
    assert line
    assert "mac1" not in refused.err
    rig.run("mac2", "cat >/etc/sudoers.d/mlx-tp", input=line.group(1) + "\n", root=True)
    inv("rdma.setup", *nodes(rig))
    inv("rdma.status", *nodes(rig))


def test_sudo_with_other_rights_is_not_taken_for_ours(inv: Inv, macs: Macs) -> None:
    """A NOPASSWD line for something else makes sudo -l answer; that is no leave for ifconfig."""
    rig = macs()
    rig.fault("mac2", "sudo_password")
    rule = "admin ALL=(root) NOPASSWD: /usr/bin/true\n"
    rig.run("mac2", "cat >/etc/sudoers.d/x", input=rule, root=True)
    before = snapshot(rig)
    assert "nothing was changed" in inv("rdma.setup", *nodes(rig), code=3).err
    assert snapshot(rig) == before


def asked(inv: Inv, password: str, *words: str) -> Done:
    """Run `inv` on a terminal that types `password` when it is asked."""
    ours, theirs = pty.openpty()
    pipes: dict[str, Any] = {"stdin": theirs, "start_new_session": True}
    process = inv.start(*words, **pipes, preexec_fn=lambda: _controlling(theirs))
    os.close(theirs)
    wait_for(lambda: b"sudo password" in os.read(ours, 1000))
    os.write(ours, password.encode() + b"\n")
    out, err = process.communicate(timeout=DEADLINE)
    os.close(ours)
    return Done(process.returncode, out, err)


def _controlling(terminal: int) -> None:
    import fcntl
    import termios

    fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)


def test_sudo_password_is_asked_once(inv: Inv, macs: Macs) -> None:
    rig = macs()
    for host in rig.names:
        rig.fault(host, "sudo_password")
    wrong = asked(inv, "wrong", "rdma.setup", *nodes(rig), "--ask-sudo")
    assert wrong.code == 3, wrong.err
    assert "nothing was changed" in wrong.err
    right = asked(inv, "secret", "rdma.setup", *nodes(rig), "--ask-sudo")
    assert right.code == 0, right.err
    inv("rdma.status", *nodes(rig))
    # Right everywhere: nobody is asked, no sudo runs.
    rig.forget_calls()
    inv("rdma.setup", *nodes(rig), "--ask-sudo")
    assert not sudos(rig)


ANSWERS = {  # keys pressed -> exit status, and what is said then
    "C-c": (130, "interrupted"),
    "C-d": (2, "no password was given; nothing was changed"),
    "Enter": (2, "no password was given; nothing was changed"),
    "wrong Enter": (3, "sudo is needed for these changes; nothing was changed"),
}


def test_a_terminal_waits_for_the_password(terminal: Terminal, inv: Inv, macs: Macs) -> None:
    """It says whose it wants, shows none of it, and whatever is pressed gets one line."""
    rig = macs()
    for host in rig.names:
        rig.fault(host, "sudo_password")
    words = [sys.executable, "-m", "invoke", *inv.line("rdma.setup", *nodes(rig), "--ask-sudo")]
    before = snapshot(rig)
    for keys, (code, says) in ANSWERS.items():
        terminal.open(
            f'{shlex.join(words)}; echo "exit $? {END}"; sleep 1000', env=inv.environment()
        )
        wait_for(lambda: "sudo password on mac1, mac2:" in terminal.rows())
        terminal.tmux("send-keys", *keys.split())
        wait_for(lambda: any(row.startswith("exit") and END in row for row in terminal.rows()))
        question, *_, told, end = filter(None, terminal.rows())
        assert (question, told) == ("sudo password on mac1, mac2:", says), keys
        assert end == f"exit {code} {END}"
        terminal.tmux("kill-server")
    assert snapshot(rig) == before


def test_no_terminal_to_ask_on(inv: Inv, macs: Macs) -> None:
    rig = macs()
    done = inv("rdma.setup", *nodes(rig), "--ask-sudo", code=2)
    assert "no terminal to ask on" in done.err


# A fault on mac1 -> what rdma.status says of it, and preflight before jaccl.
FAULTS = [
    (("rdma_disabled",), "RDMA is disabled: in Recovery", "RDMA is disabled"),
    (("device_missing", "rdma_en5"), "rdma_en5 is not among the devices", "not among the devices"),
    (("port_down", "rdma_en5"), "rdma_en5: its port is PORT_DOWN", "its port is PORT_DOWN"),
    (("no_ipv4_gid", "rdma_en5"), "no IPv4-mapped GID", "no IPv4-mapped GID"),
    (("bridged", "en5"), "en5 is in bridge0: inv rdma.setup", "its interface is in bridge0"),
    (("link_cut", "en5"), "en5 is inactive: check the cable", "its port is PORT_DOWN"),
    (("tb4",), "Thunderbolt 4 can't do RDMA", "Thunderbolt 4 can't do RDMA"),
    (("hang", "ibv_devinfo"), "unknown: it gave no answer in time", "no answer in time"),
    (("hang", "rdma_ctl"), "unknown: it gave no answer in time", "no answer in time"),
    (("hang", "ifconfig"), "unknown", "no answer in time"),
]


@pytest.mark.parametrize(
    ("fault", "status", "preflight"), FAULTS, ids=[" ".join(fault) for fault, _, _ in FAULTS]
)
def test_every_fault_is_found(
    inv: Inv, macs: Macs, tmp_path: Path, fault: tuple[str, ...], status: str, preflight: str
) -> None:
    rig = macs()
    inv.env["INVOKE_TP_HOSTFILE"] = str(cluster(inv, rig, tmp_path / "hosts.json"))
    inv("rdma.setup")
    rig.fault("mac1", *fault)
    rig.forget_calls()
    found = inv("rdma.status", code=3).out
    assert any(
        line.startswith("fail") and "mac1" in line and status in line for line in found.splitlines()
    ), found
    skip = "memory,processes,ports,model,versions,cooldown"
    checked = inv("tp.preflight", "--skip", skip, code=3).out
    assert re.search(rf"^fail +rdma +mac1 .*{re.escape(preflight)}", checked, re.MULTILINE)
    assert not sudos(rig)


@pytest.mark.parametrize(
    ("fault", "check", "says"),
    [
        (("wired_leak", "380"), "memory", "389.0 of 512 GiB wired (limit 351 GiB): reboot it"),
        (("os_build", "25X99"), "versions", "os 25X99, not 25E253"),
    ],
)
def test_faults_of_other_checks(
    inv: Inv, macs: Macs, tmp_path: Path, fault: tuple[str, ...], check: str, says: str
) -> None:
    rig = macs()
    inv.env["INVOKE_TP_HOSTFILE"] = str(cluster(inv, rig, tmp_path / "hosts.json"))
    rig.fault("mac2", *fault)
    found = inv("tp.preflight", "--python", sys.executable, "--skip", "rdma,model", code=3).out
    assert re.search(rf"^fail +{check} +mac2 .*{re.escape(says)}", found, re.MULTILINE), found


def test_ping_over_a_cut_link(inv: Inv, macs: Macs) -> None:
    rig = macs(2, two_cables())
    inv("rdma.setup", *nodes(rig))
    rig.cut("mac1", "en3")
    found = inv("rdma.ping", *nodes(rig), code=3).out
    assert re.search(r"^ok +mac1 +en5 -> mac2 ", found, re.MULTILINE)
    assert re.search(r"^fail +mac1 +en3 -> mac2 [\d.]+: no answer: inv rdma.status$", found, re.M)
    assert "is inactive" in inv("rdma.setup", *nodes(rig), code=3).out


def test_dry_run_shows_all_and_does_nothing(inv: Inv, macs: Macs) -> None:
    rig = macs()
    before = snapshot(rig)
    for words in (["rdma.setup", *nodes(rig), "--dry-run"], ["-R", "rdma.setup", *nodes(rig)]):
        shown = inv(*words).out
        assert "sudo /sbin/ifconfig bridge0 deletem en5" in shown
        assert "sudo /sbin/ifconfig en5 inet 10.254.0.5 netmask 255.255.255.252" in shown
        assert '[[null, "rdma_en5"], ["rdma_en5", null]]' in shown
    assert snapshot(rig) == before
    assert not sudos(rig)
    shown = inv("rdma.setup", *nodes(rig), "--verbose").out
    assert "sudo /sbin/ifconfig bridge0 deletem en5" in shown


def test_a_node_behind_another(inv: Inv, macs: Macs) -> None:
    rig = macs()
    inv("rdma.setup", *nodes(rig), "--proxy", "mac1:mac2")
    # mac1 is asked itself, and carries the connection to mac2.
    assert rig.connections("mac1") == 2
    assert rig.connections("mac2") == 1


@pytest.mark.parametrize("kind", ["link", "folder"])
def test_matrix_is_not_written_through_what_others_laid(inv: Inv, macs: Macs, kind: str) -> None:
    rig = macs()
    inv("rdma.unbridge", *nodes(rig))
    make = f"ln -s ~/victim {MATRIX}" if kind == "link" else f"mkdir {MATRIX}"
    rig.run("mac1", f"echo mine >~/victim; rm -rf {MATRIX}; {make}")
    if kind == "folder":
        assert "its matrix can't be read" in inv("rdma.devices", *nodes(rig), code=3).err
        assert rig.run("mac1", f"ls {MATRIX}").stdout == ""
        return
    # A link to what is no matrix is refused; one to nothing is replaced, never followed.
    assert "its matrix can't be read" in inv("rdma.devices", *nodes(rig), code=3).err
    rig.run("mac1", "rm ~/victim")
    inv("rdma.devices", *nodes(rig))
    assert rig.run("mac1", f"[ -L {MATRIX} ]", check=False).returncode == 1
    assert rig.run("mac1", "[ -e ~/victim ]", check=False).returncode == 1


def test_an_action_that_fails_is_told(inv: Inv, macs: Macs) -> None:
    rig = macs()
    rig.run("mac2", f"echo '[]' >{MATRIX}")
    rig.run("mac2", f"echo '[]' >/Users/x; mount --bind /Users/x {MATRIX}", root=True)
    try:
        done = inv("rdma.setup", *nodes(rig), code=4)
    finally:
        rig.unmount("mac2", MATRIX)
    assert re.search(r"^changed +mac2 +set en5", done.out, re.MULTILINE)
    assert re.search(
        rf"^fail +mac2 +write {MATRIX} \(was another\): .*can't be replaced", done.out, re.MULTILINE
    )
    assert re.search(r"^changed +mac1 +write", done.out, re.MULTILINE)
    # It goes on from there.
    again = inv("rdma.setup", *nodes(rig)).out
    assert re.findall(r"^changed +(\S+) +(\S+)", again, re.MULTILINE) == [("mac2", "write")]


def test_discover_to_setup(inv: Inv, macs: Macs, tmp_path: Path) -> None:
    """From the cables to a hostfile to links that ping, and what has moved afterwards."""
    rig = macs(3, mesh(3))
    rig.put_device("mac1", "en7", "drive")
    file = tmp_path / "mine.json"
    names = ",".join(rig.names)
    found = inv("rdma.discover", "--hosts", names, "--write", str(file))
    assert "backend jaccl: there is RDMA between every two of the 3 hosts" in found.out
    assert not sudos(rig)
    data = json.loads(file.read_text())
    assert [host["rdma"] for host in data["hosts"]] == matrix(rig)
    # The command that it prints is right, and so is the file.
    command = next(line for line in found.out.splitlines() if line.startswith("inv rdma.setup"))
    inv(*command.split()[1:])
    again = inv("rdma.setup", "--hostfile", str(file)).out
    assert re.findall(r"^unchanged +(\S+)", again, re.MULTILINE) == list(rig.names)

    # What a person wrote stays, and a second look finds the same.
    data["python"] = "/opt/homebrew/bin/python3.14"
    file.write_text(json.dumps(data))
    inv("rdma.discover", "--hosts", names, "--write", str(file))
    assert json.loads(file.read_text()) == data
    assert "nothing has moved" in inv("rdma.discover", "--hostfile", str(file), "--diff").out

    cable = rig.plan[0]
    rig.cut(cable.host, cable.port)
    rig.plug(cable.host, "en6", cable.other, cable.other_port)
    moved = inv("rdma.discover", "--hostfile", str(file), "--diff", code=3)
    assert f"mac1: {cable.port} is now en6 (to mac2)" in moved.out
    assert json.loads(file.read_text()) == data


def test_discover_thunderbolt_4(inv: Inv, macs: Macs) -> None:
    macs(2, two_nodes(), states={"mac2": {"thunderbolt": 4}})
    found = inv("rdma.discover", "--hosts", "mac1,mac2")
    assert "Thunderbolt 4: they can't do RDMA" in found.err
    assert re.search(r"^backend ring: mac2's ports are Thunderbolt 4", found.out, re.MULTILINE)


def test_discover_is_told_by_one_end_only(inv: Inv, macs: Macs, tmp_path: Path) -> None:
    macs().fault("mac2", "hang", "system_profiler")
    file = tmp_path / "mine.json"
    done = inv("rdma.discover", "--hosts", "mac1,mac2", "--write", str(file), code=3)
    assert "mac2" in done.err
    assert not file.exists()


def test_topology(inv: Inv, macs: Macs, tmp_path: Path) -> None:
    rig = macs(3, mesh(3))
    file = tmp_path / "mine.json"
    inv("rdma.discover", "--hosts", "mac1,mac2,mac3", "--write", str(file))
    inv("rdma.setup", "--hostfile", str(file))
    one, two, three = rig.plan
    rig.cut(one.host, one.port)
    rig.bridge(two.host, two.port)
    svg = tmp_path / "topology.svg"
    shown = inv("rdma.topology", "--hostfile", str(file), "--svg", str(svg)).out
    states = re.findall(r"^mac\d en\d .* mac\d +(.*?) *$", shown, re.MULTILINE)
    assert sorted(states) == ["good", "in a bridge", "missing"]
    found = inv("rdma.topology", "--hostfile", str(file), "--json").json()
    assert sorted(each["state"] for each in found["cables"]) == sorted(states)
    assert found["hosts"] == ["mac1", "mac2", "mac3"]
    assert svg.read_text().startswith("<svg")
    assert three.port in svg.read_text()


def test_persist(inv: Inv, macs: Macs) -> None:
    """The settings survive a reboot, by doing what setup does; taken away, they don't."""
    rig = macs()
    shown = inv("rdma.persist", *nodes(rig), "--dry-run").out
    text = shown[shown.index("<?xml") : shown.index("</plist>") + len("</plist>")]
    job = plistlib.loads(text.encode())
    assert job["RunAtLoad"] is True
    assert not {"down", "up"} & set(job["ProgramArguments"][2].split())
    assert snapshot(rig)[0].count("com.mlx-tp") == 0

    inv("rdma.setup", *nodes(rig))
    inv("rdma.persist", *nodes(rig))
    rig.forget_calls()
    assert inv("rdma.persist", *nodes(rig)).out.count("unchanged") == 2
    assert not sudos(rig)
    for host in rig.names:
        rig.reboot(host)
    wait_for(lambda: inv.run("rdma.status", *nodes(rig)).code == 0)
    # What root wrote at boot is the user's to change, and nothing is left to do.
    assert inv("rdma.setup", *nodes(rig)).out.count("unchanged") == 2
    assert not cycled(rig)

    inv("rdma.unpersist", *nodes(rig))
    for host in rig.names:
        rig.reboot(host)
    assert "is in bridge0" in inv("rdma.status", *nodes(rig), code=3).out
    left = inv("rdma.unpersist", *nodes(rig), "--json").json()["changes"]
    assert [each["state"] for each in left] == ["unchanged", "unchanged"]


def test_persist_wants_the_password(inv: Inv, macs: Macs) -> None:
    """No line of sudoers is told for what root is to run; one for else is no leave."""
    rig = macs()
    rig.fault("mac1", "sudo_password")
    rig.fault("mac2", "sudo_password")
    lines = "admin ALL=(root) NOPASSWD: /sbin/ifconfig lo0\n"
    rig.run("mac1", "cat >/etc/sudoers.d/mlx-tp", input=lines, root=True)
    before = snapshot(rig)
    refused = inv("rdma.persist", *nodes(rig), code=3)
    assert "nothing was changed" in refused.err
    assert snapshot(rig) == before
    told = re.findall(r"^fail +(mac\d) .*: --ask-sudo: no line of sudoers", refused.err, re.M)
    assert told == ["mac1", "mac2"]
    assert "NOPASSWD" not in refused.err
    right = asked(inv, "secret", "rdma.persist", *nodes(rig), "--ask-sudo")
    assert right.code == 0, right.err
    # To take it away may be allowed by a line.
    rig.run("mac1", "rm /etc/sudoers.d/mlx-tp", root=True)
    refused = inv("rdma.unpersist", *nodes(rig), code=3)
    for host in rig.names:
        line = re.search(rf"^fail +{host} .*sudoers.d/mlx-tp: (.*)$", refused.err, re.MULTILINE)
        assert line
        rig.run(host, "cat >/etc/sudoers.d/mlx-tp", input=line.group(1) + "\n", root=True)
    inv("rdma.unpersist", *nodes(rig))


def test_persist_where_launchd_can_not_be_read(inv: Inv, macs: Macs) -> None:
    rig = macs()
    rig.run("mac2", "mkdir /Library/LaunchDaemons/com.mlx-tp-tasks.rdma.plist", root=True)
    before = snapshot(rig)
    refused = inv("rdma.persist", *nodes(rig), code=3).err
    assert re.search(r"^fail +mac2 +its launchd can't be read", refused, re.MULTILINE)
    assert snapshot(rig) == before
