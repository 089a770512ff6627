"""The fence: each hold of a cluster's lock has a number, and a node that has seen a higher one
refuses the lower (remote/fence.sh). So who has slept through its lock changes nothing any more.

The number is kept per cluster name on each node. Rank 0's node gives it with the lock; the first
question to the others, under that lock, makes it one that is higher than all they have seen.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ..errors import ActionFailed
from ..facts.server.state import NO_HOLD, HoldValues, Seen, parse_fence
from ..ssh import scripts

if TYPE_CHECKING:
    from ..cluster import Site
    from ..ssh.node import CommandResult


class TakenOver(ActionFailed):
    """Another command has the cluster now; the node has refused to act (exit 4)."""

    def __init__(self, node: str, by: Seen) -> None:
        super().__init__(f"{node}: {_by(by)}; nothing was changed here")


def _by(seen: Seen) -> str:
    when = time.strftime("%H:%M", time.localtime(seen.since))
    return f"the cluster was taken over by {seen.holder} at {when}"


def refusal(lines: Iterable[str]) -> str:
    """What a node's refusal among `lines` says, in words; "" where there is none."""
    refused = parse_fence("\n".join(lines))
    return _by(refused) if refused else ""


@dataclass(frozen=True)
class Fence:
    """The number of our hold of that cluster, higher than all that the nodes `asked` had seen."""

    number: int
    hold: str
    holder: str
    cluster: str
    asked: frozenset[str] = frozenset()

    @property
    def values(self) -> HoldValues:
        """What the scripts that act are given of it."""
        words = (str(self.number), self.cluster, self.hold, self.holder)
        return dict(zip(NO_HOLD, words, strict=True))


def of(cluster: Site) -> Fence | None:
    """The number of the hold that this command has of the cluster."""
    return cluster.leader.fences.get(cluster.folder)


def values(cluster: Site) -> HoldValues:
    """What a script that acts on the cluster's nodes carries; nothing without a hold."""
    held = of(cluster)
    return held.values if held else NO_HOLD


def begin(cluster: Site) -> str:
    """What goes before a script that changes something: it ends there if another has taken over."""
    return scripts.script("fence/begin.sh", **cluster.where, **values(cluster))


def lend(cluster: Site, to: Site) -> None:
    """Let what is done for the cluster `to` on the same nodes go by our hold of `cluster`."""
    if held := of(cluster):
        to.leader.fences[to.folder] = held


def is_aligned(cluster: Site) -> bool:
    """Whether no node has to be asked which numbers it has seen."""
    held = of(cluster)
    return held is None or held.asked >= {node.name for node in cluster.nodes}


def check(answers: Mapping[str, CommandResult]) -> None:
    """Raise TakenOver where a script was refused."""
    for name, answer in answers.items():
        if refused := parse_fence(answer.err):
            raise TakenOver(name, refused)


def raised(cluster: Site, seen: Mapping[str, Seen | None]) -> bool:
    """Whether the nodes have to be asked again, by a number that is now above all they had seen.

    `seen` is what each node tells that was asked in our name. Raise TakenOver where rank 0's, or
    one that had seen ours already, now has another.
    """
    held = of(cluster)
    if held is None:
        return False
    # One with a lower number could not write ours down: a full disk keeps nobody from stopping.
    others = {
        name: each
        for name, each in seen.items()
        if each and each.hold != held.hold and each.number >= held.number
    }
    if lost := [name for name in others if name == cluster.leader.name or name in held.asked]:
        raise TakenOver(lost[0], others[lost[0]])
    number = max([held.number, *(each.number + 1 for each in others.values())])
    given, held = held.number, replace(held, number=number, asked=held.asked | seen.keys())
    if others:
        text = scripts.script("fence/raise.sh", **cluster.where, **held.values, given=given)
        check({cluster.leader.name: cluster.leader.sh(text)})
    # Those that had seen a higher one have not seen ours yet.
    asked = held.asked - others.keys()
    cluster.leader.fences[cluster.folder] = replace(held, asked=asked)
    return bool(others)
