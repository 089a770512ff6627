"""The LaunchDaemon that keeps the links as setup made them: its property list, how it is installed.

macOS forgets addresses set by ifconfig, and what is in /tmp, at every reboot, and puts ports back
into its bridge some time after one. Pure.
"""

import plistlib
import re
from dataclasses import dataclass

from ..facts import Fact, Key
from ..facts.links.rdma import MATRIX
from ..ssh import scripts
from ..version import WRITER
from .links import LinkPlan
from .setup import IFCONFIG, INSTALL, Change, matrix_text

LABEL = "com.mlx-tp-tasks.rdma"
PATH = f"/Library/LaunchDaemons/{LABEL}.plist"
# Whole, it is renamed to its place; launchd takes no hidden file for a daemon.
NEW = f"/Library/LaunchDaemons/.{LABEL}.new"
DRAFT = f".mlx-tp/{LABEL}.plist"  # in the user's home
LOG = f"/var/log/{LABEL}.log"
LAUNCHCTL = "/bin/launchctl"
LOG_BYTES = 65536
# Seconds between the first looks, and how many: two minutes of them. Then launchd's timer, which
# comes when the boot is no longer fresh.
EVERY, LOOKS, FRESH, TIMER = 5, 25, 240, 300


@dataclass(frozen=True)
class Daemon:
    """What is installed: the file's text (None without a file), and whether launchd runs it."""

    text: str | None
    is_loaded: bool


def parse(text: str, status: int) -> Daemon:
    """The output of `FACT`: a line that says whether it is loaded, then the file."""
    head, _, body = text.partition("\n")
    if status not in (0, 3) or not re.fullmatch("loaded (yes|no)", head):
        raise ValueError("the LaunchDaemon can't be read")
    return Daemon(body if status == 0 else None, head == "loaded yes")


KEY = Key[Daemon]("launchd")
FACT = Fact(
    KEY, scripts.script("rdma/daemon.sh", launchctl=LAUNCHCTL, label=LABEL, file=PATH), parse
)


def plist(wiring: LinkPlan, host: str, user: str) -> str:
    """The property list: root looks after the links of `host` at load, at boot and by a timer."""
    job = {
        "Label": LABEL,
        "ProgramArguments": ["/bin/sh", "-c", f"# {WRITER}\n{converge(wiring, host, user)}"],
        "RunAtLoad": True,
        "StartInterval": TIMER,
    }
    return plistlib.dumps(job).decode()


def converge(wiring: LinkPlan, host: str, owner: str) -> str:
    """What root runs on `host`; MLX's matrix is to be `owner`'s."""
    ends = wiring.on(host)
    words = [str(w) for e in ends for w in (e.interface, e.address.ip, e.address.netmask)]
    return scripts.script(
        "rdma/converge.sh",
        words,
        ifconfig=IFCONFIG,
        file=MATRIX,
        matrix=matrix_text(wiring) if wiring.rdma else "",
        owner=owner,
        log=LOG,
        log_bytes=LOG_BYTES,
        every=EVERY,
        looks=LOOKS,
        fresh=FRESH,
    )


def changes(host: str, home: str, installed: Daemon, wanted: str | None) -> list[Change]:
    """What brings the host to have the daemon with the text `wanted` (None: to have none)."""
    same = (installed.text or "").strip() == (wanted or "").strip()
    if same and installed.is_loaded == (wanted is not None):
        return []
    unload = []
    if installed.is_loaded:
        command = (LAUNCHCTL, "bootout", f"system/{LABEL}")
        unload.append(Change("persist", host, f"unload {LABEL}", command))
    if wanted is None:
        remove = Change("persist", host, f"remove {PATH}", ("/bin/rm", "-f", PATH))
        return [*unload, remove]
    return [*_copy(host, f"{home}/{DRAFT}", wanted), *unload, *_replace(host)]


def _copy(host: str, draft: str, text: str) -> list[Change]:
    """The user writes a draft that plutil has checked; root copies it beside its place.

    Before anything is unloaded: on a full disk the daemon that was there stays, file and all.
    """
    write = scripts.script("rdma/draft.sh", file=draft, plist=text)
    copy = (INSTALL, "-m", "644", "-o", "0", "-g", "0", draft, NEW)
    return [
        Change("persist", host, f"write {draft}", script=write),
        Change("persist", host, f"copy it to {NEW}", copy),
    ]


def _replace(host: str) -> list[Change]:
    load = (LAUNCHCTL, "bootstrap", "system", PATH)
    return [
        Change("persist", host, f"install {PATH}", ("/bin/mv", "-f", NEW, PATH)),
        Change("persist", host, f"load {LABEL}", load, by="rdma/load.sh"),
    ]
