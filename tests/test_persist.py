"""The LaunchDaemon of inv rdma.persist on test hosts whose configd works against it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import DEADLINE, Inv, require, wait_for
from rig import Rig
from test_rdma import MATRIX, cycled, nodes
from unit.cluster.rdma.test_links import TWO, wired

from tasks.cluster.rdma import launchd, sudo

Macs = Callable[..., Rig]
LONG = 60.0  # seconds to wait for what the daemon will do


def quick(rig: Rig, host: str, looks: int = 10000) -> None:
    """Its looks follow each other at once, and do not end."""
    rig.run(
        host,
        f"perl -pi -e 's/^every=.*/every=0.1/; s/^looks=.*/looks={looks}/' {launchd.PATH}",
        root=True,
    )


def persisted(inv: Inv, macs: Macs) -> Rig:
    rig = macs()
    changes = inv("rdma.persist", *nodes(rig), "--json").json()["changes"]
    assert {(each["host"], each["state"]) for each in changes} == {
        (host, "changed") for host in rig.names
    }
    for host in rig.names:
        until_says(rig, host, "as wanted")
        quick(rig, host)
    return rig


def until_says(rig: Rig, host: str, line: str) -> None:
    wait_for(lambda: log(rig, host)[-1:] == [line], LONG)


def log(rig: Rig, host: str) -> list[str]:
    """The lines of its log, without their times."""
    text = rig.run(host, f"cat {launchd.LOG}", check=False).stdout
    return [re.sub(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d ", "", line) for line in text.splitlines()]


def shown(rig: Rig, host: str, interface: str) -> str:
    return rig.run(host, f"/sbin/ifconfig {interface}").stdout


def is_linked(rig: Rig, host: str) -> bool:
    address = rig.links[host, "en5"].partition("/")[0]
    return (
        "member: en5 " not in shown(rig, host, "bridge0")
        and f"inet {address} netmask 0xfffffffc" in shown(rig, host, "en5")
        and rig.run(host, f"[ -s {MATRIX} ]", check=False).returncode == 0
    )


def test_links_outlast_what_configd_does_after_a_boot(inv: Inv, macs: Macs) -> None:
    rig = persisted(inv, macs)
    rig.fault("mac1", "rebridge")
    rig.set("mac1", rebridge=2)
    rig.forget_calls()
    rig.reboot("mac1")
    wait_for(lambda: rig.calls("mac1", "configd"), LONG)
    wait_for(lambda: is_linked(rig, "mac1"), LONG)
    until_says(rig, "mac1", "as wanted")
    # A dock brings it about once more; only our own port is taken out.
    rig.forget_calls()
    rig.put_device("mac1", "en2", "dock")
    wait_for(lambda: is_linked(rig, "mac1"), LONG)
    changes = [call for call in rig.calls("mac1", "ifconfig") if len(call) > 2]
    assert changes == [["ifconfig", "bridge0", "deletem", "en5"]]
    assert not cycled(rig)


def test_field_case_66(inv: Inv, macs: Macs) -> None:
    """The port goes back into the bridge, and its address goes, after the daemon's first look."""
    rig = persisted(inv, macs)
    rig.reboot("mac1")
    wait_for(lambda: log(rig, "mac1")[-1] == "as wanted" and is_linked(rig, "mac1"), LONG)
    case = "/sbin/ifconfig bridge0 addm en5; /sbin/ifconfig en5 inet 10.254.0.5 delete"
    rig.run("mac1", case, root=True)
    wait_for(lambda: is_linked(rig, "mac1"), LONG)
    inv("rdma.status", *nodes(rig), "--json", code=0)


def test_nothing_is_touched_while_a_rank_lives(inv: Inv, macs: Macs) -> None:
    rig = persisted(inv, macs)
    rig.run("mac1", "MLX_RANK=0 sleep 300 >/dev/null 2>&1 & echo $! >/tmp/pid")
    pid = rig.run("mac1", "cat /tmp/pid").stdout.strip()
    rig.bridge("mac1", "en5")
    rig.run("mac1", f"rm {MATRIX}; /sbin/ifconfig en5 inet 10.254.0.5 delete", root=True)
    rig.forget_calls()
    unload = f"/bin/launchctl bootout system/{launchd.LABEL}"
    load = f"until /bin/launchctl bootstrap system {launchd.PATH}; do :; done 2>/dev/null"
    rig.run("mac1", f"{unload}; {load}", root=True)
    wait_for(lambda: log(rig, "mac1")[-1].startswith("left while"), LONG)
    # It goes on looking, and says it once.
    seen = len(rig.calls("mac1", "ifconfig"))
    wait_for(lambda: len(rig.calls("mac1", "ifconfig")) > seen + 12, LONG)
    left = [f"take en5 out of bridge0; left while rank {pid} lives: give en5 10.254.0.5"]
    left.append(f"; left while rank {pid} lives: write {MATRIX}")
    assert log(rig, "mac1")[-2:] == ["as wanted", f"left while rank {pid} lives: {''.join(left)}"]
    assert not [call for call in rig.calls("mac1", "ifconfig") if len(call) > 2]
    assert rig.run("mac1", f"[ -e {MATRIX} ]", check=False).returncode == 1
    # The rank gone, all is mended.
    rig.run("mac1", f"kill {pid}")
    wait_for(lambda: is_linked(rig, "mac1"), LONG)
    assert not cycled(rig)


def test_another_address_is_left(inv: Inv, macs: Macs) -> None:
    rig = persisted(inv, macs)
    other = "/sbin/ifconfig en5 inet 192.168.77.1 netmask 255.255.255.0"
    # A link to the very text that is wanted is none of ours either.
    laid = f"mv {MATRIX} /Users/victim; ln -s /Users/victim {MATRIX}; ls -i /Users/victim"
    victim = rig.run("mac1", f"{other}; {laid}", root=True).stdout
    rig.run("mac1", f"/bin/launchctl kickstart -k system/{launchd.LABEL}", root=True)
    line = "left: en5 has 192.168.77.1, not 10.254.0.5"
    until_says(rig, "mac1", line)
    assert re.findall("inet (.*) netmask", shown(rig, "mac1", "en5")) == ["192.168.77.1"]
    assert rig.run("mac1", f"[ -L {MATRIX} ]", check=False).returncode == 1
    assert rig.run("mac1", "ls -i /Users/victim").stdout == victim
    assert log(rig, "mac1")[-2] == f"{line}; write {MATRIX}"


def test_the_timer_looks_again(inv: Inv, macs: Macs) -> None:
    """The first looks are over; launchd starts it again every StartInterval seconds."""
    rig = persisted(inv, macs)
    quick(rig, "mac1", looks=1)
    timer = "s/<integer>300</<integer>1</"
    rig.run(
        "mac1", f"perl -pi -e '{timer}' {launchd.PATH}; grep -q '>1<' {launchd.PATH}", root=True
    )
    rig.reboot("mac1")
    wait_for(lambda: is_linked(rig, "mac1"), LONG)
    rig.bridge("mac1", "en5")
    wait_for(lambda: is_linked(rig, "mac1"), LONG)


def fill_disk(rig: Rig, host: str) -> None:
    """Where daemons are is a disk of its own now, with room for nothing more."""
    folder = "/Library/LaunchDaemons"
    mount = f"mount -t tmpfs -o size=64k,mode=755 none {folder}"
    fill = f"cat /dev/zero >{folder}/filler 2>/dev/null"
    keep = f"cp {launchd.PATH} /tmp/kept.plist"
    rig.run(host, f"{keep}; {mount}; cp /tmp/kept.plist {launchd.PATH}; {fill}; true", root=True)


def test_launchd_that_has_only_just_let_go(inv: Inv, macs: Macs) -> None:
    """A daemon with another text is unloaded and loaded: 36 and 5 in between are no failure."""
    rig = persisted(inv, macs)
    fill_disk(rig, "mac1")
    before = rig.run("mac1", f"cat {launchd.PATH}").stdout
    rig.forget_calls()
    told = inv("rdma.persist", *nodes(rig), code=4)
    assert "No space left on device" in told.err
    assert rig.run("mac1", f"cat {launchd.PATH}").stdout == before
    verbs = [call[1] for call in rig.calls("mac1", "launchctl") if call[1] != "print"]
    assert not verbs, "what ran runs on"
    rig.run("mac1", "umount /Library/LaunchDaemons", root=True)
    rig.forget_calls()
    assert inv("rdma.persist", *nodes(rig)).out.count(f"load {launchd.LABEL}") == 2
    verbs = [call[1] for call in rig.calls("mac1", "launchctl") if call[1] != "print"]
    assert verbs == ["bootout", "bootstrap", "bootstrap", "bootstrap"]
    assert inv("rdma.persist", *nodes(rig)).out.count("unchanged") == 2


@pytest.mark.parametrize(
    ("answers", "status", "asked"), [("0", 0, 1), ("36 5 0", 0, 3), ("5", 5, 11), ("122", 122, 1)]
)
def test_loading_is_tried_again_where_that_may_help(
    tmp_path: Path, answers: str, status: int, asked: int
) -> None:
    """The last answer is given again and again; one that is no matter of time is told at once."""
    (tmp_path / "answers").write_text("\n".join(answers.split()) + "\n")
    for name, program in (("sudo", SUDO), ("sleep", "#!/bin/sh\n")):
        (tmp_path / name).write_text(program)
        (tmp_path / name).chmod(0o755)
    todo = launchd.changes("mac1", str(tmp_path), launchd.Daemon(None, False), "text")
    done = subprocess.run(
        ["sh"],
        input=sudo.act_script([todo[-1]], None),
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
    )
    assert (done.returncode, done.stdout) == (status, "" if status else "done\n")
    # Of many answers the last one is told.
    assert done.stderr == (f"said {status}\n" if status else "")
    words = (tmp_path / "asked").read_text().splitlines()
    assert words == [f"-n /bin/launchctl bootstrap system {launchd.PATH}"] * asked


SUDO = """#!/bin/sh
echo "$*" >>asked
read -r answer <answers
[ "$(wc -l <answers)" -eq 1 ] || sed -i 1d answers
echo "said $answer" >&2
exit "$answer"
"""
SYSCTL = '#!/bin/sh\necho "{ sec = 1000, usec = 0 } Thu Jan  1 00:16:40 1970"\n'
IFCONFIG = '#!/bin/sh\n[ "$1" = -l ] && echo en5 || printf "\\tinet $(cat here) netmask 0x0\\n"\n'


SHELLS = ("dash", "bash --posix -O xpg_echo", "busybox sh", "mksh", "yash --posixly-correct")


@pytest.mark.parametrize("shell", SHELLS)
def test_its_log_stays_small(tmp_path: Path, shell: str) -> None:
    """However often its state changes; each shell that may be /bin/sh."""
    require(shutil.which(shell.split()[0]), f"needs {shell}")
    text = launchd.converge(wired(TWO), "mac1", "").replace("PATH=/usr", f"PATH={tmp_path}:/usr")
    for name, program in (("sysctl", SYSCTL), ("ifconfig", IFCONFIG)):
        (tmp_path / name).write_text(program)
        (tmp_path / name).chmod(0o755)
    for name, path in (("log", "log"), ("file", "matrix"), ("ifconfig", "ifconfig")):
        text = re.sub(f"(?m)^{name}=.*", f"{name}={tmp_path / path}", text)
    text = re.sub("(?m)^log_bytes=.*", "log_bytes=8000", text)
    # Other tests' ranks live on this machine.
    assert "/proc/[0-9]*/environ" in text
    text = text.replace("/proc/[0-9]*/environ", f"{tmp_path}/none")
    sizes = []
    (tmp_path / "log").write_text("".join(f"2026-11-30 06:00:0{n % 10} {n}\n" for n in range(500)))
    for number in range(3):
        (tmp_path / "here").write_text(f"10.9.9.{number}\n")
        subprocess.run([*shell.split(), "-c", text], cwd=tmp_path, check=True, timeout=DEADLINE)
        sizes.append(len((tmp_path / "log").read_text().splitlines()))
    assert sizes == [101, 102, 103]
    last = (tmp_path / "log").read_text().splitlines()[-1]
    assert last.endswith("left: en5 has 10.9.9.2, not 10.254.0.5")
    assert (tmp_path / "matrix").read_text() == '[[null, "rdma_en5"], ["rdma_en5", null]]\n'
