"""Reading a node: (command, pure parser) pairs, all of a node's in one round trip.

Commands run in `/bin/sh` in turn, each with its exit status; parsers are pure and raise
`ValueError` on what they can't read. What can't be read is `Unknown`, and unknown is never ok.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Unknown:
    """A fact that could not be read, and why."""

    why: str


@dataclass(frozen=True)
class Fact:
    """`command` is /bin/sh text; `parse(output, exit_status)` gives the value."""

    name: str
    command: str
    parse: Callable[[str, int], Any]


_ALARM = 128 + 14  # the exit status of what `limited` has ended


def limited(seconds: int, command: str) -> str:
    """`command` (a program and its words) with a time limit: macOS has no `timeout`."""
    return f"perl -e 'alarm shift; exec @ARGV or exit 127' {seconds} {command}"


def script(facts: Iterable[Fact], nonce: str) -> str:
    """One script that runs each fact's command between marks that no output can forge."""
    parts = ["LC_ALL=C; export LC_ALL"]
    for fact in facts:
        parts.append(f"printf '\\n%s begin %s\\n' {nonce} {fact.name}")
        parts.append(f"(\n{fact.command}\n) 2>&1 </dev/null")
        parts.append(f"printf '\\n%s end %s %s\\n' {nonce} {fact.name} $?")
    return "\n".join(parts) + "\n"


def read(facts: Iterable[Fact], output: str, nonce: str) -> dict[str, Any]:
    """Each fact's value, or `Unknown`, from the output of `script`."""
    return {fact.name: _read(fact, output, nonce) for fact in facts}


def _read(fact: Fact, output: str, nonce: str) -> Any:
    _, _, rest = output.partition(f"{nonce} begin {fact.name}\n")
    text, _, rest = rest.partition(f"\n{nonce} end {fact.name} ")
    ended = re.match(r"(\d+)\n", rest)
    if not ended:
        return Unknown("the node did not answer in time")
    status = int(ended.group(1))
    if status == _ALARM:
        return Unknown("it gave no answer in time")
    try:
        return fact.parse(text, status)
    except ValueError as error:
        said = text.strip().splitlines()
        return Unknown(f"{error}: {said[-1][:240]}" if said else str(error))


def known(values: Mapping[str, Any], name: str) -> Any:
    """The value of a fact, or None where it is unknown or was not asked for."""
    value = values.get(name)
    return None if isinstance(value, Unknown) else value
