"""The LaunchDaemon that sets the links up at boot: its property list, and how it is installed.

macOS forgets addresses set by ifconfig, and what is in /tmp, at every reboot. Pure.
"""

from __future__ import annotations

import plistlib
import re
from dataclasses import dataclass

from . import shell
from .facts import Fact, Key
from .links import Wiring
from .setup import INSTALL, Change, converge

LABEL = "com.mlx-tp-tasks.rdma"
PATH = f"/Library/LaunchDaemons/{LABEL}.plist"
LAUNCHCTL = "/bin/launchctl"


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
    KEY,
    f"if {LAUNCHCTL} print system/{LABEL} >/dev/null 2>&1; then echo loaded yes;"
    f" else echo loaded no; fi; [ -e {PATH} ] || exit 3; cat {PATH}",
    parse,
)


def plist(wiring: Wiring, host: str, user: str) -> str:
    """The property list: at load and at boot, root runs what setup would do on `host`, once."""
    job = {
        "Label": LABEL,
        "ProgramArguments": ["/bin/sh", "-c", converge(wiring, host, user)],
        "RunAtLoad": True,
        "StandardErrorPath": f"/var/log/{LABEL}.log",
    }
    return plistlib.dumps(job).decode()


def changes(host: str, home: str, installed: Daemon, wanted: str | None) -> list[Change]:
    """What brings the host to have the daemon with the text `wanted` (None: to have none)."""
    same = (installed.text or "").strip() == (wanted or "").strip()
    if same and installed.is_loaded == (wanted is not None):
        return []
    found = []
    if installed.is_loaded:
        command = (LAUNCHCTL, "bootout", f"system/{LABEL}")
        found.append(Change("persist", host, f"unload {LABEL}", command))
    if wanted is None:
        remove = Change("persist", host, f"remove {PATH}", ("/bin/rm", "-f", PATH))
        return [*found, remove]
    return [*found, *_install(host, f"{home}/.mlx-tp/{LABEL}.plist", wanted)]


def _install(host: str, draft: str, text: str) -> list[Change]:
    """The user writes a draft that plutil has checked; root copies it to its place and loads it."""
    path, folder = shell.quote(draft), shell.quote(draft.rpartition("/")[0])
    write = (
        f"umask 077; mkdir -p {folder} && chmod 700 {folder} && rm -f {path} || exit\n"
        f"cat >{path} {shell.heredoc(text)}\n"
        f"plutil -lint {path}\n"
    )
    install = (INSTALL, "-m", "644", "-o", "0", "-g", "0", draft, PATH)
    return [
        Change("persist", host, f"write {draft}", script=write),
        Change("persist", host, f"install {PATH}", install),
        Change("persist", host, f"load {LABEL}", (LAUNCHCTL, "bootstrap", "system", PATH)),
    ]
