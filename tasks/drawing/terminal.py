"""The picture as lines for a terminal: boxes, a row of dashes per cable, and a row of words."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from . import STATES, Line, Picture, clean, columns, cut, gigabits, pad, short_names


class Segment(NamedTuple):
    """A part of a terminal's line to colour: `text` starts at character `column` of line `row`."""

    row: int
    column: int
    text: str
    state: str


# Lengths in SVG units. A letter's width is that of the monospaced fonts that systems have.


def terminal(picture: Picture, width: int = 80) -> tuple[list[str], list[Segment]]:
    """The picture as lines of at most `width` (40 or more) columns, and what to colour in them.

    Up to four hosts are drawn, if they fit: a box for each, and a line down from it to its cables.
    A row of words for each cable follows. Segments are in order and do not overlap.
    """
    drawn = len(picture.hosts) <= 4 and width >= 18 * len(picture.hosts)
    rows = [*(_sketch(picture, width) if drawn else []), *_rows(picture, width)]
    lines, segments = [], []
    for number, row in enumerate(rows):
        line = ""
        for text, state in row:
            segments += [Segment(number, len(line), text, state)] if state else []
            line += text
        lines.append(line.rstrip())
    return lines, segments


_Row = list[tuple[str, str]]  # texts, each with the state whose colour it has, or ""


def _sketch(picture: Picture, width: int) -> Iterator[_Row]:
    count = len(picture.hosts)
    names = short_names(picture.hosts, width // count - 10)
    box = max(map(columns, names)) + 4
    pitch = min((width - box) // max(count - 1, 1), box + 30)
    foot = "─" * ((box - 2) // 2) + ("┬" if picture.lines else "─")
    for left, texts, right in (
        ("┌", ["─" * (box - 2)] * count, "┐"),
        ("│", [pad(f" {name}", box - 2) for name in names], "│"),
        ("└", [foot.ljust(box - 2, "─")] * count, "┘"),
    ):
        yield [((" " * (pitch - box)).join(left + text + right for text in texts), "")]
    for line in picture.lines:
        yield [(" " * (box // 2), ""), *_wire(picture.hosts, line, pitch)]
    yield []


def _wire(hosts: Sequence[str], line: Line, pitch: int) -> _Row:
    """A cable as ├en5── 80 Gb/s ──en5┤: │ is a host that it does not reach, ┼ one it passes by."""
    a, b = sorted((line.a, line.b), key=lambda port: hosts.index(port.host))
    first, last = hosts.index(a.host), hosts.index(b.host)
    stroke = STATES[line.state].stroke
    near, far = cut(a.interface, 6), cut(b.interface, 6)
    free = pitch - 1 - columns(near) - (columns(far) if last - first == 1 else 0)
    label = (gigabits(line) if line.state == "good" else "") or line.state
    wire = near + f" {cut(label, free - 4)} ".center(free, stroke)
    if last - first > 1:
        passed = [wire, *[stroke * (pitch - 1)] * (last - first - 2)]
        wire = "┼".join([*passed, stroke * (pitch - 1 - columns(far))])
    gap = " " * (pitch - 1)
    before, after = ("│" + gap) * first + "├", "┤" + (gap + "│") * (len(hosts) - 1 - last)
    return [(before, ""), (wire + far, line.state), (after, "")]


def _rows(picture: Picture, width: int) -> Iterator[_Row]:
    """mac1 en5 10.254.0.5/30 ── 80 Gb/s ── en5 10.254.0.6/30 mac2  good: aligned, one a cable."""
    speeds = [f" {gigabits(line)} " if gigabits(line) else "" for line in picture.lines]
    wire = max(map(len, speeds), default=0) + 2
    state = max((len(line.state) for line in picture.lines), default=0)
    cells, left = _ends(picture, width - wire - state - 8)
    wire += 2 if left >= 2 else 0
    for line, speed, (a, b) in zip(picture.lines, speeds, cells, strict=True):
        drawn = speed.center(wire, STATES[line.state].stroke)
        yield [(f"{a} ", ""), (drawn, line.state), (f" {b}  ", ""), (line.state, line.state)]


def _ends(picture: Picture, room: int) -> tuple[list[tuple[str, str]], int]:
    """Both ends of cables as aligned words, and what they leave of `room`; names give way first."""
    texts = [(x.a.interface, x.a.address or "-", x.b.interface, x.b.address or "-")
             for x in picture.lines]  # fmt: skip
    longest = max(columns(clean(name)) for name in picture.hosts)
    widths = _fit(texts, room - 2 * min(longest, 7, room // 6))
    host = min(longest, (room - sum(widths)) // 2)
    names = dict(zip(picture.hosts, short_names(picture.hosts, host), strict=True))
    ends = []
    for line, row in zip(picture.lines, texts, strict=True):
        a, b, c, d = (pad(cut(text, n), n) for text, n in zip(row, widths, strict=True))
        one, two = pad(names[line.a.host], host), pad(names[line.b.host], host)
        ends.append((f"{one} {a} {b}", f"{c} {d} {two}"))
    return ends, room - sum(widths) - 2 * host


def _fit(rows: Sequence[Sequence[str]], room: int) -> list[int]:
    """The widths of the columns of `rows`; in less `room` than they want, the widest give way."""
    widths = [max(columns(clean(text)) for text in column) for column in zip(*rows, strict=True)]
    while sum(widths) > room:
        widths[widths.index(max(widths))] -= 1
    return widths
