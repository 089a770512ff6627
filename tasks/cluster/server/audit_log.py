"""What was done to a node, by whom: one line an action, in `audit.log` of its state directory.

A line has fields with tabs between: when it ended (UTC, by the control machine's clock), who, what,
outcome. It is written over the connection that the action had, while we already do what is next.
"""

import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass

from ..errors import BadInput, Ended
from ..facts import Fact, Key, NodeFacts, known
from ..ssh import background, scripts
from ..ssh.node import CommandResult, Node
from ..text import one_line
from .launch import who

NAME = "audit.log"
LIMIT = 262144  # bytes; a log that has grown longer is cut to the last half of it
WAIT = 5.0  # seconds at the end of a command for lines that are still on their way

DONE = "done"
_OUTCOMES = {3: "refused", 4: "failed", 5: "node not reached"}


@dataclass(frozen=True, order=True)
class AuditEntry:
    """An action as a node's log tells it; `time` is like 2026-11-24T18:01:25Z."""

    time: str
    who: str
    what: str
    outcome: str


class AuditWriter:
    """Writes the lines of one command; `close` waits for those that are on their way."""

    def __init__(self) -> None:
        self._writing: dict[Future[CommandResult], str] = {}

    @contextmanager
    def recorded(
        self,
        targets: Iterable[Node],
        state_dir: str,
        what: str,
        unless: tuple[type[BaseException], ...] = (BadInput,),
    ) -> Iterator[None]:
        """Note at the end how `what` has ended, not why; no word after the errors `unless`."""
        try:
            yield
        except unless:
            raise
        except BaseException as error:
            self.record(targets, state_dir, what, _outcome(error))
            raise
        self.record(targets, state_dir, what)

    def record(
        self, targets: Iterable[Node], state_dir: str, what: str, outcome: str = DONE
    ) -> None:
        """Begin to write a line to the nodes that we are connected to."""
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        text = script(state_dir, AuditEntry(now, who(), what, outcome))
        for node in targets:
            if node.is_connected:
                self._writing[background.begin(node.sh, text)] = node.name

    def close(self, seconds: float = WAIT) -> dict[str, str]:
        """Wait for the lines that are on their way; node -> why it has none."""
        background.settle(self._writing, seconds)
        failed = {name: _failure(end) for end, name in self._writing.items()}
        self._writing.clear()
        return {name: why for name, why in failed.items() if why}


def _outcome(error: BaseException) -> str:
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    return _OUTCOMES.get(error.code, "failed") if isinstance(error, Ended) else "failed"


def _failure(end: Future[CommandResult]) -> str:
    if not end.done():
        return "no answer in time"
    answer = end.result()
    return "" if answer.ok else one_line(answer.failure or answer.err) or "no reason given"


def script(state_dir: str, entry: AuditEntry) -> str:
    """Appends a line to a node's log."""
    fields = (entry.time, entry.who, entry.what, entry.outcome)
    line = "\t".join(one_line(field).replace("\t", " ")[:300] for field in fields)
    return scripts.script("audit/add.sh", state_dir=state_dir, name=NAME, line=line, limit=LIMIT)


KEY = Key[Sequence[AuditEntry]]("audit")


def fact(state_dir: str, lines: int) -> Fact[Sequence[AuditEntry]]:
    """The last `lines` entries of a node's log (0: all); none where nothing was done yet."""
    text = scripts.script("audit/last.sh", state_dir=state_dir, name=NAME, lines=lines)
    return Fact(KEY, text, parse)


def parse(text: str, status: int) -> list[AuditEntry]:
    """The output of `fact`; a damaged line is left out."""
    if status != 0:
        raise ValueError("the audit log can't be read")
    rows = [line.split("\t") for line in text.splitlines()]
    good = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
    return [AuditEntry(*row) for row in rows if len(row) == 4 and good.fullmatch(row[0])]


def merged(facts: Mapping[str, NodeFacts], lines: int) -> list[tuple[AuditEntry, list[str]]]:
    """The last `lines` entries (0: all) of all nodes by time, each with the nodes that have it."""
    found: dict[AuditEntry, list[str]] = {}
    for node, values in facts.items():
        for entry in known(values, KEY) or ():
            found.setdefault(entry, []).append(node)
    # Times are whole seconds: what happened within one is told in the order that a node has it.
    return sorted(found.items(), key=lambda pair: pair[0].time)[-lines:]
