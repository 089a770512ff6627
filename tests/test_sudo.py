"""The line of sudoers that we tell, with the real sudo, as the plain user whom it is for."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import DEADLINE, require
from unit.cluster.rdma.test_links import BARE, RIGHT, TWO, but, facts, interface, wired

from tasks.cluster.facts.machine import processes
from tasks.cluster.rdma import launchd, setup, sudo, undo

USER = "nobody"
# What stands for the system's programs says who ran it, with which words and environment.
TELL = '#!/bin/sh\necho "uid $(id -u)"; printf "word %s\\n" "$@"; env | sed "s/^/env /"\n'
# Of its own: sudo's rules, and programs that Linux has not or that must not really run.
PREPARE = """
set -e
hostname localhost
for d in sbin bin; do
  mkdir -p "$1/$d" "$1/$d.work"
  mount -t overlay -o "lowerdir=/usr/$d,upperdir=$1/$d,workdir=$1/$d.work" overlay "/usr/$d"
done
for f in sbin/ifconfig bin/launchctl bin/install bin/rm; do
  rm -f "$1/new"; cat "$1/tell" >"$1/new"; chmod 755 "$1/new"; mv "$1/new" "/usr/$f"
done
mount -t tmpfs -o mode=755 tmpfs /etc/sudoers.d
cat "$1/line" >/etc/sudoers.d/mlx-tp
chmod 440 /etc/sudoers.d/mlx-tp
cd "$1/home"; shift
exec setpriv --reuid nobody --regid nogroup --clear-groups -- "$@"
"""

Try = Callable[..., subprocess.CompletedProcess[str]]


def setup_line() -> str:
    todo = setup.changes(wired(TWO), {**RIGHT, "mac1": BARE}, setup.KINDS)
    return sudo.sudoers(USER, [change.command for change in todo if change.command])


def unpersist_line() -> str:
    todo = launchd.changes("mac1", "/Users/me", launchd.Daemon("old", True), None)
    return sudo.sudoers(USER, [change.command for change in todo if change.command])


def undo_line() -> str:
    """For a node on which all is there that setup and persist leave."""
    values = but(facts(interface("en5", "10.254.0.5/30"), interface("bridge0")), processes.KEY, {})
    values = but(values, launchd.KEY, launchd.Daemon("old", True))
    values = but(values, undo.KEY, undo.OurTraces(True, True, ""))
    todo = undo.changes(wired(TWO), "mac1", values, "/Users/me")
    commands = [change.command for change in todo if change.command]
    assert sudo.are_fixed(commands)
    return sudo.sudoers(USER, commands)


@pytest.fixture
def attempt(tmp_path: Path) -> Iterator[Try]:
    """`attempt(LINE, WORD...)` runs words as the user, where sudo knows this line only."""
    require(os.geteuid() == 0 and bool(shutil.which("sudo")), "needs root, and sudo")
    # Not below pytest's folder, into which only root can go; tmpfs, since overlays need that.
    base = Path("/tmp") / f"mlx-tp-sudo-{os.getpid()}"
    base.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", base], check=True)
    (base / "home").mkdir(mode=0o777)
    (base / "home").chmod(0o777)
    (base / "tell").write_text(TELL)

    def run(line: str, *words: str) -> subprocess.CompletedProcess[str]:
        (base / "line").write_text(line + "\n")
        inside = ["unshare", "--mount", "--uts", "sh", "-c", PREPARE, "sh", str(base), *words]
        return subprocess.run(inside, capture_output=True, text=True, timeout=DEADLINE)

    yield run
    subprocess.run(["umount", base], check=True)
    base.rmdir()


def is_root(done: subprocess.CompletedProcess[str]) -> bool:
    return "uid 0" in done.stdout


ADDRESS = "/sbin/ifconfig en5 inet 10.254.0.5 netmask 255.255.255.252"
PLIST = launchd.PATH


@pytest.mark.parametrize(
    ("line", "command"),
    [
        (setup_line, "/sbin/ifconfig lo0"),
        (setup_line, ADDRESS),
        (unpersist_line, f"/bin/launchctl bootout system/{launchd.LABEL}"),
        (unpersist_line, f"/bin/rm -f {PLIST}"),
        (undo_line, "/sbin/ifconfig en5 inet 10.254.0.5 -alias"),
        (undo_line, "/sbin/ifconfig bridge0 addm en5"),
        (undo_line, f"/bin/rm -f {launchd.LOG}"),
    ],
)
def test_the_line_gives_what_it_says(attempt: Try, line: Callable[[], str], command: str) -> None:
    done = attempt(line(), "env", "MINE=1", "LD_LIBRARY_PATH=/x", "sudo", "-n", *command.split())
    assert is_root(done), done.stderr
    words = [row[5:] for row in done.stdout.splitlines() if row.startswith("word ")]
    assert words == command.split()[1:]
    assert not any(name in done.stdout for name in ("env MINE=", "env LD_LIBRARY_PATH="))


OWN = """
mkdir -p bin sbin; printf '#!/bin/sh\\necho "uid $(/usr/bin/id -u)"\\n' >bin/ifconfig
chmod 755 bin/ifconfig
cp bin/ifconfig sbin/launchctl; cp bin/ifconfig bin/sh; cp bin/ifconfig bin/id
ln -s /bin/sh link; ln -s /sbin/ifconfig any
printf '<plist><dict/></plist>' >own.plist
export PATH="$PWD/bin:$PWD/sbin:$PATH"
"""
NOTHING = [
    # More, fewer, other words, and patterns.
    f"sudo -n {ADDRESS} alias",
    f"sudo -n {ADDRESS} down",
    "sudo -n /sbin/ifconfig",
    "sudo -n /sbin/ifconfig en5",
    "sudo -n /sbin/ifconfig en5 down",
    "sudo -n /sbin/ifconfig lo0 down",
    "sudo -n /sbin/ifconfig 'lo0 down'",
    "sudo -n /sbin/ifconfig en6 inet 10.254.0.5 netmask 255.255.255.252",
    "sudo -n /sbin/ifconfig en5 inet 10.254.0.9 netmask 255.255.255.252",
    "sudo -n /sbin/ifconfig 'lo*'",
    "sudo -n /sbin/ifconfig 'lo0\n'",
    # Programs of one's own, by path, by link and by PATH.
    "sudo -n $PWD/bin/ifconfig lo0",
    "sudo -n ./bin/ifconfig lo0",
    "sudo -n /sbin/../$PWD/bin/ifconfig lo0",
    "sudo -n ./link -c id",
    "sudo -n ./any lo0",
    "sudo -n -- $PWD/sbin/launchctl lo0",
    # What root runs at boot.
    f"sudo -n /usr/bin/install -m 644 -o 0 -g 0 own.plist {PLIST}",
    f"sudo -n /usr/bin/install -m 644 -o 0 -g 0 $PWD/own.plist {PLIST}",
    f"sudo -n /bin/launchctl bootstrap system {PLIST}",
    "sudo -n /bin/launchctl bootstrap system $PWD/own.plist",
    f"ln -s {PLIST} p; sudo -n /bin/launchctl bootstrap system $PWD/p",
    "sudo -n /bin/launchctl bootout system/com.apple.sshd",
    f"sudo -n /bin/launchctl bootout system/{launchd.LABEL} system/com.apple.sshd",
    f"sudo -n /bin/rm -f {PLIST} /etc/passwd",
    f"sudo -n /bin/rm -rf {PLIST}",
    f"sudo -n /bin/rm -f {PLIST}/../x",
    "sudo -n /bin/rm -f /etc/passwd",
    # What undo gives back, of another port, address, bridge or file.
    "sudo -n /sbin/ifconfig en0 inet 10.254.0.5 -alias",
    "sudo -n /sbin/ifconfig en5 inet 10.254.0.9 -alias",
    "sudo -n /sbin/ifconfig en5 -alias",
    "sudo -n /sbin/ifconfig bridge0 addm en0",
    "sudo -n /sbin/ifconfig bridge0 addm en5 addm en0",
    "sudo -n /sbin/ifconfig bridge0 destroy",
    f"sudo -n /bin/rm -f {launchd.LOG} /etc/passwd",
    "sudo -n /bin/rm -f /var/log/system.log",
    # Another identity, a shell, an editor, the environment.
    "sudo -n -s",
    "sudo -n -i",
    "sudo -n sh -c id",
    "sudo -n -e /etc/sudoers",
    "sudo -n -u daemon /sbin/ifconfig lo0",
    "sudo -n -g root /sbin/ifconfig lo0",
    "sudo -n -E /sbin/ifconfig lo0",
    "sudo -n LD_PRELOAD=$PWD/x.so /sbin/ifconfig lo0",
    "sudo -n PATH=$PWD/bin /sbin/ifconfig lo0",
    "sudo -n BASH_ENV=$PWD/bin/id ENV=$PWD/bin/id /sbin/ifconfig lo0",
    "sudo -n -D /root /sbin/ifconfig lo0",
    "sudo -n -R $PWD /sbin/ifconfig lo0",
    "SUDO_ASKPASS=$PWD/bin/id sudo -A sh -c id",
]


def test_the_line_gives_no_more(attempt: Try) -> None:
    """All lines together; each attempt by the real sudo, as the plain user."""
    lines = f"{setup_line()}\n{unpersist_line()}\n{undo_line()}"
    script = OWN + "\n".join(
        f"echo '=={number}'; ( {command} ) 2>&1 </dev/null; echo \"rc $?\""
        for number, command in enumerate(NOTHING)
    )
    done = attempt(lines, "sh", "-c", script)
    parts = done.stdout.split("\n==")
    told = {int(part.lstrip("=").split("\n")[0]): part for part in parts}
    assert sorted(told) == list(range(len(NOTHING))), done.stdout + done.stderr
    for number, command in enumerate(NOTHING):
        assert "uid 0" not in told[number], (command, told[number])
        assert "rc 0" not in told[number], (command, told[number])


def test_one_s_own_path_gets_nothing_of_one_s_own(attempt: Try) -> None:
    """A first `ifconfig` on PATH is not what sudo runs; the environment of root is root's."""
    done = attempt(
        setup_line(), "sh", "-c", OWN + "sudo -n ifconfig lo0; HOME=$PWD sudo -n ifconfig lo0"
    )
    assert "uid 0\nword lo0\n" in done.stdout or not is_root(done)
    for row in done.stdout.splitlines():
        assert not (row.startswith("env ") and "/home" in row and not row.startswith("env PWD="))


def test_what_is_installed_is_no_part_of_a_line() -> None:
    todo = launchd.changes("mac1", "/Users/me", launchd.Daemon(None, False), "text")
    commands = [change.command for change in todo if change.command]
    assert not sudo.are_fixed(commands)
    assert sudo.are_fixed([command for command in commands if command[0] != setup.INSTALL])


def test_the_line_before_this_one_made_its_account_root(attempt: Try) -> None:
    """So that the attempts above are known to tell: with that line, they succeed."""
    todo = launchd.changes("mac1", "/home", launchd.Daemon(None, False), "text")
    line = sudo.sudoers(USER, [change.command for change in todo if change.command])
    draft = f"/home/.mlx-tp/{launchd.LABEL}.plist"
    install = f"/usr/bin/install -m 644 -o 0 -g 0 {draft} {launchd.NEW}"
    assert is_root(attempt(line, "sudo", "-n", *install.split()))
    assert is_root(attempt(line, "sudo", "-n", "/bin/launchctl", "bootstrap", "system", PLIST))
