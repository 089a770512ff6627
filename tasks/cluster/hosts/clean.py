"""What we have ever put on a node, and what takes it away."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from ..checks import FAIL, Finding
from ..config.settings import DEFAULT
from ..facts import Fact, Key, NodeFacts
from ..facts.machine import processes
from ..facts.server.state import NO_HOLD
from ..rdma import launchd
from ..rdma.setup import Change, unreadable
from ..server.launch import HEADER, LINKS
from ..server.lock import SILENCE
from ..ssh import scripts

SUDOERS = "/etc/sudoers.d/mlx-tp"  # where a refusal of rdma.setup tells to put its line
BY_ROOT = (launchd.LOG, SUDOERS)


@dataclass(frozen=True)
class OurFiles:
    """Paths that are ours, the user's and root's, and why nothing may be touched now.

    `left` is the state's folder, where it is there.
    """

    user: tuple[str, ...] = ()
    root: tuple[str, ...] = ()
    busy: tuple[str, ...] = ()
    left: tuple[str, ...] = ()


def parse(text: str, status: int) -> OurFiles:
    """The output of `fact`."""
    if status != 0 or not re.search(r"^end\s*\Z", text, re.MULTILINE):
        raise ValueError("what is ours there can't be told")

    def rows(word: str) -> tuple[str, ...]:
        return tuple(re.findall(rf"^{word} (.+)$", text, re.MULTILINE))

    return OurFiles(rows("remove"), rows("root"), rows("busy"), rows("left"))


KEY = Key[OurFiles]("ours")


def script(state_dir: str, log_dir: str | None, dry: bool) -> str:
    """Takes away what is the user's, or only tells it."""
    return scripts.script(
        "clean.sh",
        BY_ROOT,
        state_dir=state_dir,
        cluster=DEFAULT,
        silence=SILENCE,
        links=LINKS,
        logs=log_dir or "",
        begins=HEADER,
        draft=f"{launchd.LABEL}.plist",
        dry="dry" if dry else "",
        **NO_HOLD,
    )


def fact(state_dir: str, log_dir: str | None) -> Fact[OurFiles]:
    """What is there."""
    return Fact(KEY, script(state_dir, log_dir, True), parse)


def refusals(facts: Mapping[str, NodeFacts]) -> list[Finding]:
    """Why nothing may be touched: unknown facts, ranks that live (recorded or not), a command."""
    found = []
    for host, values in facts.items():
        lacking = unreadable(host, values)
        found += lacking
        if not lacking:
            found += [Finding("clean", FAIL, host, *_split(why)) for why in _busy(values)]
    return found


def _busy(values: NodeFacts) -> list[str]:
    recorded = list(values[KEY].busy)
    lives = [each for each in values[processes.KEY].values() if each.rank is not None]
    return recorded or [
        f"rank {each.rank} lives (pid {each.pid}), of no record here: inv tp.stop" for each in lives
    ]


def _split(why: str) -> tuple[str, str]:
    what, _, fix = why.partition(": ")
    return what, fix


def changes(host: str, home: str, facts: NodeFacts, text: str) -> list[Change]:
    """What takes it away: the user's by `text`, then root's, that by which sudo lets us last."""
    ours = facts[KEY]
    found = [Change("clean", host, f"remove {', '.join(ours.user)}", script=text)]
    found = [*(found if ours.user else []), *launchd.changes(host, home, facts[launchd.KEY], None)]
    return [*found, *(_by_root(host, path) for path in BY_ROOT if path in ours.root)]


def _by_root(host: str, path: str) -> Change:
    return Change("clean", host, f"remove {path}", ("/bin/rm", "-f", path))
