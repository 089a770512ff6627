"""What runs on a node: a file of `tasks/remote/`, sent with its values before it.

A shell file names what it needs in lines like `: "${state_dir:?}"` (`${x?}` where it may be
empty), and takes other files in with `. ./prelude.sh`: so shellcheck reads it as it is. Values go
in front as quoted assignments, a list as the script's own words (`"$@"`); nothing is put into the
text, and no value is shell text. Pure.
"""

import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from .. import shell

FOLDER = Path(__file__).parents[2] / "remote"

_NEEDS = re.compile(r"\$\{(\w+):?\?\}")
_INCLUDE = re.compile(r"^ *\. \./(\S+)\n", re.MULTILINE)


def script(
    name: str, /, words: Iterable[str] | None = None, after: str = "", **values: str | float
) -> str:
    """The file `name` as text for `/bin/sh -s`: its values, its `words` (`"$@"`), and itself.

    What `after`, a file that is sent before it in the same text, has taken in is there already.
    Raise TypeError where `values` are not just what the file names.
    """
    if values.keys() != needs(name, after):
        raise TypeError(f"{name} needs {sorted(needs(name, after))}, not {sorted(values)}")
    lines = [f"{key}={shell.quote(str(value))}" for key, value in values.items()]
    lines += [] if words is None else [" ".join(["set --", *map(shell.quote, words)])]
    return "\n".join([*lines, _whole(name, after)])


def text(name: str) -> str:
    """A file as it is: a program for the node's python, which a script gets as a value."""
    return _read(name)


def needs(name: str, after: str = "") -> frozenset[str]:
    """The values that a shell file names, in itself or in what it takes in."""
    found = [line for line in _whole(name, after).splitlines() if line.startswith(": ")]
    return frozenset(_NEEDS.findall("\n".join(found)))


@cache
def _whole(name: str, after: str = "") -> str:
    taken: set[str] = set()
    if after:
        _take(after, taken)
    return _take(name, taken)


def _take(name: str, taken: set[str]) -> str:
    """A file with those that it takes in, each once."""
    if name in taken:
        return ""
    taken.add(name)
    return _INCLUDE.sub(lambda found: _take(found[1], taken), _read(name))


@cache
def _read(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")
