"""What Apple's own commands take, as Apple's sources say it, and what they say to another word.

The table is apple.json: a row per command, and for all in it the repository, tag, file and line
that it was read from; a manual page or a sample with its address stands where no source is
published. `check` is what stand-ins ask: the line that a Mac's command would print, or None.
Usage texts are not kept: they follow that line on stderr, and nothing reads them.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, NamedTuple

from . import getopts
from .getopts import HOLE, Parsed

FILE = os.path.join(os.path.dirname(__file__), "apple.json")


class Refusal(NamedTuple):
    """The first line on stderr, and the exit status: None where no published source tells it."""

    line: str
    status: int | None


@dataclass(frozen=True)
class Row:
    """A command, or with `shell` a builtin of sh; `words` are the known ones by what they are.

    `unbuilt` are letters that getopt takes and the command does not, `last` those after which it
    reads no more options, `old` an older form of its first word (of ps: the options in that).
    """

    command: str
    shell: bool
    parser: str
    options: str
    unbuilt: str
    last: str
    old: str
    long: Mapping[str, str]
    words: Mapping[str, Mapping[str, Any]]
    status: int | None


@dataclass
class Read:
    """A command's words as it reads them: what it refuses, and the commands that it will run."""

    operands: list[str] = field(default_factory=list)
    refusal: Refusal | None = None
    inner: list[list[str]] = field(default_factory=list)


@cache
def rows() -> Mapping[tuple[str, bool], Row]:
    """Give all rows by command and whether that is the shell's own."""
    with open(FILE, encoding="utf-8") as file:
        made = [_row(each) for each in json.load(file)]
    return {(row.command, row.shell): row for row in made}


def _row(data: Mapping[str, Any]) -> Row:
    words: dict[str, dict[str, Any]] = {}
    for group in data.get("words", []):
        known = words.setdefault(group["of"], {})
        known.update(dict.fromkeys(group["lines"], group.get("takes", 0)))
    return Row(
        command=data["command"],
        shell=data.get("shell", False),
        parser=data["parser"],
        options=data["options"] or "",
        unbuilt=data.get("unbuilt", ""),
        last=data.get("last", ""),
        old=data.get("old", {}).get("options") or data.get("old", {}).get("pattern", ""),
        long=dict(map(_long, data.get("long", {}).get("lines", ()))),
        words=words,
        status=data.get("status", {}).get("code"),
    )


def _long(text: str) -> tuple[str, str]:
    name = re.sub(r"=\??$", "", text)
    return name, text[len(name) :]


def find(command: str, shell: bool = False) -> Row | None:
    """Give a command's row; with `shell` that of the builtin, if sh has one of that name."""
    name = os.path.basename(command)
    own = rows().get(("test" if name == "[" else name, True)) if shell and name == command else None
    return own or rows().get((name, False))


def check(command: str, words: Sequence[str], shell: bool = False) -> Refusal | None:
    """What a Mac's `command` says of its first wrong word, or None; as it was called by its path.

    A word may have a HOLE, where a shell will put something.
    """
    row = find(command, shell)
    return read(row, command, words).refusal if row else None


def read(row: Row, command: str, words: Sequence[str]) -> Read:
    """Read `words` as the row's command does."""
    return _PARSERS[row.parser](row, command, list(words))


def _parsed(row: Row, command: str, words: list[str]) -> tuple[Parsed, Read]:
    """Options by getopt or getopt_long, and what of them was refused."""
    name = os.path.basename(command)
    if row.long:
        found = getopts.long(name, row.options, row.long, words)
    else:
        found = getopts.short(command, row.options, words, row.last)
    if any(letter in row.unbuilt for letter, _ in found.options):
        found.error = f"usage: {name}"
    return found, Read(found.operands, _refusal(row, found.error))


def _refusal(row: Row, error: str) -> Refusal | None:
    """What getopt said, in the shell's own words if it is the shell's (bashgetopt.c, common.c)."""
    if error and row.shell:
        what = "invalid option" if "illegal" in error else "option requires an argument"
        return Refusal(f"{row.command}: -{error[-1]}: {what}", 2)
    return Refusal(error, row.status) if error else None


def _plain(row: Row, command: str, words: list[str]) -> Read:
    if row.old and words and re.fullmatch(row.old, words[0]):
        words = words[1:]  # head -5
    found, read = _parsed(row, command, words)
    if row.command in RUNNERS and not {"v", "V"} & {letter for letter, _ in found.options}:
        rest = found.operands
        while row.command in ("env", "sudo") and rest and "=" in rest[0]:
            rest = rest[1:]
        read.inner = [rest] if rest else []
    return read


# Their operands are a command: what it is given is checked too.
RUNNERS = ("caffeinate", "command", "env", "exec", "nice", "nohup", "sudo", "xargs")


def _refuse(read: Read, line: str, status: int | None) -> Read:
    read.refusal = read.refusal or Refusal(line, status)
    return read


def _unknown(row: Row, kind: str, words: Iterator[str] | Sequence[str]) -> Iterator[str]:
    """The words that are none of this kind; what a shell puts in may be any."""
    known = row.words[kind]
    return (word for word in words if HOLE not in word and word not in known)


def _ps(row: Row, command: str, words: list[str]) -> Read:
    if words and words[0][:1] not in ("-", HOLE, ""):
        found = getopts.short(command, row.old, ["-" + words[0], *words[1:]])
    else:
        found = getopts.short(command, row.options, words)
    read = Read(found.operands)
    formats = [value or "" for letter, value in found.options if letter in "oO"]
    keywords = [each.partition("=")[0] for text in formats for each in re.split("[ \t,\n]", text)]
    for word in _unknown(row, "keyword", filter(None, keywords)):
        _refuse(read, f"ps: {word}: keyword not found", 1)
    read.refusal = read.refusal or _refusal(row, found.error)
    for word in found.operands:
        if not word[:1].isdigit() and HOLE not in word:
            _refuse(read, f"ps: illegal argument: {word}", row.status)
    return read


def _ifconfig(row: Row, command: str, words: list[str]) -> Read:
    _, read = _parsed(row, command, words)
    rest = read.operands[1:]
    if rest and rest[0] in row.words["family"]:
        rest = rest[1:]
    while rest:
        word, rest = rest[0], rest[1:]
        takes = row.words["parameter"].get(word)
        if takes is None and not _is_address(word):
            _refuse(read, f"ifconfig: {word}: bad value", 1)
        elif isinstance(takes, int) and takes > len(rest):
            args = "2 arguments" if takes == 2 else "argument"
            _refuse(read, f"ifconfig: '{word}' requires {args}", 1)
        # A parameter with as many words as it likes is not looked into.
        rest = [] if takes == "*" else rest[1 if takes == "?" else takes or 0 :]
    return read


def _is_address(word: str) -> bool:
    return HOLE in word or re.fullmatch(r"[\d.]+(/\d+)?|0x[\da-f]+|.*:.*", word) is not None


def _netstat(row: Row, command: str, words: list[str]) -> Read:
    """It hands its words to getopt from the first one on, which getopt takes for its name."""
    found, read = _parsed(row, words[0] if words else command, words)
    for letter, kind, what in (
        ("f", "family", "unknown address family"),
        ("p", "protocol", "unknown or uninstrumented protocol"),
    ):
        values = [value or "" for each, value in found.options if each == letter]
        for word in _unknown(row, kind, values):
            _refuse(read, f"netstat: {word}: {what}", 0)
    return read


def _route(row: Row, command: str, words: list[str]) -> Read:
    _, read = _parsed(row, command, words)
    if read.operands:
        for word in _unknown(row, "command", read.operands[:1]):
            _refuse(read, f"route: bad keyword: {word}", row.status)
    modifiers = [word[1:] for word in read.operands[1:] if word.startswith("-")]
    for word in _unknown(row, "modifier", modifiers):
        _refuse(read, f"route: bad keyword: {word}", row.status)
    return read


def _lsof(row: Row, command: str, words: list[str]) -> Read:
    """lsof's own GetOpt: an argument may be missing, and a plus begins options too."""
    name, read, rest = os.path.basename(command), Read(), list(words)
    while rest and rest[0][:1] in ("-", "+") and rest[0] not in ("-", "+", "--", "++"):
        letters = rest.pop(0)[1:]
        while letters and letters[0] != HOLE:
            letter, letters = letters[0], letters[1:]
            if letter not in row.options:
                _refuse(read, f"{name}: illegal option character: {letter}", 1)
            if not row.options.partition(letter)[2].startswith(":"):
                continue
            value = letters or (rest.pop(0) if rest and rest[0][:1] not in ("-", "+") else "")
            for field_ in _unknown(row, "field", value if letter == "F" else ""):
                _refuse(read, f"{name}: unknown field: {field_}", 1)
            break
    read.operands = rest
    return read


def _find(row: Row, command: str, words: list[str]) -> Read:
    _, read = _parsed(row, command, words)
    rest = list(read.operands)
    while rest and not (rest[0].startswith("-") or rest[0] in ("!", "(")):
        rest.pop(0)
    if len(rest) == len(read.operands):
        _refuse(read, "usage: find", row.status)  # GNU's would take the folder it is in
    while rest:
        word = rest.pop(0)
        takes = row.words["primary"].get(word, 0)
        if word not in row.words["primary"] and word != "!" and HOLE not in word:
            _refuse(read, f"find: {word}: unknown primary or operator", 1)
        if takes == ";":
            end = next((n for n, each in enumerate(rest) if each in (";", "+")), len(rest))
            read.inner.append(rest[:end])
            rest = rest[end + 1 :]
        elif takes:
            rest = rest[1:]
    return read


def _sysctl(row: Row, command: str, words: list[str]) -> Read:
    _, read = _parsed(row, command, words)
    names = [word.partition("=")[0] for word in read.operands]
    for name in _unknown(row, "name", names):
        _refuse(read, f"sysctl: unknown oid '{name}'", 1)
    return read


def _getconf(row: Row, command: str, words: list[str]) -> Read:
    _, read = _parsed(row, command, words)
    for name in _unknown(row, "name", read.operands[:1]):
        _refuse(read, f"getconf: no such configuration parameter `{name}'", 64)
    return read


def _kill(row: Row, command: str, words: list[str]) -> Read:
    signals = rows()["kill", True].words["signal"]
    named = [words[1]] if words[:1] == ["-s"] and words[1:] else []
    named = named or [word[1:] for word in words[:1] if re.match("-[A-Z]", word)]
    # The program knows the names with SIG too, the shell named sh does not.
    bare = named if row.shell else [each.removeprefix("SIG") for each in named]
    if all(each in (*signals, "0") or HOLE in each for each in bare):
        return Read(words[2 if words[:1] == ["-s"] else 1 :])
    if row.shell:
        return Read(refusal=Refusal(f"kill: {named[0]}: invalid signal specification", row.status))
    return Read(refusal=Refusal(f"kill: unknown signal {named[0]}; valid signals:", row.status))


def _pmset(row: Row, command: str, words: list[str]) -> Read:
    read = Read()
    rest = [word.lower() for word in words]
    while rest:
        word = rest.pop(0)
        if word.startswith("-g"):
            getters = rest[:1]
            for each in _unknown(row, "getter", getters):
                _refuse(read, f"Error: unhandled argument {each}", row.status)
            break
        if word.startswith("-") and not word.startswith("-1"):
            if word[1:2] not in row.options:
                _refuse(read, "Usage: pmset <options>", row.status)
            continue
        for _ in _unknown(row, "setting", [word]):
            _refuse(read, "Usage: pmset <options>", row.status)
        rest = rest[1:]
    return read


def _top(row: Row, command: str, words: list[str]) -> Read:
    read, rest = Read(), list(words)
    while rest:
        word = rest.pop(0)
        name = word[1:] if word[1:] in row.long else word[1:2]
        if HOLE in word:
            continue
        if (
            not word.startswith("-")
            or name not in row.long
            or (not row.long[name] and name != word[1:])
        ):
            _refuse(read, f"invalid option or syntax: {word}", row.status)
        elif row.long[name] and name == word[1:]:
            rest = rest[1:]
    return read


def _flags(row: Row, command: str, words: list[str]) -> Read:
    """Whole words that begin with a dash, of a command whose source is not published."""
    flags = [word for word in words if word.startswith("-") and word != "-"]
    read = Read([word for word in words if word not in flags])
    for word in _unknown(row, "flag", flags):
        _refuse(read, f"{row.command}: {word}: not in what is published of it", None)
    return read


def _subcommand(row: Row, command: str, words: list[str]) -> Read:
    read = Read(list(words[1:]))
    for word in _unknown(row, "subcommand", words[:1]):
        _refuse(read, f"{row.command}: {word}: not in what is published of it", None)
    return read


def _perl(row: Row, command: str, words: list[str]) -> Read:
    read = _flags(row, command, words[:1])
    if words[:1] == ["-e"] and "exec @ARGV" in "".join(words[1:2]):
        read.inner = [words[3:]]
    return read


def _test(row: Row, command: str, words: list[str]) -> Read:
    read = Read()
    known = {**row.words["unary"], **row.words["binary"]}
    for word in words:
        if re.fullmatch("-[a-zA-Z]{1,2}", word) and word not in known:
            _refuse(read, f"{command}: {word}: unary operator expected", 2)
    return read


def _echo(row: Row, command: str, words: list[str]) -> Read:
    """No error: it prints them. So what a Mac's sh would say is nothing, with status 0."""
    read = Read(words)
    if words and re.fullmatch("-[neE]+", words[0]):
        _refuse(read, f"echo: {words[0]} is printed: the shell named sh takes no option", 0)
    return read


_PARSERS: dict[str, Callable[[Row, str, list[str]], Read]] = {
    "getopt": _plain,
    "getopt_long": _plain,
    "none": lambda row, command, words: Read(words),
    "ps": _ps,
    "ifconfig": _ifconfig,
    "netstat": _netstat,
    "route": _route,
    "lsof": _lsof,
    "find": _find,
    "sysctl": _sysctl,
    "getconf": _getconf,
    "kill": _kill,
    "pmset": _pmset,
    "top": _top,
    "flags": _flags,
    "subcommand": _subcommand,
    "perl": _perl,
    "test": _test,
    "echo": _echo,
}
