"""A folder of this machine -> the same on nodes, by rsync over ssh.

Nodes and control machines have one of rsync 3, openrsync (macOS 15 and later) and rsync 2.6.9
(before); only options that all three know are used (openrsync: its main.c; it splits `--rsh` at
spaces and takes no quotes there).
"""

import os
import re
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from .. import shell
from ..facts.machine.files import SyncTarget
from ..ssh import scripts
from ..ssh.node import CONNECT_TIMEOUT, KEEPALIVE, Node
from . import patchwork

# Links stay links, but one that leads out of the source (a Hugging Face cache is made of these)
# is copied as what it leads to. Models can't be compressed, and trying costs more than it saves.
_OPTIONS = ("--links", "--copy-unsafe-links", "--compress-level=0", "--progress")


@dataclass(frozen=True)
class Copy:
    """What is in `source`, an absolute path here, goes into `target`: absolute, or from `~` on.

    `exclude` are patterns that `excludes.matcher` takes; `delete` removes what is in the target
    and not in the source, but never in `state_dir`; that needs the hold of that name, by the file
    `fence` on each node.
    """

    source: str
    target: str
    exclude: tuple[str, ...] = ()
    delete: bool = False
    state_dir: str = "~/.mlx-tp"
    fence: str = ""
    hold: str = ""


@dataclass(frozen=True)
class _Destination:
    """What patchwork's rsync wants to know of a Fabric connection.

    ssh itself looks up keys, proxies and host keys by the name in its configuration, so that is
    what `host` is; a Fabric connection's `host` would be the address.
    """

    host: str
    user: str
    port: int
    connect_kwargs: Mapping[str, str] = field(default_factory=dict)

    def local(self, command: str) -> str:
        """patchwork would run it here; we want progress, and an end by Ctrl-C."""
        return command


def command(copy: Copy, node: Node, place: SyncTarget, ssh_config: str, dry: bool = False) -> str:
    """/bin/sh text that copies into `place`, as it was found on the node; `dry` only lists."""
    words = [*_OPTIONS, *(f"--exclude={pattern}" for pattern in copy.exclude)]
    words += ["--dry-run"] if dry else []
    where = {"folder": place.folder, "id": place.id, "hold": copy.hold, "fence": copy.fence}
    # What was not there was not looked at, and has nothing to delete.
    delete = copy.delete and place.is_there
    if node.host.is_local:
        words += ["--delete"] if delete else []
        words = ["-pthrv", *words, copy.source + "/", "./"]
        return scripts.script("sync.sh", words, **where)
    words.append(f"--rsync-path={_remote_rsync(scripts.script('sync.sh', **where))}")
    host, user, port = node.login
    line = patchwork.rsync(
        _Destination(host, shell.quote(user), port),
        shell.quote(copy.source + "/"),
        ".",
        delete=delete,
        rsync_opts=" ".join(map(shell.quote, words)),
        ssh_opts=f"-F {ssh_config}",
    )
    return f"exec {line}"


def _remote_rsync(script: str) -> str:
    """The command that rsync runs on the node, by whatever login shell the user has there.

    Shells differ in what they take for special, and openrsync splits this at blanks and takes
    quotes away: so all that is special goes over in octal, and there is no quote in the rest.
    """
    octal = "".join(f"\\\\\\\\0{octet:03o}" for octet in os.fsencode(script))
    return rf"/bin/sh -c IFS=\;set\ -f\;eval\ \$\(printf\ %b\ {octal}\) rsync"


# In ssh's configuration the first word on a matter is the last one.
_STRICT = (
    "Host *",
    "BatchMode yes",
    "StrictHostKeyChecking yes",
    f"ConnectTimeout {CONNECT_TIMEOUT}",
    f"ServerAliveInterval {KEEPALIVE}",
    "ServerAliveCountMax 4",
    "RequestTTY no",
    "RemoteCommand none",
    "ClearAllForwardings yes",
    "LogLevel ERROR",
)

# What takes rsync's session away too; an ssh older than 8.7 does not know the words.
_A_SESSION = ("Host *", "SessionType default", "ForkAfterAuthentication no", "StdinNull no")


@contextmanager
def ssh_config(targets: Iterable[Node]) -> Iterator[str]:
    """A file for `ssh -F` (no spaces in its path): ours, with host keys always checked."""
    lines = [*_STRICT]
    files: dict[Path, None] = {}
    remote = [node for node in targets if not node.host.is_local]
    if any("sessiontype" in node.way.resolved.options for node in remote):
        lines += _A_SESSION
    for node in remote:
        files.update(dict.fromkeys(node.ssh.files))
        if node.host.gateway:
            lines += [f"Host {node.login[0]}", f"ProxyJump {node.host.gateway}"]
    with tempfile.TemporaryDirectory(prefix="mlx-tp-", dir="/tmp") as folder:
        # Included by links: ssh takes some characters of a path for wildcards.
        for number, path in enumerate(files):
            (Path(folder) / str(number)).symlink_to(path.absolute())
            lines += ["Host *", f"Include {folder}/{number}"]
        file = Path(folder) / "config"
        file.write_text("\n".join([*lines, ""]), encoding="utf-8")
        yield str(file)


# What rsync prints that is neither a file's name nor an error; folders end with a slash.
_TALK = re.compile(
    r"\s*$|.*/$|sending incremental file list|building file list|\d+ files? to consider|done$"
    r"|created directory |copying unsafe symlink |skipping non-regular file |sent .* bytes "
    r"|total size is |Transfer starting"
)


class CopyProgress:
    """What rsync's lines tell so far: which files it sends and deletes, and of what it complains.

    `sizes` are the bytes of the files by name; `bytes` are those of the files sent so far.
    """

    def __init__(self, sizes: Mapping[str, int]) -> None:
        self.sizes = sizes
        self.sent: list[str] = []
        self.deleted: list[str] = []
        self.complaints: list[str] = []
        self.bytes = 0
        self._before = self._size = 0  # bytes until the last file, and of it

    @property
    def total(self) -> int:
        """Bytes of all files that it has begun to send."""
        return self._before + self._size

    def line(self, text: str) -> None:
        percent = re.match(r"\s*[\d.,]+\S*\s+(\d{1,3})%\s", text)
        name = _name(text)
        link = name.partition(" -> ")[0]
        if name in self.sizes:
            self._begin(name, self.sizes[name])
        elif link in self.sizes:
            self._begin(link, 0)
        elif name.startswith("deleting "):
            self.deleted.append(name.removeprefix("deleting "))
        elif percent and self.sent:
            self.bytes = self._before + self._size * min(int(percent.group(1)), 100) // 100
        elif not _TALK.match(name):
            self.complaints.append(name)

    def _begin(self, name: str, size: int) -> None:
        self.sent.append(name)
        self._before += self._size
        self.bytes, self._size = self._before, size


# rsync(1), EXIT VALUES. What the other side complained of is sometimes lost, its status never.
_MEANS = {
    10: "error in socket I/O",
    11: "error in file I/O: is the disk full there?",
    12: "its connection broke off",
    23: "some files could not be copied",
    24: "some files vanished meanwhile",
    30: "timeout",
    255: "ssh failed",
}


def ended(status: int) -> str:
    """How rsync ended, in words."""
    means = f" ({_MEANS[status]})" if status in _MEANS else ""
    return f"rsync ended with status {status}{means}"


def _name(text: str) -> str:
    """A name as rsync prints it: some octets as `\\#` and three octal digits."""
    octets = text.rstrip("\n").encode("utf-8", "surrogateescape")
    octets = re.sub(rb"\\#([0-3][0-7]{2})", lambda found: bytes([int(found[1], 8)]), octets)
    return octets.decode("utf-8", "replace")


class Runs:
    """Commands that run here side by side; `close`, or our own end, ends those that still run."""

    def __init__(self) -> None:
        self._processes: list[subprocess.Popen[str]] = []
        self._lock = threading.Lock()
        self._over = False

    def close(self) -> None:
        with self._lock:
            self._over = True
            for process in self._processes:
                if process.poll() is None:
                    process.terminate()

    def run(self, line: str, tell: Callable[[str], None]) -> int:
        """Run /bin/sh text and `tell` each line that it prints; its exit status."""
        with self._lock:
            if self._over:
                return 130
            process = subprocess.Popen(
                ["/bin/sh", "-c", scripts.script("with_us.sh") + line],
                stdin=subprocess.PIPE,  # nothing is written: it ends when we do
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,  # where openrsync prints names too
                start_new_session=True,
                text=True,  # a carriage return ends a line too
                encoding="utf-8",
                errors="surrogateescape",
            )
            self._processes.append(process)
        with process:
            for text in process.stdout or ():
                tell(text)
        return process.returncode
