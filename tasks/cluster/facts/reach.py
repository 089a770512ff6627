"""Whether a rank's python may connect to a peer, beside what nc of the system may.

macOS's Local Network privacy refuses a connection to another machine of the same network with
EHOSTUNREACH, as if there were no route; programs of the system (/usr/bin/nc) are exempt, so that
the two differ only where it is at work.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..ssh import scripts
from . import Fact, Key


@dataclass(frozen=True)
class Reach:
    """`python` is "connected" or an errno's name such as EHOSTUNREACH; `nc` whether nc connects."""

    peer: str
    python: str
    nc: bool

    @property
    def is_refused(self) -> bool:
        """Whether only the python is kept from the peer."""
        return self.nc and self.python in ("EHOSTUNREACH", "EPERM", "EACCES")


KEY = Key[Reach]("reach")


def fact(python: str, cwd: str | None, address: str, port: int) -> Fact[Reach]:
    """Asks the node's `python`, started in `cwd` as its rank is, for the peer's sshd."""

    def parse(text: str, status: int) -> Reach:
        said = re.search(r"^python (\w+)$", text, re.MULTILINE)
        nc = re.search(r"^nc ([01])$", text, re.MULTILINE)
        if not said or not nc:
            raise ValueError("python or nc can't be asked")
        return Reach(f"{address}:{port}", said[1], nc[1] == "0")

    text = scripts.script(
        "facts/reach.sh",
        python=python,
        cwd=cwd or "",
        ask=scripts.text("facts/reach.py"),
        address=address,
        port=port,
    )
    return Fact(KEY, text, parse)
