"""The picture as an SVG document: hosts on a circle, labels along the cables, a legend."""

from __future__ import annotations

import cmath
import math
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import NamedTuple

from . import STATES, Line, Picture, clean, columns, cut, short_names, words

_FONT = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace"
_SIZE, _LETTER = 12, 7.3
_ALONG, _ACROSS = 16, 2  # the least room between two labels: so much of a cable stays visible
_BOW = 44  # between the middles of two cables of the same hosts
_INK, _PAPER = "#1f2328", "#ffffff"


class _Box(NamedTuple):
    """A text in its rectangle, read along the unit vector `along`; points are complex numbers."""

    text: str
    centre: complex
    along: complex = 1
    colour: str = _INK
    height: float = 18
    padding: float = 4

    @property
    def width(self) -> float:
        return columns(self.text) * _LETTER + 2 * self.padding

    @property
    def corners(self) -> list[complex]:
        w, h = self.width / 2, self.height / 2
        return [self.centre + self.along * complex(x, y) for x in (-w, w) for y in (-h, h)]

    def grown(self, more: float) -> _Box:
        return self._replace(height=self.height + 2 * more, padding=self.padding + more)

    def covers(self, point: complex) -> bool:
        turned = (point - self.centre) / self.along
        return abs(turned.real) < self.width / 2 and abs(turned.imag) < self.height / 2

    def hits(self, other: _Box) -> bool:
        reach = math.hypot(self.width, self.height) + math.hypot(other.width, other.height)
        near = abs(self.centre - other.centre) < reach / 2 + _ALONG
        return near and not (self._misses(other) or other._misses(self))

    def _misses(self, other: _Box) -> bool:
        """Whether `other` lies wholly beyond one side of this box and the room around it."""
        turned = [(corner - self.centre) / self.along for corner in other.corners]
        x, y = [p.real for p in turned], [p.imag for p in turned]
        w, h = self.width / 2 + _ALONG, self.height / 2 + _ACROSS
        return min(x) > w or max(x) < -w or min(y) > h or max(y) < -h


class _Curve(NamedTuple):
    """A cable: a cubic Bezier curve from host to host."""

    line: Line
    points: tuple[complex, complex, complex, complex]

    def at(self, t: float) -> complex:
        a, b, c, d = self.points
        return (1 - t) ** 3 * a + 3 * t * (1 - t) * ((1 - t) * b + t * c) + t**3 * d

    def labels(self, text: str, offsets: Iterable[int], colour: str = _INK) -> Iterator[_Box]:
        """`text` on the cable, `offsets` from its middle, in hundredths of its length."""
        for t in (0.5 + offset / 100 for offset in offsets):
            along = self.at(t + 0.01) - self.at(t - 0.01)
            along /= -abs(along) if along.real < 0 else abs(along)
            upright = abs(along.real) < 1e-6  # read from below, whichever way the cable goes
            yield _Box(text, self.at(t), -1j if upright else along, colour)


def svg(picture: Picture) -> str:
    """The picture as an SVG document; what a label cuts is whole in a <title>, shown on hover."""
    hosts, curves, labels = _layout(picture)
    root = ET.Element("svg", {"xmlns": "http://www.w3.org/2000/svg", "role": "img"})
    ET.SubElement(root, "title").text = "Cabling of " + ", ".join(map(clean, picture.hosts))
    ET.SubElement(root, "rect", {"fill": _PAPER})
    for curve in curves:
        _draw_curve(root, curve)
    for label in labels:
        _draw_box(root, label, {"fill": _PAPER}, "label")
    for name, host in zip(picture.hosts, hosts, strict=True):
        box = _draw_box(root, host, {"fill": "#eaeef2", "stroke": _INK, "rx": "8"}, "host")
        ET.SubElement(box, "title").text = clean(name)
    seen = [corner for box in (*hosts, *labels) for corner in box.corners]
    seen += [curve.at(t / 10) for curve in curves for t in range(11)]
    _frame(root, seen, {line.state for line in picture.lines})
    ET.indent(root)
    return ET.tostring(root, encoding="unicode") + "\n"


def _layout(picture: Picture) -> tuple[list[_Box], list[_Curve], list[_Box]]:
    """Hosts, cables and labels, on the smallest circle that has room for every label."""
    radius = 120.0
    while True:
        hosts = _hosts(picture, radius)
        curves = list(_curves(picture, hosts))
        labels = _labels(hosts, curves)
        if labels is not None:
            return hosts, curves, labels
        radius *= 1.08


def _hosts(picture: Picture, radius: float) -> list[_Box]:
    names = short_names(picture.hosts, 20)
    widest, step = max(map(columns, names)), 2 * math.pi / len(names)
    first = -math.pi / 2 - (step / 2 if len(names) % 2 == 0 else 0)  # a flat top, or a tip
    centres = [cmath.rect(radius, first + step * i) for i in range(len(names))]
    paddings = [14 + (widest - columns(name)) * _LETTER / 2 for name in names]
    return [
        _Box(name, centre, height=40, padding=padding)
        for name, centre, padding in zip(names, centres, paddings, strict=True)
    ]


def _curves(picture: Picture, hosts: Sequence[_Box]) -> Iterator[_Curve]:
    """Cables between the same two hosts bow apart."""
    pairs = [frozenset((line.a.host, line.b.host)) for line in picture.lines]
    for number, (line, pair) in enumerate(zip(picture.lines, pairs, strict=True)):
        one, two = picture.hosts.index(line.a.host), picture.hosts.index(line.b.host)
        a, b = hosts[one].centre, hosts[two].centre
        side = pairs[:number].count(pair) - (pairs.count(pair) - 1) / 2
        turn = (1j if one < two else -1j) * (b - a) / abs(b - a)
        bow = turn * side * _BOW * 4 / 3
        yield _Curve(line, (a, a + (b - a) / 4 + bow, b - (b - a) / 4 + bow, b))


def _labels(hosts: Sequence[_Box], curves: Sequence[_Curve]) -> list[_Box] | None:
    """A place for every label that hits no other; None if there is none.

    The label in a cable's middle hides no other cable, if there is such a place.
    """
    taken = [host.grown(10) for host in hosts]
    points = [(curve, curve.at(t / 60)) for curve in curves for t in range(61)]
    for curve, boxes, is_middle in _places(curves):
        free = (box for box in boxes if not any(map(box.hits, taken)))
        first = next(free, None)
        if first is None:
            return None
        others = [point for other, point in points if is_middle and other is not curve]
        clear = (box for box in chain([first], free) if not any(map(box.grown(5).covers, others)))
        taken.append(next(clear, first))
    return taken[len(hosts) :]


def _places(curves: Sequence[_Curve]) -> Iterator[tuple[_Curve, Iterator[_Box], bool]]:
    """Each label's places, the best first, and whether it is the one in the cable's middle."""
    for curve in curves:
        for port, side in (curve.line.a, -1), (curve.line.b, 1):
            text = f"{cut(port.interface, 12)} {cut(port.address or '', 20)}".strip()
            yield curve, curve.labels(text or "-", range(side * 48, side * 2, -side)), False
    for curve in curves:
        colour = STATES[curve.line.state].colour
        offsets = sorted(range(-25, 26), key=abs)
        yield curve, curve.labels(words(curve.line), offsets, colour), True


def _draw_curve(root: ET.Element, curve: _Curve) -> None:
    start, *rest = [f"{point.real:.1f} {point.imag:.1f}" for point in curve.points]
    path = _draw_path(root, f"M {start} C {', '.join(rest)}", curve.line.state)
    ends = [
        " ".join(map(clean, filter(None, (port.host, port.interface, port.address))))
        for port in (curve.line.a, curve.line.b)
    ]
    ET.SubElement(path, "title").text = " to ".join(ends) + f": {words(curve.line)}"


def _draw_path(root: ET.Element, way: str, state: str) -> ET.Element:
    look = {"stroke": STATES[state].colour, "stroke-dasharray": STATES[state].dash}
    return ET.SubElement(root, "path", {"d": way, "fill": "none", "stroke-width": "2.5", **look})


def _draw_box(root: ET.Element, box: _Box, look: dict[str, str], kind: str) -> ET.Element:
    turn = math.degrees(cmath.phase(box.along))
    place = f"translate({box.centre.real:.1f} {box.centre.imag:.1f}) rotate({turn:.2f})"
    group = ET.SubElement(root, "g", {"class": kind, "transform": place})
    half = complex(box.width, box.height) / 2
    ET.SubElement(group, "rect", {**_area(-half, half), **look})
    _draw_text(group, box.text, 0, 4, {"text-anchor": "middle", "fill": box.colour})
    return group


def _draw_text(parent: ET.Element, text: str, x: float, y: float, look: dict[str, str]) -> None:
    font = {"font-family": _FONT, "font-size": str(_SIZE)}
    ET.SubElement(parent, "text", {"x": f"{x:.1f}", "y": f"{y:.1f}", **font, **look}).text = text


def _area(corner: complex, opposite: complex) -> dict[str, str]:
    size = opposite - corner
    values = {"x": corner.real, "y": corner.imag, "width": size.real, "height": size.imag}
    return {name: f"{value:.1f}" for name, value in values.items()}


def _frame(root: ET.Element, seen: Sequence[complex], used: set[str]) -> None:
    """A legend below all points `seen`, three states in a row; paper and view box around it."""
    left, right = min(p.real for p in seen), max(p.real for p in seen)
    top, bottom = min(p.imag for p in seen), max(p.imag for p in seen)
    row = 160 * min(3, len(used))
    start = (left + right - row) / 2
    for number, state in enumerate(state for state in STATES if state in used):
        x, y = start + number % 3 * 160, bottom + 40 + number // 3 * 24
        _draw_path(root, f"M {x:.1f} {y:.1f} h 48", state)
        _draw_text(root, state, x + 56, y + 4, {"fill": _INK})
    left, right = min(left, start) - 24, max(right, start + row) + 24
    area = _area(complex(left, top - 24), complex(right, bottom + 28 + (len(used) + 2) // 3 * 24))
    root[1].attrib.update(area)
    root.attrib.update({"width": area["width"], "height": area["height"]})
    root.set("viewBox", " ".join(area.values()))
