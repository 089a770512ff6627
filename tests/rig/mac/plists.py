"""plutil -lint, and reading a property list."""

from __future__ import annotations

import plistlib
import sys
from typing import Any
from xml.parsers.expat import ExpatError

from . import node


def plutil(words: list[str]) -> int:
    """Exit 1 if any of the files is no property list, and say why as plutil does."""
    files = [word for word in words if not word.startswith("-") or word == "-"]
    if "-lint" not in words and words[:1] not in ([], ["-s"]):
        node.say("plutil: a test host knows -lint only")
        return 1
    wrong = 0
    for name in files:
        why = error_of(name)
        wrong += why is not None
        if why is not None or "-s" not in words:
            print(f"{'<stdin>' if name == '-' else name}: {why or 'OK'}")
    return 1 if wrong else 0


def error_of(name: str) -> str | None:
    try:
        read(name)
    except FileNotFoundError:
        return "file does not exist or is not readable or is not a regular file"
    except (ValueError, ExpatError, OSError, plistlib.InvalidFileException) as error:
        return f"({error})"
    return None


def read(name: str) -> Any:
    if name == "-":
        return plistlib.loads(sys.stdin.buffer.read())
    with open(name, "rb") as file:
        return plistlib.load(file)
