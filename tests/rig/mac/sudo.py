"""sudo: runs a command if the host's policy lets it, and marks it as root's.

The user may run everything with a password. Without one: everything if the state says
"passwordless", and what a NOPASSWD line in /etc/sudoers.d names. Nothing is remembered, as for
commands that have no terminal in common.
"""

from __future__ import annotations

import fnmatch
import os
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from . import node

FOLDER = "/etc/sudoers.d"
KEPT = ("HOME", "PATH", "TERM", "LANG", "LC_ALL", "TZ", "SHELL")
NO_TERMINAL = (
    "sudo: a terminal is required to read the password; either use the -S option to read from "
    "standard input or configure an askpass helper"
)


@dataclass
class Wanted:
    """What the command line asks for."""

    flags: set[str]
    prompt: str
    command: list[str]


def sudo(words: list[str]) -> int:
    wanted = _parse(words)
    if "l" in wanted.flags:
        return _list(wanted)
    if not wanted.command:
        if "v" in wanted.flags:
            return 0 if _may(wanted, []) else 1
        return 0 if wanted.flags & {"k", "K"} else 1
    program = shutil.which(wanted.command[0])
    if not _may(wanted, wanted.command):
        return 1
    if program is None:
        node.say(f"sudo: {wanted.command[0]}: command not found")
        return 1
    environment = {name: os.environ[name] for name in KEPT if name in os.environ}
    marks = {"SUDO_UID": "501", "SUDO_USER": "admin", "SUDO_COMMAND": " ".join(wanted.command)}
    os.execve(program, wanted.command, {**environment, **marks, "USER": "root"})


def _parse(words: list[str]) -> Wanted:
    wanted = Wanted(set(), "Password:", [])
    rest = iter(words)
    for word in rest:
        if word == "--":
            wanted.command = list(rest)
        elif not word.startswith("-"):
            wanted.command = [word, *rest]
        elif word in ("-p", "-u", "-g"):
            value = next(rest, "")
            wanted.prompt = value if word == "-p" else wanted.prompt
        else:
            wanted.flags |= set(word[1:])
    return wanted


def _may(wanted: Wanted, command: list[str]) -> bool:
    """Whether it may run: without a password, or with the one that is given now."""
    policy = node.state()["sudo"]
    if policy["passwordless"] or (command and any(_allows(rule, command) for rule in _rules())):
        return True
    if "n" in wanted.flags:
        node.say("sudo: a password is required")
        return False
    if "S" not in wanted.flags and not _has_terminal():
        node.say(NO_TERMINAL)
        node.say("sudo: a password is required")
        return False
    return _asked(wanted, policy["password"])


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDWR))
    except OSError:
        return False
    return True


def _asked(wanted: Wanted, password: str) -> bool:
    for attempt in range(1, 4):
        said = _read(wanted)
        if said is None:
            node.say("sudo: no password was provided")
            node.say("sudo: a password is required" if attempt == 1 else _incorrect(attempt - 1))
            return False
        if said == password:
            return True
        if attempt < 3:
            node.say("Sorry, try again.")
    node.say(_incorrect(3))
    return False


def _incorrect(count: int) -> str:
    return f"sudo: {count} incorrect password attempt{'s' if count > 1 else ''}"


def _read(wanted: Wanted) -> str | None:
    """One line of stdin, by the byte: what follows is the command's. None at its end."""
    if "S" not in wanted.flags:
        import getpass

        return getpass.getpass(wanted.prompt)
    sys.stderr.write(wanted.prompt)
    sys.stderr.flush()
    line = b""
    while True:
        byte = os.read(0, 1)
        if byte in (b"", b"\n"):
            return line.decode() if byte or line else None
        line += byte


def _rules() -> Iterator[str]:
    """The commands of all NOPASSWD lines, unescaped: a path, and arguments as a pattern."""
    names = sorted(os.listdir(FOLDER)) if os.path.isdir(FOLDER) else []
    for name in names:
        # As sudo does: a name with a dot, or one that ends with a tilde, is passed over.
        if "." in name or name.endswith("~"):
            continue
        with open(f"{FOLDER}/{name}") as file:
            text = file.read().replace("\\\n", " ")
        for line in re.findall(r"^[^#\n]*NOPASSWD:(.*)$", text, re.MULTILINE):
            for rule in re.split(r"(?<!\\),", line):
                yield re.sub(r"\\(.)", r"\1", rule).strip()


def _allows(rule: str, command: list[str]) -> bool:
    """sudoers(5): a path without arguments allows any; `""` allows none."""
    path, _, arguments = rule.partition(" ")
    program = shutil.which(command[0])
    if rule == "ALL":
        return True
    if not program or not os.path.exists(path) or not os.path.samefile(path, program):
        return False
    if os.path.basename(path) != os.path.basename(program):
        return False
    given = " ".join(command[1:])
    return not arguments or (
        given == "" if arguments == '""' else fnmatch.fnmatch(given, arguments)
    )


def _list(wanted: Wanted) -> int:
    """`sudo -l`: needs no password once any rule has NOPASSWD, and says what MAY be run."""
    rules = list(_rules())
    free = Wanted(wanted.flags, wanted.prompt, [])
    if not rules and not _may(free, []):
        return 1
    if wanted.command:
        program = shutil.which(wanted.command[0])
        print(" ".join([program or wanted.command[0], *wanted.command[1:]]))
        return 0 if program else 1
    print(f"User admin may run the following commands on {node.NAME}:")
    print("    (ALL) " + ("NOPASSWD: " if node.state()["sudo"]["passwordless"] else "") + "ALL")
    for rule in rules:
        print(f"    (root) NOPASSWD: {rule}")
    return 0
