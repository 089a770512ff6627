"""Whether a rank's python may connect to a peer, beside what nc of the system may.

macOS's Local Network privacy refuses a connection to another machine of the same network with
EHOSTUNREACH, as if there were no route; programs of the system (/usr/bin/nc) are exempt, so that
the two differ only where it is at work.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from .. import shell
from . import Fact, Key

# A refused connection has reached the peer, too.
_ASK = """
import errno, socket, sys
try: socket.create_connection((sys.argv[1], int(sys.argv[2])), 3).close()
except socket.timeout: said = "ETIMEDOUT"
except OSError as error: said = errno.errorcode.get(error.errno, "failed")
else: said = "connected"
print("python", said)
"""


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

    where = f"{shell.quote(address)} {port}"
    cd = f"cd {shell.path(cwd)} || exit\n" if cwd else ""
    return Fact(
        KEY,
        f"(\n{cd}{shell.path(python)} -c {shell.quote(_ASK)} {where}\n) 2>&1\n"
        'nc=/usr/bin/nc; [ -x "$nc" ] || nc=nc\n'
        f'"$nc" -z -w 3 {where} >/dev/null 2>&1; echo "nc $?"',
        parse,
    )
