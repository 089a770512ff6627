"""What is said while nodes, or a server, let us wait: whose answer is missing, and for how long.

On a terminal one line that changes, under the rows of those who have answered; elsewhere a line
every few seconds. Nothing where it is quick, or where another view is on the screen.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from ..cluster.ssh.background import settle
from ..cluster.text import few
from . import envelope, screen

if TYPE_CHECKING:
    from rich.console import Group

AFTER = 2.0  # seconds for which nothing need be said
TICK = 0.2  # seconds between two looks
EVERY = 5.0  # seconds between two lines where no line can be changed
NAMES = 4  # of those that are waited for

Rows = Sequence[Sequence[str]]
Early = Callable[[Any], Rows]
SoFar = Callable[[Mapping[str, Any]], Any]  # of the results that there are


class Waiting:
    """Waits with what a command asks of nodes: `each` of the connections calls it.

    `what` is the part of the command that waits; `early` makes rows of what is known so far.
    """

    def __init__(self) -> None:
        self.what = ""
        self.early: Early | None = None
        self.since: float | None = None
        self.lines = _Lines()

    @contextmanager
    def part(self, what: str) -> Iterator[None]:
        """Within it `what` is named as that which waits."""
        before, self.what = self.what, what
        try:
            yield
        finally:
            self.what = before

    @contextmanager
    def rows(self, early: Early) -> Iterator[None]:
        """Within it `early` makes rows of what is known while a node's answer is missing."""
        before, self.early = self.early, early
        try:
            yield
        finally:
            self.early = before

    @contextmanager
    def as_one(self) -> Iterator[None]:
        """Within it waits that follow each other are one: many short ones are silent as well."""
        self.since, self.lines = time.monotonic(), _Lines()
        try:
            yield
        finally:
            self.since = None

    def __call__(self, futures: Mapping[str, Future[Any]], so_far: SoFar | None = None) -> None:
        """Wait until all have ended, and say so where that takes long."""
        begun = self.since or time.monotonic()
        quiet = max(begun + AFTER - time.monotonic(), 0)
        if settle(futures.values(), quiet) or not _may_speak():
            return
        lines = self.lines if self.since else _Lines()
        with ExitStack() as stack:
            show = stack.enter_context(_live()) if screen.is_terminal(sys.stderr) else lines
            is_over = False
            while not is_over:
                late = [name for name, each in futures.items() if not each.done()]
                show(
                    self._line(late, time.monotonic() - begun), lambda: self._rows(futures, so_far)
                )
                is_over = settle(futures.values(), TICK)

    def _line(self, late: Sequence[str], seconds: float) -> str:
        what = f"{self.what}: " if self.what else ""
        return f"{what}waiting for {few(late, NAMES)}, {seconds:.0f} s"

    def _rows(self, futures: Mapping[str, Future[Any]], so_far: SoFar | None) -> Rows:
        done = {n: f.result() for n, f in futures.items() if f.done() and not f.exception()}
        is_json = envelope.current() is not None
        return self.early(so_far(done)) if self.early and so_far and done and not is_json else []


ShowLine = Callable[[str, Callable[[], Rows]], None]


class _Lines:
    """A line now and then; the rows come with the result."""

    def __init__(self) -> None:
        self.spoke = float("-inf")

    def __call__(self, line: str, rows: Callable[[], Rows]) -> None:
        if time.monotonic() - self.spoke > EVERY:
            self.spoke = time.monotonic()
            screen.say(line)


@contextmanager
def _live() -> Iterator[ShowLine]:
    """What is shown is gone at the end: then comes the result."""
    from rich.console import Console
    from rich.live import Live

    with Live(console=Console(stderr=True), auto_refresh=False, transient=True) as live:
        yield lambda line, rows: live.update(_view(line, rows()), refresh=True)


def _view(line: str, rows: Rows) -> Group:
    from rich.console import Group
    from rich.text import Text

    lines = [*screen.aligned(rows, screen.width()), line]
    return Group(*(Text(each, no_wrap=True, overflow="ellipsis") for each in lines))


def _may_speak() -> bool:
    """Only the command itself speaks, and not where it shows how far it is in its own way."""
    return threading.current_thread() is threading.main_thread() and not screen.is_shown()
