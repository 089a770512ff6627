"""What inv tp.explain does: a log's first known error, what it means and what to do."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from ...cli import envelope, screen
from ...cluster.errors import BadInput, CheckFailed
from ...cluster.known_errors.search import FoundError, LogLine, search
from ...cluster.known_errors.table import KnownError, KnownFacts, table

_STDIN = "stdin"


def run(files: Sequence[str], known: Sequence[str], as_json: bool) -> None:
    """Search each file, or what comes on stdin, and tell; exit 3 where nothing is known."""
    facts = _facts(known)
    if not all(map(str.strip, files)):
        raise BadInput("what follows --: a file's name is empty")
    found = {name: _read(name) for name in files or [_STDIN]}
    if as_json:
        envelope.give({"files": [_row(name, each, facts) for name, each in found.items()]})
    else:
        for name, each in found.items():
            _tell(name, each, facts)
    if not any(each.known for each in found.values()):
        raise CheckFailed(f"none of the {len(table())} known errors")


def _facts(pairs: Sequence[str]) -> KnownFacts:
    names = {when.fact for each in table() for when in each.when}
    facts = dict(pair.partition("=")[::2] for pair in pairs)
    for name, value in facts.items():
        if name not in names or not value:
            raise BadInput(f"--fact {name}: give one of {', '.join(sorted(names))}, as NAME=VALUE")
    return facts


def _read(name: str) -> FoundError:
    try:
        with _opened(name) as stream:
            return search(stream)
    except OSError as error:
        raise BadInput(f"{name}: {error.strerror or error}") from None


@contextmanager
def _opened(name: str) -> Iterator[BinaryIO]:
    if name != _STDIN:
        with Path(name).expanduser().open("rb") as stream:
            yield stream
        return
    if sys.stdin.isatty():
        screen.say("paste the log, then press Ctrl-D (files are given after --)")
    yield sys.stdin.buffer


def _tell(name: str, found: FoundError, facts: KnownFacts) -> None:
    before = found.error
    if before and before != found.line:
        screen.out(f"{_at(name, before)}\n  not known")
    if found.known and found.line:
        screen.out(_at(name, found.line))
        for word, text in _words(found.known.told(facts)).items():
            if text:
                screen.out(f"  {word:<8} {text}")
    elif not before:
        screen.out(f"{name}: no error found")


def _at(name: str, line: LogLine) -> str:
    return f"{name}:{line.number}: {line.text.strip()}"


def _words(known: KnownError) -> dict[str, str]:
    return {
        "means": known.means,
        "first": known.first,
        "then": known.then,
        "versions": known.versions,
        "source": known.source,
    }


def _row(name: str, found: FoundError, facts: KnownFacts) -> dict[str, object]:
    told = found.known.told(facts) if found.known else None
    return {
        "file": name,
        "first_error": _line(found.error),
        "line": _line(found.line),
        "known": {"id": told.id, **_words(told)} if told else None,
    }


def _line(line: LogLine | None) -> dict[str, object] | None:
    return {"number": line.number, "text": line.text.strip()} if line else None
