"""Whether sudo runs what rdma.setup needs without a password."""

import re

from .. import Fact, Key


def parse(text: str, status: int) -> bool:
    """A command that only reads, by `sudo -n`, which never asks."""
    if status == 0 or re.search(r"^lo0: error fetching|ifconfig: command not found", text):
        return True  # sudo has run it: a Linux calls it lo, or has no ifconfig
    if re.search(r"password is required|terminal is required|may not run|not in the sudoers", text):
        return False
    raise ValueError("sudo can't be asked")


KEY = Key[bool]("sudo")


def fact(command: str) -> Fact[bool]:
    return Fact(KEY, f"sudo -n {command} >/dev/null", parse)
