"""What makes a host as strict as a Mac: its user, /proc, sh, /tmp, sudo, and BSD's commands.

What is still less strict is in `LESS`, which `inv local.up --strict` says.
"""

from __future__ import annotations

import shlex
from pathlib import Path

from .mac import node
from .mac.guards import GUARDED, guard

USER, UID, GID = "admin", 501, 20
PASSWORD = "secret"
LESS = (
    "file names mind case (local.fault HOST other_case:PATH gives a folder its other name)",
    "bash is this machine's, a Mac's is 3.2",
)
HERE = Path(__file__).parent

# A Mac's: the password is the user's own, and no lecture is read to scripts.
SUDOERS = """\
Defaults env_reset, !lecture, !fqdn, passprompt="Password:", timestamp_type=ppid
Defaults env_keep += "BLOCKSIZE COLORFGBG COLORTERM CHARSET LANG LANGUAGE LC_ALL LC_COLLATE"
Defaults env_keep += "LC_CTYPE LC_MESSAGES LC_MONETARY LC_NUMERIC LC_TIME LINES COLUMNS LSCOLORS"
Defaults env_keep += "TZ SSH_AUTH_SOCK"
Defaults env_keep += "EDITOR VISUAL HOME MAIL"
root ALL = (ALL) ALL
%admin ALL = (ALL) ALL
@include /.rig/{name}/sudoers
@includedir /etc/sudoers.d
"""
PAM = """\
auth required pam_unix.so nodelay
account required pam_permit.so
password required pam_deny.so
session required pam_permit.so
"""
# What this machine's sudo and its libraries would read besides, which a Mac has none of: systemd's
# users, the rules of PAM for others, addresses of all interfaces. It is half of a start of sudo.
SPARED = {
    "nsswitch.conf": "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\n",
    "pam.d/other": "auth required pam_deny.so\naccount required pam_deny.so\n",
    "sudo.conf": "Set probe_interfaces false\n",
}
SUDO = "/usr/libexec/rig/sudo"
# Notes the call, as process 1 does for all other commands, and is the real one.
NOTE = f"""#!/bin/dash
IFS={node.WORD_END}
printf '%s{node.ROW_END}' "sudo{node.WORD_END}$*" >>/.rig/{{name}}/calls
. /.rig/{{name}}/sudo.sh
"""
SH = """#!/bin/dash
# A Mac's is bash in posix mode, whose echo reads backslashes.
exec /.rig/bin/sh -O xpg_echo "$@"
"""
UNAME = """#!/bin/dash
case $* in
'' | -s) echo Darwin ;;
-r) echo 25.4.0 ;;
-m) echo arm64 ;;
-srm) echo Darwin 25.4.0 arm64 ;;
*) exec /.rig/bin/gnu/uname "$@" ;;
esac
"""
# The commands whose words, or what they print, are so unlike GNU's that options alone won't do.
OWN = ("stat", "wc")
# What a guard runs, where GNU's needs a word to do as Apple's.
WORDS = {"sed": ("--posix",), "xargs": ("-r",)}


def commands(at: str) -> dict[str, str]:
    """Name -> text of the commands that stand before GNU's in `at`/gnu."""
    texts = {}
    for name in GUARDED:
        real = f"{at}/bsd/{name}.pl" if name in OWN else f"{at}/gnu/{name}"
        # GNU's -i takes no word, Apple's does: nothing of ours edits a file in place.
        texts[name] = guard(name, real, WORDS.get(name, ()), "iI" if name == "sed" else "")
    texts |= {f"{name}.pl": (HERE / "mac" / f"{name}.pl").read_text() for name in OWN}
    texts["rsync"] = (HERE / "mac" / "rsync.pl").read_text()
    return texts | {"sh": SH, "uname": UNAME}


def build_tree(tree: Path, name: str) -> None:
    for each in (*GUARDED, "rsync", "sh", "uname"):
        (tree / "usr" / "bin" / each).symlink_to(f"/.rig/bin/bsd/{each}")
    (tree / "private" / "tmp").mkdir(parents=True)
    (tree / "tmp").symlink_to("private/tmp")
    (tree / "etc" / "sudoers").write_text(SUDOERS.format(name=name))
    (tree / "etc" / "sudoers").chmod(0o440)
    (tree / "etc" / "pam.d").mkdir()
    for file, text in {"pam.d/sudo": PAM, **SPARED}.items():
        (tree / "etc" / file).write_text(text)
    (tree / "usr" / "bin" / "sudo").unlink()
    (tree / "usr" / "bin" / "sudo").write_text(NOTE.format(name=name))
    (tree / "usr" / "bin" / "sudo").chmod(0o755)
    groups = (tree / "etc" / "group").read_text().replace("\nadmin:x:80:", f"\nadmin:x:80:{USER}")
    lines = [line for line in groups.splitlines() if line.split(":")[2] != str(GID)]
    (tree / "etc" / "group").write_text("\n".join([*lines, f"staff:x:{GID}:", ""]))


def sudoers(passwordless: bool) -> str:
    """What of the host's rules is its state."""
    return f"{USER} ALL = (ALL) NOPASSWD: ALL\n" if passwordless else ""


def sudo(hangs: bool) -> str:
    """How the shell that has noted a call goes on."""
    return "exec /.rig/bin/gnu/tail -f /dev/null\n" if hangs else f'exec {SUDO} "$@"\n'


# In the folder above `lower`, before the overlay is mounted.
SCRIPT = (
    f"mkdir -p lower{Path(SUDO).parent}; cp -p /usr/bin/sudo lower{SUDO}; chmod 4755 lower{SUDO}",
    f"hash=$(perl -e 'print crypt(\"{PASSWORD}\", q($6$rig$))')",
    f"{{ cat /etc/shadow; echo '{USER}:'\"$hash\"':20000:0:99999:7:::'; }} >lower/etc/shadow",
    "chmod 600 lower/etc/shadow",
)
# /dev/fd leads to the real /proc, as there is none in its place.
DEV = (
    "mount -t tmpfs -o mode=755 tmpfs dev; mkdir dev/pts dev/shm; mount --bind /dev/pts dev/pts",
    "for f in null zero full random urandom tty ptmx; do"
    " touch dev/$f; mount --bind /dev/$f dev/$f; done",
    "ln -s /.proc/self/fd dev/fd",
    "ln -s fd/0 dev/stdin; ln -s fd/1 dev/stdout; ln -s fd/2 dev/stderr",
)


def let_in(path: Path) -> str:
    """Let every user of the host go where this folder is: /root may be shut."""
    folders = [shlex.quote(f".{each}") for each in path.parents if each != Path("/")]
    return f"chmod a+x {' '.join(folders)}" if folders else ""
