"""inv hosts.clean: all that we ever put on a host goes, whatever wrote it, and nothing else."""

from __future__ import annotations

import re
from collections.abc import Callable

import layout
from conftest import Inv, Sshd
from rig import Rig
from test_persist import until_says
from test_rdma import nodes

from tasks.cluster.hosts.clean import SUDOERS
from tasks.cluster.rdma import launchd
from tasks.cluster.version import WRITER

THEIRS = (
    "notes.txt",
    "work/runs/one/record.txt",
    "default/mine",
    "baseline.csv",
    "models/mine.json",
)


def test_all_of_ours_and_nothing_else(light_remote: Inv, sshd: Sshd) -> None:
    inv = light_remote
    state = sshd.node_home("mac1") / layout.STATE
    inv("tp.start")
    refused = inv("hosts.clean", code=3)
    assert re.findall(r"^fail +(\S+) +rank (\d) lives", refused.err, re.M) == [
        ("mac1", "0"),
        ("mac2", "1"),
    ]
    assert refused.err.splitlines()[-1] == "nothing was changed"
    inv("tp.stop")
    for name in THEIRS:
        (state / name).parent.mkdir(parents=True, exist_ok=True)
        (state / name).write_text("theirs")
    (state / "rank0.pid").write_text("1\n2\n3\n")  # of the layout before
    for name in ("models", "verified"):  # what dev.model keeps, which light ranks ask nothing of
        (state / name).mkdir(exist_ok=True)
        (state / name / "d66a0d825bb2f0b7.json").write_text("{}")
    log = inv.home / "logs" / "tp_server.rank0.log"
    other = inv.home / "logs" / "tp_server.other.log"
    other.write_text("of another program\n")
    there = sorted(state.rglob("*"))
    dry = inv("hosts.clean", "--dry-run").out
    assert re.search(rf"^# mac1: remove .*{state}/default/runs/\w+, .*{state}/audit.log", dry, re.M)
    assert (sorted(state.rglob("*")), log.exists()) == (there, True)
    done = inv("hosts.clean")
    assert re.findall(r"^changed +(\S+) ", done.out, re.M) == ["mac1", "mac2"]
    assert f"mac1: left: {state}: what is in it is none of ours" in done.err
    assert sorted(str(each.relative_to(state)) for each in state.rglob("*") if each.is_file()) == (
        sorted(THEIRS)
    )
    assert not (sshd.node_home("mac2") / layout.STATE).exists()
    assert not log.exists()
    assert other.exists()
    again = inv("hosts.clean", "--json").json()
    assert [each["state"] for each in again["changes"]] == ["unchanged"] * 2


def test_what_is_roots(inv: Inv, macs: Callable[..., Rig]) -> None:
    """The service with its log, and the line for sudo, which goes last."""
    rig = macs()
    inv("rdma.persist", *nodes(rig))
    for host in rig.names:
        until_says(rig, host, "as wanted")
    assert f"# {WRITER}" in rig.run("mac1", f"cat {launchd.PATH}").stdout
    rule = f"{rig.run('mac1', 'id -un').stdout.strip()} ALL=(root) NOPASSWD: ALL\n"
    rig.run("mac1", f"cat >{SUDOERS}", input=rule, root=True)
    done = inv("hosts.clean", "--hosts", ",".join(rig.names))
    rows = re.findall(r"^changed +mac1 +(\w+ .*)$", done.out, re.M)
    assert rows[-3:] == [f"remove {launchd.PATH}", f"remove {launchd.LOG}", f"remove {SUDOERS}"]
    files = f"ls -d {launchd.PATH} {launchd.LOG} {SUDOERS} ~/.mlx-tp 2>/dev/null; true"
    assert [rig.run(host, files).stdout for host in rig.names] == ["", ""]
    assert launchd.LABEL not in rig.run("mac1", "/bin/launchctl list").stdout
    assert inv("hosts.clean", "--hosts", "mac1").out.count("unchanged") == 1
