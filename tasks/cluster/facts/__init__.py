"""Reading a node: (command, pure parser) pairs, all of a node's in one round trip.

Commands run in `/bin/sh` in turn, each with its exit status; parsers are pure and raise
`ValueError` on what they can't read. What can't be read is `Unknown`, and unknown is never ok.
"""

import functools
import re
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar, cast

from ..text import said, tamed

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


LIMIT = 256 * 1024  # bytes of one fact
FOLDER = 16 * LIMIT  # of one that lists all files of a folder


@dataclass(frozen=True)
class Unknown:
    """A fact that could not be read, and why."""

    why: str


class ToldError(ValueError):
    """What a parser says of an answer where the answer's own words add nothing."""


@dataclass(frozen=True)
class Key(Generic[T_co]):
    """What a fact is asked for by, and of what type: `Key[int]("days_up")`; many may share it."""

    name: str


@dataclass(frozen=True)
class Fact(Generic[T_co]):
    """`command` is /bin/sh text; `parse(output, exit_status)` gives the value.

    What says more than `limit` bytes is unknown: a part of an answer may be a wrong one. `is_raw`
    takes it as it is, with lines of any length.
    """

    key: Key[T_co]
    command: str
    parse: Callable[[str, int], T_co]
    limit: int = LIMIT
    is_raw: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "key", as_key(self.key, depth=5))

    @property
    def name(self) -> str:
        return self.key.name


class UnknownFactError(Exception):
    """A value was needed that is not known; `why` is the node's word."""

    def __init__(self, node: str, name: str, why: str) -> None:
        super().__init__(f"{node}: {name}: {why}")
        self.node, self.name, self.why = node, name, why


@dataclass(frozen=True)
class NodeFacts:
    """What one node has told, by key."""

    node: str
    values: Mapping[Key[object], object]

    def get(self, key: Key[T]) -> T | Unknown | None:
        """The value, `Unknown` where it could not be read, None where it was not asked for."""
        return cast("T | Unknown | None", self.values.get(as_key(key)))

    def __getitem__(self, key: Key[T]) -> T:
        """The value; raise UnknownFactError where there is none."""
        if isinstance(key, str):
            return cast("T", self.values[as_key(key)])
        if error := self.lacks(key):
            raise error
        return cast("T", self.values[key])

    def lacks(self, *keys: Key[object]) -> UnknownFactError | None:
        """Why the first of these that is not known is not, or None where all are."""
        for key in keys:
            value = self.values.get(key, Unknown("it was not asked"))
            if isinstance(value, Unknown):
                return UnknownFactError(self.node, key.name, value.why)
        return None

    @property
    def unknown(self) -> dict[str, Unknown]:
        """What could not be read, by name."""
        return {k.name: value for k, value in self.values.items() if isinstance(value, Unknown)}

    def __contains__(self, key: Key[object]) -> bool:
        """Whether it was asked for."""
        return as_key(key) in self.values


def known(facts: NodeFacts, key: Key[T]) -> T | None:
    """The value of a fact, or None where it is unknown or was not asked for."""
    value = facts.get(key)
    return None if isinstance(value, Unknown) else value


def as_key(key: Key[T], depth: int = 4) -> Key[T]:
    """`key`; a name that a user's file of version 0.1 has in its place is taken once more."""
    if isinstance(key, str):
        old("a name for a fact", f'tasks.cluster.facts.Key("{key}")', depth)
        return Key(key)
    return key


def old(what: str, instead: str, depth: int = 3) -> None:
    """Warn of a form that the next version takes no more, so many calls above."""
    warnings.warn(f"{what}: use {instead}", DeprecationWarning, stacklevel=depth)


_ALARM = 128 + 14  # the exit status of what `limited` has ended


def limited(seconds: int, command: str) -> str:
    """`command` (a program and its words) with a time limit: macOS has no `timeout`."""
    return f"perl -e 'alarm shift; exec @ARGV or exit 127' {seconds} {command}"


NO_MAC = "no macOS"
# Before a command that only macOS has: what else there is says so, and that is all.
ON_MAC = f"command -v sw_vers >/dev/null || {{ echo '{NO_MAC}'; exit 0; }}\n"


def of_macs(parse: Callable[[str, int], T]) -> Callable[[str, int], T | None]:
    """A parser that gives None where the node has said that it is no Mac."""

    @functools.wraps(parse)
    def parsed(text: str, status: int) -> T | None:
        return None if status == 0 and text.strip() == NO_MAC else parse(text, status)

    return parsed


def script(facts: Iterable[Fact[object]], nonce: str) -> str:
    """One script that runs each fact's command between marks that no output can forge."""
    parts = ["LC_ALL=C; export LC_ALL; exec 3>&1"]
    for fact in facts:
        parts.append(f"printf '\\n%s begin %s\\n' {nonce} {fact.name}")
        # Its output goes by 3 and is cut there, its status by 4.
        parts += ["s=$({ { (", fact.command]
        cut = f"head -c {fact.limit + 1} >&3"
        parts.append(f") 2>&1 </dev/null 3>&- 4>&-; echo $? >&4; }} | {cut}; }} 4>&1)")
        parts.append(f"printf '\\n%s end %s %s\\n' {nonce} {fact.name} \"$s\"")
    return "\n".join(parts) + "\n"


def read(facts: Iterable[Fact[object]], output: str, nonce: str, node: str = "") -> NodeFacts:
    """Each fact's value, or `Unknown`, from the output of `script`."""
    return NodeFacts(node, {fact.key: _read(fact, output, nonce) for fact in facts})


def _read(fact: Fact[T], output: str, nonce: str) -> T | Unknown:
    _, _, rest = output.partition(f"{nonce} begin {fact.name}\n")
    text, _, rest = rest.partition(f"\n{nonce} end {fact.name} ")
    if not (ended := re.match(r"(\d+)\n", rest)):
        return Unknown("the node did not answer in time")
    status = int(ended.group(1))
    if status == _ALARM:
        return Unknown("it gave no answer in time")
    if len(text.encode("utf-8", "surrogateescape")) > fact.limit:
        return Unknown(f"it said more than {fact.limit // 1024} KiB")
    try:
        return fact.parse(text if fact.is_raw else tamed(text), status)
    except ToldError as error:
        return Unknown(str(error))
    except ValueError as error:
        how = f" (exit status {status})" if status else ""
        return Unknown(": ".join(filter(None, (f"{error}{how}", said(text)))))
