"""Whether sudo lets us do what links need, by which line of sudoers, and what then does it. Pure.

Each of a node's commands is asked for before the first one is run, anywhere.
"""

import re
from collections.abc import Iterable, Sequence

from ..ssh import scripts
from .setup import IFCONFIG, INSTALL, Change

# Reads only: it shows whether sudo lets us run ifconfig, before anything is changed.
PROBE = (IFCONFIG, "lo0")
# Where root would run what no line names. `sudo -v` wants a password as long as any rule does, as
# the %admin of every Mac (sudoers(5), verifypw), whatever another one lets run without.
ANY = ("/usr/bin/true",)


def are_fixed(commands: Iterable[Sequence[str]]) -> bool:
    """Whether the commands' words say all that they do, so that a line of sudoers may allow them.

    `install` does not: it makes root's what the user has written, and what launchd then runs as
    root would be up to whoever has that account.
    """
    return all(command[0] != INSTALL for command in commands)


def sudoers(user: str, commands: Iterable[Sequence[str]]) -> str:
    """The sudoers line that allows `user` just these commands, and the probe, without password."""
    every = dict.fromkeys(" ".join(map(_sudoers_word, each)) for each in (PROBE, *commands))
    return f"{user} ALL=(root) NOPASSWD: {', '.join(every)}"


def _sudoers_word(word: str) -> str:
    """A word of a command as sudoers(5) takes it for itself, and for no pattern or end."""
    return re.sub(r"([,:=\\*?\[\]!^# ])", r"\\\1", word)


def as_root(password: str | None) -> str:
    """/bin/sh text that defines `root`: it runs its words by sudo, never asking on a terminal."""
    by = "-n" if password is None else "-S"
    return scripts.script("sudo/root.sh", by=by, tp_password=password or "")


def may_script(commands: Sequence[Sequence[str]], password: str | None) -> str:
    """Ends with 0 if sudo would run the commands; it runs none but what changes nothing."""
    # Once a line of sudoers lets anything without a password, `-l` says yes to what needs one too.
    asked = [PROBE, *([] if are_fixed(commands) else [ANY]), *(("-l", *c) for c in commands)]
    asks = [scripts.script("sudo/ask.sh", words, after="sudo/root.sh") for words in asked]
    return "".join([as_root(password), *asks])


def act_script(todo: Sequence[Change], password: str | None) -> str:
    """Does one host's changes in their order; it stops at the first that fails."""
    parts = [as_root(password)]
    for change in todo:
        parts += [change.script, scripts.script(change.by, change.command, "sudo/root.sh")]
    return "".join(parts)
