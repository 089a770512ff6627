"""The one form of what `--json` prints, for every task and also where it fails.

    {"ok": true, "exit": 0, "error": null, "findings": [...], ...the task's own result}

Every task of a cluster has the option, and of several on a command line all print theirs where one
was asked for it.
`ok` is whether the exit status (`exit`) is 0, `error` the line that stderr ends with. Sizes are
bytes, durations seconds, points in time RFC 3339. A document is printed when all that belongs to
its task has ended, hooks too; what the task would print besides is in `lines`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from invoke.exceptions import Exit, ParseError

from ..cluster.text import plain

if TYPE_CHECKING:
    from ..cluster.checks import Finding


@dataclass
class Envelope:
    """What a task has handed over so far; `is_stream` is one that prints a document per line."""

    result: dict[str, object] = field(default_factory=dict)
    findings: list[dict[str, object]] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    owner: object = None
    is_stream: bool = False

    def document(self, error: BaseException | None = None) -> dict[str, object]:
        """The whole of it, for a task that has ended with `error` (None: well)."""
        code, why = _ended(error)
        more = {"lines": self.lines} if self.lines else {}
        head = {"ok": code == 0, "exit": code, "error": why, "findings": self.findings}
        return {**head, **self.result, **more}


_open: ContextVar[Envelope | None] = ContextVar("envelope", default=None)


def current() -> Envelope | None:
    """The envelope of the task that is at work, if `--json` was asked of it."""
    return _open.get()


@contextmanager
def opened(wanted: bool, is_stream: bool = False) -> Iterator[None]:
    """A command line is at work; `wanted`: with `--json`, `is_stream`: a document per line."""
    if not wanted:
        yield
        return
    token = _open.set(Envelope(is_stream=is_stream))
    try:
        yield
    except BrokenPipeError:
        raise
    except BaseException as error:
        _print(error)
        raise
    else:
        _print()
    finally:
        _open.reset(token)


def of_code(options: Mapping[str, object], is_stream: bool) -> AbstractContextManager[None]:
    """That of a task which code calls; a command line's own stays the one there is."""
    return opened(bool(options.get("json")) and current() is None, is_stream)


@contextmanager
def aside() -> Iterator[None]:
    """Leave out of the document what is done meanwhile: it is of another server, say."""
    token = _open.set(current() and Envelope())
    try:
        yield
    finally:
        _open.reset(token)


def begin(owner: object, is_stream: bool = False) -> None:
    """An asked task (`owner`) or a hook of it begins: what an earlier one gave is printed."""
    envelope = current()
    if envelope is None or envelope.owner is owner:
        return
    if envelope.owner is not None:
        _print()
        vars(envelope).update(vars(Envelope()))
    envelope.owner, envelope.is_stream = owner, is_stream


def given(result: Mapping[str, object], findings: Iterable[Finding] = ()) -> bool:
    """Hand over a task's result where `--json` was asked for: else it is to be told in words."""
    envelope = current()
    if envelope is None or envelope.is_stream:
        return False
    give(result, findings)
    return True


def give(result: Mapping[str, object], findings: Iterable[Finding] = ()) -> None:
    """Hand over a task's result; without an envelope (code that calls ours) it is printed."""
    found = [asdict(each) for each in findings]
    envelope = current()
    if envelope is None:
        _out({**Envelope(findings=found).document(), **result})
    else:
        envelope.result |= result
        envelope.findings += found


def line(result: Mapping[str, object], error: str = "") -> None:
    """A document of its own on a line: one of many that a task prints until it is ended."""
    envelope = current()
    if envelope is not None:
        envelope.is_stream = True
    head = {"ok": not error, "error": error or None}
    _out({**head, **result}, None)


def now() -> str:
    """This moment as RFC 3339 has it, with this machine's offset."""
    return datetime.now().astimezone().isoformat(timespec="seconds")


def _print(error: BaseException | None = None) -> None:
    envelope = current()
    if envelope is None:
        return
    if not envelope.is_stream:
        _out(envelope.document(error))
    elif error is not None:
        _out(envelope.document(error), None)


def _out(document: Mapping[str, object], indent: int | None = 2) -> None:
    # JSON leaves DEL as it is, which a terminal takes for an order.
    print(plain(json.dumps(document, indent=indent)), flush=True)


def _ended(error: BaseException | None) -> tuple[int, str | None]:
    """The exit status, and the line that says why."""
    if error is None:
        return 0, None
    if isinstance(error, Exit):
        return error.code, str(error.message or "") or None
    return 1, str(error) if isinstance(error, ParseError) else type(error).__name__
