"""Whether sudo runs what rdma.setup needs without a password."""

from __future__ import annotations

import re

from .. import Fact, Key


def parse(text: str, status: int) -> bool:
    """A command that only reads, by `sudo -n`, which never asks."""
    if status == 0:
        return True
    if re.search(r"password is required|terminal is required|may not run|not in the sudoers", text):
        return False
    raise ValueError("sudo can't be asked")


KEY = Key[bool]("sudo")


def fact(command: str) -> Fact[bool]:
    return Fact(KEY, f"sudo -n {command} >/dev/null", parse)
