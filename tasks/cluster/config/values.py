"""Kinds of values, of settings as of options: what each takes, and how it is read. Pure.

A kind stands in an annotation, `Annotated[float, Number("SECONDS")]`. `read` raises ValueError with
a line that begins with `where`, the place that the value stands in: `--timeout`, `tp.timeout`. A
value that may be a secret is not in it.
"""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, get_args, get_origin

NAME = "[A-Za-z_][A-Za-z0-9_]*"  # of an environment variable
MOST = 1e9
SEE = "see docs/configuration.md"


class Kind:
    """What a value may be; `metavar` is its word in help, else the option's own name."""

    metavar = ""
    verb, takes = "give", "text on one line"
    is_list = False  # given repeatedly, and to be written as a list in a file
    unset: tuple[object, ...] = (None,)  # what leaves the setting at its default

    def read(self, value: object, where: str) -> object:
        """Give what `value`, text of a command line or a value of YAML, stands for."""
        raise NotImplementedError

    def more(self) -> str:
        """Give what only help has to say, and may take long to find out."""
        return ""

    def refuse(self, value: object, where: str) -> ValueError:
        """Give the error for a value; what is no single value is not shown."""
        if isinstance(value, Mapping):
            return ValueError(f"{where} is wrong: it has no keys of its own: {SEE}")
        shown = f" {value!r}" if _is_odd(value) else f" {value}".rstrip() or " is empty"
        return ValueError(f"{where}{'' if _is_list(value) else shown}: {self.verb} {self.takes}")


class Number(Kind):
    """A number within bounds."""

    unset: tuple[object, ...] = ()

    def __init__(self, metavar: str, least: float = 0, most: float = MOST) -> None:
        self.metavar, self.least, self.most = metavar, least, most
        self.takes = f"a number{_bounds(metavar, least, most)}"

    def read(self, value: object, where: str) -> float:
        found = _number(value)
        if found is None or not self.least <= found <= self.most:
            raise self.refuse(value, where)
        return found


class Whole(Kind):
    """A whole number within bounds."""

    unset: tuple[object, ...] = ()

    def __init__(self, metavar: str, least: int = 0, most: float = MOST) -> None:
        self.metavar = metavar
        self.takes = f"a whole number{_bounds(metavar, least, most)}"
        self._number = Number(metavar, least, most)

    def read(self, value: object, where: str) -> int:
        found = self._number.read(value, where)
        if found != int(found):
            raise self.refuse(value, where)
        return int(found)


class Wholes(Kind):
    """Whole numbers with commas between, none of them twice."""

    def __init__(self, metavar: str, least: int, most: float) -> None:
        self.metavar = metavar
        self._each = Whole(metavar, least, most)

    def read(self, value: object, where: str) -> tuple[int, ...]:
        words = value if isinstance(value, (list, tuple)) else str(value).split(",")
        if not all(str(word).strip() for word in words):
            raise ValueError(f"{where} {value}: a number is missing")
        found = tuple(self._each.read(word, where) for word in words)
        if len(set(found)) != len(found):
            raise ValueError(f"{where} {shown(found)}: a number is there twice")
        return found


class Flag(Kind):
    """Yes or no."""

    verb, takes = "choose", "true or false"

    def read(self, value: object, where: str) -> bool:
        found = {"true": True, "1": True, "false": False, "0": False, "": False}
        if str(value).lower() not in found:
            raise self.refuse(value, where)
        return found[str(value).lower()]


class Text(Kind):
    """Text on one line that any shell and terminal takes as it is."""

    unset: tuple[object, ...] = (None, "")

    def __init__(self, metavar: str = "", takes: str = Kind.takes) -> None:
        self.metavar, self.takes = metavar, takes

    def read(self, value: object, where: str) -> str:
        if not isinstance(value, str) or _is_odd(value) or value.isspace():
            raise self.refuse(value, where)
        return value


class Free(Kind):
    """Text of any kind: a prompt, a pattern; what it is used for says what is wrong with it."""

    def __init__(self, metavar: str = "") -> None:
        self.metavar = metavar

    def read(self, value: object, where: str) -> str:
        return str(value)


class Choice(Kind):
    """One of some words."""

    verb = "choose"
    unset: tuple[object, ...] = (None, "")

    def __init__(self, *words: str) -> None:
        self.words = words
        self.metavar = found if len(found := "|".join(words)) < 20 else ""
        self.takes = f"one of {', '.join(words)}" if len(words) > 2 else " or ".join(words)

    def read(self, value: object, where: str) -> str:
        if value not in self.words:
            raise self.refuse(value, where)
        return str(value)


class Words(Kind):
    """A list of words: an option that is repeated or, if it is `split`, has commas in it."""

    takes = "a list of strings"
    is_list = True

    def __init__(self, metavar: str, split: bool = False, unset: tuple[object, ...] = ()) -> None:
        self.metavar, self.split, self.unset = metavar, split, unset

    def read(self, value: object, where: str) -> tuple[str, ...]:
        words = (value,) if isinstance(value, str) else value
        if not isinstance(words, Sequence) or not all(map(_is_word, words)):
            # They may be secrets.
            raise ValueError(f"{where} is wrong: give {self.takes}")
        found = tuple(map(str, words))
        if not self.split:
            return found
        parts = tuple(part for each in found for word in each.split(",") if (part := word.strip()))
        if found and not parts:
            raise ValueError(f"{where} {shown(found)}: a name is missing")
        return parts


class Variables(Words):
    """A list of NAME=value."""

    takes = "a list of NAME=value"

    def read(self, value: object, where: str) -> tuple[str, ...]:
        pairs = super().read(value, where)
        for pair in pairs:
            if wrong := env_error(pair):
                raise ValueError(f"{where}: {wrong}: give it as NAME=value")
        return pairs


def kind(hint: object) -> Kind | None:
    """Give the kind in an annotation, as it is evaluated; None where there is none of ours."""
    if isinstance(hint, Kind):
        return hint
    if get_origin(hint) is Literal:
        return Choice(*get_args(hint))
    parts = (*getattr(hint, "__metadata__", ()), *get_args(hint))
    return next(filter(None, map(kind, parts)), None)


def shown(default: object) -> str:
    """Give a default as one would write it; "" where there is none."""
    if isinstance(default, (list, tuple)):
        return ",".join(map(shown, default))
    return "" if default is None else f"{default:g}" if isinstance(default, float) else str(default)


def env_error(pair: str) -> str | None:
    """What is wrong with `NAME=value`, or None."""
    name, equals, value = pair.partition("=")
    if not equals or not re.fullmatch(NAME, name):
        # No more of it than a name: what was meant for a value is not to be shown.
        start = re.match(r"\W?\w*", name)
        return f"{start.group() if start else ''!r} is no NAME=value"
    if re.search("[\ud800-\udfff]", value):
        return f"the value of {name} is no UTF-8"
    return f"the value of {name} can't hold a NUL" if "\0" in value else None


def _number(value: object) -> float | None:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        # No float is as big as an int may be; none is a number that we take.
        return float(value) if abs(value) < 1e15 else math.inf
    text = value.strip() if isinstance(value, str) else ""
    return float(text) if re.fullmatch(r"[0-9]{1,12}(\.[0-9]{1,6})?", text) else None


def _bounds(metavar: str, least: float, most: float) -> str:
    unit = ", in seconds" if metavar == "SECONDS" else ""
    if most < MOST:
        return f" from {least:g} to {most:.9g}{unit}"
    return (" above 0" if 0 < least <= 0.001 else f" of {least:g} or more") + unit


def _is_list(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _is_word(value: object) -> bool:
    return isinstance(value, (str, int, float))


def _is_odd(value: object) -> bool:
    return isinstance(value, str) and re.search("[\x00-\x1f\x7f\ud800-\udfff]", value) is not None


Seconds = Annotated[float, Number("SECONDS", 0.001)]
Pause = Annotated[float, Number("SECONDS")]  # may be 0
Count = Annotated[int, Whole("COUNT", 1)]
Name = Annotated[str, Text("NAME")]
Path = Annotated[str, Text("PATH", "a path on one line")]
File = Annotated[str, Free("FILE")]
Files = Annotated[tuple[str, ...], Words("FILES", split=True)]
Patterns = Annotated[tuple[str, ...], Words("PATTERN")]
Tokens = Annotated[int, Whole("TOKENS", 1)]
