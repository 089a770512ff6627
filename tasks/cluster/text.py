"""Text that others have written, such as logs and answers of nodes, made fit to be shown. Pure.

A terminal takes sequences of control characters for orders: to move the cursor, to hide what was
said before, on some even to type. What we show holds none but our own colours.
"""

from __future__ import annotations

import re

# Control sequences as ECMA-48 has them, and strings such as a window's title (OSC) with their end.
_SEQUENCE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_][^\x07\x1b\n]*(?:\x07|\x1b\\)?|[^\n])?")
# Controls but tab and newline, what turns the direction of reading, and what is no text at all.
_UNFIT = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


def plain(text: str) -> str:
    """`text` without control sequences and controls; tabs and newlines stay."""
    return _UNFIT.sub("", _SEQUENCE.sub("", text))


def one_line(text: str) -> str:
    """The same on one line: nothing can pass for a line of its own."""
    return re.sub(r"\s*\n\s*", " ", plain(text).strip())


def printable(text: str) -> str:
    """`text` with what no terminal can show (a character that is none yet) as Python writes it."""
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


def said(text: str) -> str:
    """What a command said first and, where it said more, last: empty for nothing.

    The first line tells what happened where none of ours ran (Xcode's stub for python3, a login
    shell that is no shell), the last one where a script of ours gave up.
    """
    lines = [one_line(line)[:240] for line in text.splitlines() if line.strip()]
    return " ... ".join(dict.fromkeys((lines[0], lines[-1]))) if lines else ""
