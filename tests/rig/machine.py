"""One test host: namespaces of its own around a copy-on-write view of this machine's files.

Process 1 is the launchd of `mac/`. Everything that a host writes, but for the shared folders,
goes to a tmpfs and is gone with it; nothing is written to this machine's own files.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from . import strict
from .mac import apple, node
from .mac.guards import GUARDED
from .mac.run import PLACES
from .mac.server import ALONE

PATH = "/usr/bin:/bin:/usr/sbin:/sbin"  # of a non-interactive ssh session on macOS
# A Mac has none of these; a script that calls one must fail here too.
HIDDEN = ("timeout", "setsid", "flock", "nproc", "tac", "ip", "ss", "bridge", "brctl", "free")
HERE = Path(__file__).parent
PATIENCE = 60  # seconds, for anything that should take far less than one


def wait_for(what: Callable[[], Any], of: str) -> Any:
    """Poll until `what()` is true, and give what it gave."""
    end = time.monotonic() + PATIENCE
    while True:
        found = what()
        if found:
            return found
        if time.monotonic() > end:
            raise RuntimeError(f"not within {PATIENCE} s: {of}")
        time.sleep(0.01)


def build_commands(base: Path) -> None:
    """What all hosts of a rig share: the macOS commands, and what they stand on."""
    commands = base / "bin"
    (commands / "gnu").mkdir(parents=True)
    for program in ("ip", "rsync", "uname", *GUARDED):
        found = shutil.which(program)
        assert found, f"needs {program}"
        shutil.copy(Path(found).resolve(), commands / ("" if program == "ip" else "gnu") / program)
    python = Path(sys.executable).resolve()
    alone = (
        f"#!{python} -IS\nimport sys\nsys.dont_write_bytecode = True\n"
        f"sys.path.insert(0, {str(HERE)!r})\nfrom mac.run import main\nmain()\n"
    )
    client = (HERE / "mac" / "client.pl").read_text()
    # A Mac's ifconfig has its words in the file, too.
    words = "\n".join(["__END__", *apple.rows()["ifconfig", False].words["parameter"], ""])
    texts = {"alone": alone, "mac": client, "ifconfig": client + words}
    texts |= {f"bsd/{name}": text for name, text in strict.commands(f"{node.RIG}/bin").items()}
    for name, text in texts.items():
        path = commands / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)
    (commands / "sh").symlink_to("/usr/bin/bash")


def build_tree(folder: Path, name: str, hosts: str, is_strict: bool) -> None:
    """The files that a host has instead of, or besides, this machine's."""
    tree = folder / "tree"
    for place in PLACES:
        # On Linux /sbin is a link to /usr/sbin, and an overlay must leave it one.
        path = tree / (place if place.startswith("usr/") else f"usr/{place}")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(f"/.rig/bin/{_program(path.name)}")
    (tree / "usr" / "sbin" / "ping").symlink_to("../bin/ping")
    for place in ("etc/sudoers.d", "Library/LaunchDaemons", "Users", ".rig", ".proc", ".sys"):
        (tree / place).mkdir(parents=True)
    (tree / "etc" / "hosts").write_text(f"127.0.0.1 localhost\n::1 localhost\n{hosts}")
    groups = Path("/etc/group").read_text()
    (tree / "etc" / "group").write_text(f"{groups}wheel:x:0:\nadmin:x:80:\n")
    (tree / "etc" / "hostname").write_text(f"{name}\n")
    # No name server: a look-up fails at once, as this network leads nowhere.
    (tree / "etc" / "resolv.conf").write_text("")
    if is_strict:
        strict.build_tree(tree, name)


def _program(name: str) -> str:
    return "alone" if name in ALONE else name if name == "ifconfig" else "mac"


def script(
    name: str, base: Path, share: Sequence[Path], compiled: Path | None, is_strict: bool
) -> str:
    """What process 1 of a host does before it becomes launchd."""
    # A Linux namesake in the other folder would be found first.
    hidden = " ".join(f"usr/{side}/{name}" for name in HIDDEN for side in ("bin", "sbin"))
    twins = " ".join(f"usr/{_other_side(place)}" for place in PLACES)
    pythons = (HERE.parents[1], *_pythons())
    lines = [
        f"hostname {name}",
        "for f in /proc/sys/net/ipv6/conf/*/accept_dad; do echo 0 >$f || :; done",
        f"cd {shlex.quote(str(base / name))}",
        "mount -t tmpfs -o mode=755 tmpfs root",
        "cd root; mkdir upper work new; cp -a ../tree lower",
        f"for f in {hidden} {twins}; do [ ! -e /$f ] || mknod lower/$f c 0 0; done",
        *(strict.SCRIPT if is_strict else ()),
        "mount -t overlay -o lowerdir=lower:/,upperdir=upper,workdir=work overlay new",
        "cd new",
        "mount -t proc proc .proc",
        "mount -t sysfs sysfs .sys",
        "mount -t proc proc proc",
        *(strict.DEV if is_strict else ("mount --rbind /dev dev", "mount -t sysfs sysfs sys")),
        "mount -t tmpfs -o mode=1777 tmpfs dev/shm",
        f"mount -t tmpfs -o mode=1777 tmpfs {'private/tmp' if is_strict else 'tmp'}",
        "mount -t tmpfs -o mode=755 tmpfs run; mkdir run/sshd",
        *(_bind(path, writable=False) for path in pythons),
        *(_bind(path, writable=True) for path in (*share, base)),
        _bind(compiled, writable=True, at=Path("/tmp/mlx")) if compiled else "",
        *(strict.let_in(path) for path in (pythons if is_strict else ())),
        f"mount --bind {shlex.quote(str(base))} .rig",
        "" if is_strict else f"mount --bind .rig/{name}/boot_id proc/sys/kernel/random/boot_id",
        "mkdir .old; pivot_root . .old; cd /",
        "umount -l .old; rmdir .old",
        # It is asked for up to here, by umount too.
        "umount /proc" if is_strict else "",
        f"touch /.rig/{name}/ready",
        f"exec env -i PATH={PATH} /sbin/launchd",
    ]
    return "\n".join(lines)


def _other_side(place: str) -> str:
    side, name = place.split("/")[-2:]
    return f"{'bin' if side == 'sbin' else 'sbin'}/{name}"


def _bind(path: Path, writable: bool, at: Path | None = None) -> str:
    """A folder of this machine in the host, at the same path if no other is said."""
    word = shlex.quote(f".{at or path}")
    line = f"mkdir -p {word}; mount --bind {shlex.quote(str(path))} {word}"
    return line if writable else f"{line}; mount -o remount,bind,ro {word}"


def _pythons() -> list[Path]:
    """Where python and its packages are, so that ranks run with `sys.executable`."""
    paths = {Path(sys.prefix), Path(sys.base_prefix)}
    return sorted(
        path for path in paths if path != Path("/usr") and HERE.parents[1] not in path.parents
    )


# Never where it is not meant to be: a script that kills or deletes is for a host alone.
GUARD = '[ -d "/.rig/$(uname -n)" ] || exit 9\n'
# Signalled processes take a moment; what is left at last is process 1 and this shell.
END = f"""{GUARD}
kill -9 -1
left() {{
  for p in /.proc/[0-9]*; do
    case ${{p#/.proc/}} in 1 | $$) ;; *) return 0 ;; esac
  done
  return 1
}}
while left; do :; done
rm -f /run/sshd.pid
"""
# -xdev: a folder that is shared with this machine may be mounted below.
EMPTY_TMP = f"{GUARD}find /tmp/ -xdev -mindepth 1 -delete 2>/dev/null\n"
CLEAN = f"""{GUARD}
for d in /Users /Library/LaunchDaemons /etc/sudoers.d; do
  find "$d" -xdev -mindepth 1 -delete 2>/dev/null
done
rm -f "/.rig/$(uname -n)/launchd.json" "/.rig/$(uname -n)/bootouts.json" /var/log/com.mlx-tp*
"""


def user(name: str, home: str, shell: str, is_strict: bool) -> str:
    """Gives the user this home and login shell (or sh, where it is missing)."""
    login, ids = (strict.USER, f"{strict.UID}:{strict.GID}") if is_strict else ("root", "0:0")
    password, program = "x" if is_strict else "*", shutil.which(shell) or "/bin/sh"
    entry = f"{login}:{password}:{ids}:{name}:{home}:{program}"
    return (
        f"{GUARD}rest=$(grep -v '^{login}:' /etc/passwd)\n"
        f"printf '%s\\n%s\\n' {shlex.quote(entry)} \"$rest\" >/etc/passwd\n"
        f"mkdir -p {shlex.quote(home)} && chown {ids} {shlex.quote(home)}\n"
    )


class Machine:
    """The processes of one host: started, entered, killed.

    `keeper` is the `unshare` that holds it, `first` its process 1, both as `identity`.
    """

    def __init__(self, name: str, base: Path) -> None:
        self.name = name
        self.folder = base / name
        self.keeper = ""
        self.first = ""

    def start(self, line: str, detached: bool) -> None:
        spaces = ["--net", "--pid", "--uts", "--ipc", "--mount", "--fork", "--kill-child"]
        self.keeper = keep([*spaces, "--mount-proc"], line, self.folder / "log", detached)
        self.first = identity(child_of(self.keeper))

    def wait(self) -> None:
        ready = self.folder / "ready"
        wait_for(lambda: ready.exists() or not is_alive(self.first), f"{self.name} ready")
        if not ready.exists():
            raise RuntimeError(f"{self.name}: {(self.folder / 'log').read_text().strip()}")

    @property
    def pid(self) -> int:
        """Process 1 as this machine numbers it. RuntimeError if it is gone: another may be it."""
        if not is_alive(self.first):
            raise RuntimeError(f"{self.name} is not up")
        return int(self.first.partition(":")[0])

    def enter(self, *words: str, user: int = 0, group: int = 0) -> list[str]:
        """The line that runs words in the host, as this user."""
        who = ["-S", str(user), "-G", str(group)] if user else []
        return ["nsenter", "-t", str(self.pid), "-m", "-n", "-p", "-u", "-i", *who, *words]

    def stop(self) -> None:
        stop(self.keeper)


# A host has a table of sockets of its own: to look for them in that of all this machine (Linux
# 6.1 and later; 262,144 places with 24 GiB) takes 1.5 ms of CPU each time.
FEW_SOCKETS = (
    *("unshare", "--net", "sh", "-c"),
    'echo 1024 2>/dev/null >/proc/sys/net/ipv4/tcp_child_ehash_entries; exec "$@"',
    "few",
)


def keep(spaces: Sequence[str], line: str, log: Path, detached: bool) -> str:
    """Start `unshare`, give its identity; it dies with this process unless it is detached."""
    leash = [] if detached else ["setpriv", "--pdeathsig", "KILL"]
    with log.open("ab") as out:
        process = subprocess.Popen(
            [*leash, *FEW_SOCKETS, "unshare", *spaces, "sh", "-e", "-c", line],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    keeper = identity(process.pid)
    _processes[keeper] = process
    return keeper


_processes: dict[str, subprocess.Popen[bytes]] = {}


def child_of(keeper: str) -> int:
    """The process that `unshare` has started, which is process 1 of its namespaces."""
    pid = keeper.partition(":")[0]
    children = Path(f"/proc/{pid}/task/{pid}/children")

    def found() -> str:
        if not is_alive(keeper):
            raise RuntimeError("unshare has ended")
        return children.read_text()

    return int(wait_for(found, "a child of unshare").split()[0])


def identity(pid: int) -> str:
    """`pid:start`, which no later process has; "" if it is gone or only waits to be reaped."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if state == "Z" else f"{pid}:{fields[18]}"


def is_alive(known: str) -> bool:
    """Whether the process with this identity still runs."""
    return bool(known) and identity(int(known.partition(":")[0])) == known


def stop(keeper: str) -> None:
    """Kill `unshare`, and with it process 1 and so all processes of the host."""
    if is_alive(keeper):
        os.kill(int(keeper.partition(":")[0]), signal.SIGKILL)
    process = _processes.pop(keeper, None)
    if process:
        process.wait()
    wait_for(lambda: not is_alive(keeper), f"the end of {keeper}")
