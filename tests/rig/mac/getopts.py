"""Libc's getopt and getopt_long: how a command of Apple's takes its words apart, and what it says.

Read from apple-oss-distributions/Libc, Libc-1725.0.11, stdlib/FreeBSD/getopt.c (70 to 152) and
getopt_long.c (191 to 614). Two things that GNU's do otherwise: getopt ends at the first operand,
and getopt_long says "invalid option" where getopt says "illegal option".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

# What a shell puts in (`$x`, `$(...)`): a word of which only the rest is known.
HOLE = "\ufffc"


@dataclass
class Parsed:
    """What the words of a command are; `error` is what getopt says of the first wrong one."""

    options: list[tuple[str, str | None]] = field(default_factory=list)
    operands: list[str] = field(default_factory=list)
    error: str = ""


def short(name: str, options: str, words: Sequence[str], last: str = "") -> Parsed:
    """Take `words` apart as getopt does; after a letter of `last` the command ends it itself."""
    found, rest = Parsed(), list(words)
    while rest and rest[0].startswith("-") and not found.error:
        word = rest.pop(0)
        if word == "--":
            break
        if word == "-":
            if "-" not in options:
                rest.insert(0, word)
                break
            found.options.append(("-", None))
        elif _letters(found, f"{name}: illegal option -- ", name, options, word[1:], rest, last):
            break
    found.operands = rest
    return found


def long(name: str, options: str, longs: Mapping[str, str], words: Sequence[str]) -> Parsed:
    """Take `words` apart as getopt_long does; `longs` has "", "=" or "=?" for each option."""
    found, rest = Parsed(), list(words)
    stays, options = options.startswith("+"), options.lstrip("+")
    while rest and not found.error:
        word = rest.pop(0)
        if word == "--":
            break
        if word.startswith("--"):
            _long(found, name, longs, word[2:], rest)
        elif word.startswith("-") and word != "-":
            _letters(found, f"{name}: invalid option -- ", name, options, word[1:], rest, "")
        else:
            found.operands.append(word)
            if stays:
                break
    found.operands += rest
    return found


def _letters(
    found: Parsed, wrong: str, name: str, options: str, letters: str, rest: list[str], last: str
) -> bool:
    """Take one word's letters, and its value from `rest`; whether a letter of `last` was there."""
    for at, letter in enumerate(letters):
        if letter == HOLE:
            break
        if letter == ":" or letter not in options:
            found.error = wrong + letter
            break
        takes = options.partition(letter)[2]
        if not takes.startswith(":"):
            found.options.append((letter, None))
            if letter in last:
                return True
            continue
        value: str | None = letters[at + 1 :] or None
        if value is None and not takes.startswith("::"):
            if not rest:
                found.error = f"{name}: option requires an argument -- {letter}"
                break
            value = rest.pop(0)
        found.options.append((letter, value))
        break
    return False


def _long(found: Parsed, name: str, longs: Mapping[str, str], text: str, rest: list[str]) -> None:
    given, equals, tail = text.partition("=")
    names = [given] if given in longs else [each for each in longs if each.startswith(given)]
    takes = longs[names[0]] if names else ""
    value: str | None = tail if equals else None
    if not names:
        found.error = f"{name}: unrecognized option `--{text}'"
    elif len(names) > 1:
        found.error = f"{name}: option `--{given}' is ambiguous"
    elif equals and not takes:
        found.error = f"{name}: option `--{given}' doesn't allow an argument"
    elif takes == "=" and not equals:
        if rest:
            value = rest.pop(0)
        else:
            found.error = f"{name}: option `--{text}' requires an argument"
    if not found.error:
        found.options.append((names[0], value))
