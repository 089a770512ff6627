"""The cabling as a picture: what to draw, and its words. Pure; colour is never the only sign."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple


class Style(NamedTuple):
    """How a state looks: SVG colour and dash array, a terminal's stroke and SGR code."""

    colour: str
    dash: str
    stroke: str
    code: int


STATES = {
    "good": Style("#1a7f37", "none", "─", 32),
    "port down": Style("#cf222e", "12 5", "╌", 31),
    "no address": Style("#8a5a00", "2 4", "┄", 33),
    "in a bridge": Style("#0b7285", "12 4 2 4", "═", 36),
    "must be moved": Style("#0550ae", "2 3 9 3", "╍", 34),
    "missing": Style("#a3217f", "5 11", "┈", 35),
    "unknown": Style("#57606a", "5 4", "~", 2),
}


@dataclass(frozen=True)
class DrawnPort:
    """One end of a cable; `address` as "10.254.0.5/30", None where it has none."""

    host: str
    interface: str
    address: str | None


@dataclass(frozen=True)
class Line:
    """A cable: `speed` in Gb/s or None; ValueError for a wrong `state`, or two ends on a host."""

    a: DrawnPort
    b: DrawnPort
    speed: float | None
    state: str

    def __post_init__(self) -> None:
        if self.state not in STATES:
            raise ValueError(f"{self.state!r} is no state of a link")
        if self.a.host == self.b.host:
            raise ValueError(f"both ends of a cable are on {self.a.host}")


@dataclass(frozen=True)
class Picture:
    """What to draw: one or more hosts, in this order, and cables between them."""

    hosts: tuple[str, ...]
    lines: tuple[Line, ...]


def words(line: Line) -> str:
    """A cable's speed, its state where that is not good, or both."""
    state = line.state if line.state != "good" else ""
    return ", ".join(filter(None, (gigabits(line), state))) or line.state


def gigabits(line: Line) -> str:
    return "" if line.speed is None else f"{round(line.speed, 1):g} Gb/s"


def short_names(hosts: Sequence[str], width: int) -> list[str]:
    """Names of at most `width` columns; numbered from 0, as ranks are, if else two look alike."""
    names = [cut(host, width) for host in hosts]
    if len(set(names)) == len(names):
        return names
    return [cut(f"{number} {host}", width) for number, host in enumerate(hosts)]


@cache
def columns(text: str) -> int:
    """Columns that a text takes in a terminal: two for each wide character."""
    from rich.cells import cell_len

    return cell_len(text)


def pad(text: str, width: int) -> str:
    return text + " " * (width - columns(text))


def clean(text: str) -> str:
    """`text` without what could break a line, a terminal or XML, such as control characters."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def cut(text: str, width: int) -> str:
    """A clean `text` of at most `width` columns; its ends stay, since names differ there."""
    text = clean(text)
    if columns(text) <= width:
        return text
    if width < 1:
        return ""
    left, right = text[:width], text[-width:]
    while (left or right) and columns(f"{left}…{right}") > width:
        left, right = (left[:-1], right) if len(left) > len(right) else (left, right[1:])
    return f"{left}…{right}"
