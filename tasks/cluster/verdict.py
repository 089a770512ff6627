"""What a watcher makes of a server: ranks that live, a health page, a token. Pure.

mlx_lm.server does not answer HTTP while it generates: no answer in time proves nothing, and a busy
server must not be taken for a dead one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .hints import exit_words

if TYPE_CHECKING:
    from .snapshot import Snapshot

SERVING, BUSY, STARTING = "serving", "busy", "starting"
FAILED, UNKNOWN, STOPPED, UNASKED = "failed", "unknown", "stopped", "unasked"


@dataclass(frozen=True)
class Verdict:
    """`state` is serving, busy, starting, failed, stopped, unknown or unasked.

    Unknown: a node gives no answer. Unasked: all ranks live, but the server takes no request.
    """

    state: str
    why: str = ""

    def __str__(self) -> str:
        return f"{self.state}: {self.why}" if self.why else self.state


@dataclass(frozen=True)
class Signs:
    """What the server's HTTP side said of late, in seconds since.

    `token` is since the last completion that held one; `refused` is why a completion failed though
    the server answered (empty: none did, or it just gave no answer in time); `unasked` why none can
    be asked for (it wants a key, or no way leads to it).
    """

    token: float
    refused: str = ""
    unasked: str = ""


def judge(read: Snapshot, size: int, signs: Signs, patience: float) -> Verdict:
    """The server of `size` ranks as the nodes and its HTTP side tell it.

    `patience` is how long a server that answers nothing counts as busy.
    """
    if read.unreachable:
        return Verdict(UNKNOWN, _words({n: why for n, (why, _) in read.unreachable.items()}))
    unread = [node for node in read.nodes if read.state(node) is None]
    if unread:
        return Verdict(UNKNOWN, f"{unread[0]}: its state can't be read")
    if not read.ranks:
        return Verdict(STOPPED, "no server is recorded")
    dead = {f"rank {r.rank} on {n}": exit_words(r.exit) for n, r in read.ranks if not r.alive}
    if dead:
        return Verdict(FAILED, f"died: {_words(dead)}")
    if len(read.ranks) < size:
        return Verdict(FAILED, f"only {len(read.ranks)} of {size} ranks are recorded")
    node, first = read.ranks[0]
    state = read.state(node)
    if state and first.record and state.ready != first.record.run:
        return Verdict(STARTING)
    if signs.unasked:
        return Verdict(UNASKED, f"running, can't be asked: {signs.unasked}")
    if signs.refused:
        return Verdict(FAILED, f"all ranks live, but there is no token: {signs.refused}")
    if signs.token > patience:
        return Verdict(FAILED, f"all ranks live, but no token for {signs.token:.0f} s")
    return Verdict(BUSY) if signs.token > BUSY_AFTER else Verdict(SERVING)


BUSY_AFTER = 60.0  # seconds without a token: until then the next look may just not be due


def _words(reasons: Mapping[str, str]) -> str:
    return ", ".join(f"{name} ({why})" for name, why in reasons.items())
