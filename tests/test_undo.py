"""inv rdma.undo on test hosts: what setup and persist changed is given back, the rest is left."""

from __future__ import annotations

import re
from collections.abc import Callable

from conftest import Inv
from rig import Rig, two_cables
from test_persist import shown, until_says
from test_rdma import MATRIX, asked, cycled, nodes, sudos

from tasks.cluster.rdma import launchd

Macs = Callable[..., Rig]
FILES = f"ls -d {MATRIX} {launchd.PATH} {launchd.LOG} ~/{launchd.DRAFT} 2>/dev/null; true"


def settings(rig: Rig) -> list[str]:
    """Which ports are in a bridge, which addresses there are, and which files of ours."""
    found = []
    for host in rig.names:
        text = rig.run(host, "/sbin/ifconfig -a").stdout
        members = sorted(re.findall(r"member: (\S+)", text))
        addresses = re.findall(r"^(\w+):|\tinet (\S+) ", text, re.MULTILINE)
        found.append(f"{members} {addresses} {rig.run(host, FILES).stdout}")
    return found


def test_all_is_as_it_was(inv: Inv, macs: Macs) -> None:
    rig = macs(2, two_cables())
    before = settings(rig)
    inv("rdma.setup", *nodes(rig))
    inv("rdma.persist", *nodes(rig))
    for host in rig.names:
        until_says(rig, host, "as wanted")
    assert settings(rig) != before

    made = settings(rig)
    rig.forget_calls()
    dry = inv("rdma.undo", *nodes(rig), "--dry-run").out
    assert "sudo /sbin/ifconfig en5 inet 10.254.0.5 -alias\n" in dry
    assert "sudo /sbin/ifconfig bridge0 addm en5\n" in dry
    assert f"sudo /bin/launchctl bootout system/{launchd.LABEL}\n" in dry
    assert settings(rig) == made
    assert not sudos(rig)

    done = inv("rdma.undo", *nodes(rig))
    assert len(re.findall(r"^changed +mac\d", done.out, re.MULTILINE)) == 2 * 9
    assert settings(rig) == before
    assert launchd.LABEL not in rig.run("mac1", "/bin/launchctl list").stdout
    assert not cycled(rig)

    rig.forget_calls()
    again = inv("rdma.undo", *nodes(rig), "--json").json()["changes"]
    assert [(each["state"], each["host"]) for each in again] == [
        ("unchanged", name) for name in rig.names
    ]
    assert not sudos(rig)
    words = rig.run("mac1", "cat ~/.mlx-tp/audit.log").stdout
    assert "take 10.254.0.5 from en5; put en5 into bridge0" in words
    # And all of it can be had again.
    inv("rdma.setup", *nodes(rig))


def test_what_is_not_ours_is_left(inv: Inv, macs: Macs) -> None:
    rig = macs()
    inv("rdma.setup", *nodes(rig))
    other = '[[null, "rdma_en2"], ["rdma_en2", null]]'
    alias = "/sbin/ifconfig en5 inet 192.168.77.1 netmask 255.255.255.0 alias"
    rig.run("mac1", f"{alias}; echo '{other}' >{MATRIX}", root=True)
    done = inv("rdma.undo", *nodes(rig))
    assert "mac1: left: en5 has 192.168.77.1, an address of none of these links" in done.err
    assert f"mac1: left: {MATRIX} is of other links" in done.err
    assert "mac2: left" not in done.err
    assert re.findall("inet (.*) netmask", shown(rig, "mac1", "en5")) == ["192.168.77.1"]
    assert rig.run("mac1", f"cat {MATRIX}").stdout.strip() == other
    assert inv("rdma.undo", *nodes(rig)).out.count("unchanged") == 2


def test_refused_while_a_rank_lives(inv: Inv, macs: Macs) -> None:
    rig = macs()
    inv("rdma.setup", *nodes(rig))
    rig.run("mac2", "MLX_RANK=1 sleep 300 >/dev/null 2>&1 & echo $! >~/pid")
    before = settings(rig)
    rig.forget_calls()
    told = inv("rdma.undo", *nodes(rig), "--json", code=3).json()
    assert told["error"] == "nothing was changed"
    assert [each["node"] for each in told["findings"]] == ["mac2"]
    done = inv("rdma.undo", *nodes(rig), code=3)
    pid = rig.run("mac2", "cat ~/pid").stdout.strip()
    assert re.search(rf"^fail +mac2 +rank 1 lives \(pid {pid}\): inv tp.stop$", done.err, re.M)
    assert done.err.splitlines()[-1] == "nothing was changed"
    assert settings(rig) == before
    assert not sudos(rig)
    rig.run("mac2", f"kill {pid}")


def test_sudo_that_wants_a_password(inv: Inv, macs: Macs) -> None:
    """By a line of fixed words on one node, by the password on both."""
    rig = macs()
    inv("rdma.setup", *nodes(rig))
    inv("rdma.persist", *nodes(rig))
    for host in rig.names:
        until_says(rig, host, "as wanted")
    made = settings(rig)
    for host in rig.names:
        rig.fault(host, "sudo_password")
    refused = inv("rdma.undo", *nodes(rig), code=3)
    assert settings(rig) == made
    line = re.search(r"^fail +mac2 .*sudoers.d/mlx-tp: (\S+ ALL=\(root\) .*)$", refused.err, re.M)
    assert line
    rig.run("mac2", "cat >/etc/sudoers.d/mlx-tp", input=line.group(1) + "\n", root=True)
    again = inv("rdma.undo", *nodes(rig), code=3)
    assert re.findall(r"^fail +(mac\d)", again.err, re.MULTILINE) == ["mac1"]
    right = asked(inv, "secret", "rdma.undo", *nodes(rig), "--ask-sudo")
    assert right.code == 0, right.err
    assert inv("rdma.undo", *nodes(rig)).out.count("unchanged") == 2
