"""Whether a rank's python may connect to a peer, beside what nc of the system may.

macOS's Local Network privacy refuses a connection to another machine of the same network with
EHOSTUNREACH, as if there were no route; programs of the system (/usr/bin/nc) are exempt, so that
the two differ only where it is at work.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ...ssh import scripts
from .. import Fact, Key


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


_ASK = scripts.text("facts/meet.py")
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
        "facts/reach.sh", python=python, cwd=cwd or "", ask=_ASK, address=address, port=port
    )
    return Fact(KEY, text, parse)


@dataclass(frozen=True)
class MeetingReach:
    """Whether ranks could meet, as the node's python tells.

    `own` maps an address to "bound", `peers` "address:port" to "connected", or to an errno's name
    such as ETIMEDOUT. `client` and `server` are the addresses of the ssh session, "" without one.
    """

    own: Mapping[str, str]
    peers: Mapping[str, str]
    client: str = ""
    server: str = ""

    def of(self, ip: str) -> str:
        """What was said to a connection to that address, "" where none was tried."""
        return next((said for at, said in self.peers.items() if at.partition(":")[0] == ip), "")


def parse_meeting(text: str, status: int) -> MeetingReach:
    rows = re.findall(r"^(own|peer) (\S+) (\w+)$", text, re.MULTILINE)
    session = re.search(r"^session (?:(\S+) \d+ (\S+) \d+)?$", text, re.MULTILINE)
    if status != 0 or not session:
        raise ValueError("python can't be asked")
    said = {kind: {at: what for k, at, what in rows if k == kind} for kind in ("own", "peer")}
    return MeetingReach(said["own"], said["peer"], session[1] or "", session[2] or "")


MEETING_KEY = Key[MeetingReach]("meeting")


def meeting(
    python: str, cwd: str | None, own: Iterable[str], peers: Iterable[tuple[str, int]]
) -> Fact[MeetingReach]:
    """Asks the node's `python`, started in `cwd`, for addresses of its own and for peers' ports."""
    words = [*(f"own={ip}" for ip in own), *(f"peer={ip}:{port}" for ip, port in peers)]
    values = {"python": python, "cwd": cwd or "", "ask": _ASK}
    return Fact(MEETING_KEY, scripts.script("facts/meet.sh", words, **values), parse_meeting)
