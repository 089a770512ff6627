"""Text that others have written, such as logs and answers of nodes, made fit to be shown. Pure.

A terminal takes sequences of control characters for orders: to move the cursor, to hide what was
said before, on some even to type. What we show holds none but our own colours.
"""

import re
from collections.abc import Sequence

# Control sequences as ECMA-48 has them, and strings such as a window's title (OSC) with their end.
_SEQUENCE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_][^\x07\x1b\n]*(?:\x07|\x1b\\)?|[^\n])?")
# Controls but tab and newline, what turns the direction of reading, and what is no text at all.
_UNFIT = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


# Runs that no line of use has; both expressions take a time in proportion to the text.
_BLANKS = re.compile(r"[^\S\n]{256,}")
_EMPTY = re.compile(r"(?:[^\S\n]*\n){64,}")
LINE = 4096  # characters of a line that others wrote which are looked at


def tamed(text: str) -> str:
    """What a node said, so that no expression takes long over it.

    Of each line the first 4096 characters are left. A run of blanks is 256 long at most (no file's
    name is longer), one of empty lines 64.
    """
    text = _EMPTY.sub("\n" * 64, _BLANKS.sub(" " * 256, text))
    if len(text) <= LINE:
        return text
    return "\n".join(line[:LINE] for line in text.split("\n"))


def plain(text: str) -> str:
    """`text` without control sequences and controls; tabs and newlines stay."""
    return _UNFIT.sub("", _SEQUENCE.sub("", text))


def one_line(text: str) -> str:
    """The same on one line: nothing can pass for a line of its own."""
    return " ".join(line.strip() for line in plain(text).strip().splitlines())


def printable(text: str) -> str:
    """`text` with what no terminal can show (a character that is none yet) as Python writes it."""
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


def counted(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


def few(names: Sequence[str], most: int = 1) -> str:
    """The first of them, and how many more there are."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")


def either(words: Sequence[object]) -> str:
    """2, 4 or 8."""
    *first, last = map(str, words)
    return f"{', '.join(first)} or {last}" if first else last


def ago(seconds: float) -> str:
    """How long something was ago, as people say it: 40 s, 4 min, 3 h, 2 days."""
    for most, unit, name in ((120, 1, "s"), (7200, 60, "min"), (172800, 3600, "h")):
        if seconds < most:
            return f"{max(int(seconds), 0) // unit} {name}"
    return f"{int(seconds) // 86400} days"


def at_home(path: str, home: str) -> str:
    """A path below that home as ~/..., as it is on any machine; another as it stands."""
    home = f"{home.rstrip('/')}/"
    return f"~/{path.removeprefix(home)}" if len(home) > 1 and path.startswith(home) else path


def said(text: str) -> str:
    """What a command said first and, where it said more, last: empty for nothing.

    The first line tells what happened where none of ours ran (Xcode's stub for python3, a login
    shell that is no shell), the last one where a script of ours gave up.
    """
    text = text.strip()
    head, tail = text[:LINE].splitlines(), text[-LINE:].splitlines()
    is_one = len(head) == 1 == len(tail)
    lines = [one_line(line)[:240] for line in (head[:1] if is_one else [*head[:1], *tail[-1:]])]
    return " ... ".join(dict.fromkeys(lines))
