"""Runs of tp.bench side by side as an SVG document: a panel per figure, a bar per run and row."""

import math
import xml.etree.ElementTree as ET
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, TypedDict

from . import clean, cut

_FONT = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace"
_INK, _FAINT, _PAPER = "#1f2328", "#d1d9e0", "#ffffff"
_COLOURS = ("#0969da", "#bc4c00", "#1a7f37", "#8250df", "#bf3989", "#9a6700")
_BAR, _GAP, _HEIGHT = 22, 26, 150  # of a bar, between groups of bars, of a panel
_LEFT, _TOP, _BETWEEN = 70, 64, 74


class Spread(TypedDict):
    p50: float | None
    p95: float | None


class Row(TypedDict):
    """What is drawn of a row; it may hold more."""

    prompt_tokens_wanted: int
    concurrency: int
    first_token: Spread
    tokens_per_second: Spread
    tokens_per_second_total: float | None


class _Panel(NamedTuple):
    """A figure of a row: the bar's height, and how far its thin line goes (p95)."""

    title: str
    value: Callable[[Row], float | None]
    tail: Callable[[Row], float | None] = lambda row: None


_PANELS = (
    _Panel(
        "seconds to the first token: median, line to p95 (less is better)",
        lambda row: row["first_token"]["p50"],
        lambda row: row["first_token"]["p95"],
    ),
    _Panel(
        "tokens/s of each request: median, line to what 95 % reached",
        lambda row: row["tokens_per_second"]["p50"],
        lambda row: row["tokens_per_second"]["p95"],
    ),
    _Panel("tokens/s of all requests together", lambda row: row["tokens_per_second_total"]),
)


def svg(runs: Sequence[tuple[str, Sequence[Row]]]) -> str:
    """The plot of runs, each its label and rows; a row that a run lacks has no bar."""
    tables = [
        {(row["prompt_tokens_wanted"], row["concurrency"]): row for row in rows} for _, rows in runs
    ]
    keys = sorted({key for table in tables for key in table})
    group = _BAR * len(runs) + _GAP
    width = max(_LEFT + group * len(keys) + _GAP, 640)
    height = _TOP + len(_PANELS) * (_HEIGHT + _BETWEEN)
    size = {"width": f"{width}", "height": f"{height}", "viewBox": f"0 0 {width} {height}"}
    root = ET.Element("svg", {"xmlns": "http://www.w3.org/2000/svg", "role": "img", **size})
    labels = [clean(label) for label, _ in runs]
    ET.SubElement(root, "title").text = "tp.bench: " + ", ".join(labels)
    ET.SubElement(root, "rect", {"width": "100%", "height": "100%", "fill": _PAPER})
    for number, label in enumerate(labels):
        _legend(root, number, label, width / len(labels))
    for number, panel in enumerate(_PANELS):
        base = _TOP + number * (_HEIGHT + _BETWEEN) + _HEIGHT
        _panel(root, panel, tables, keys, base, width)
    ET.indent(root)
    return ET.tostring(root, encoding="unicode") + "\n"


def _legend(root: ET.Element, number: int, label: str, room: float) -> None:
    x = _GAP + number * (room - _GAP / 2)
    _bar(root, x, 12, 12, 12, number)
    text = _text(root, cut(label, max(4, int((room - 60) / 7.3))), x + 18, 22, "start")
    ET.SubElement(text, "title").text = label


def _panel(
    root: ET.Element,
    panel: _Panel,
    tables: Sequence[Mapping[tuple[int, int], Row]],
    keys: Sequence[tuple[int, int]],
    base: float,
    width: float,
) -> None:
    values = [f(row) or 0 for table in tables for row in table.values() for f in panel[1:]]
    marks = ticks(max(values, default=0) or 1)
    scale = _HEIGHT / marks[-1]
    _text(root, panel.title, _GAP, base - _HEIGHT - 12, "start")
    for mark in marks:
        y = base - mark * scale
        _line(root, _LEFT, y, width - _GAP, y, _FAINT)
        _text(root, f"{mark:g}", _LEFT - 6, y + 4, "end")
    for place, key in enumerate(keys):
        left = _LEFT + _GAP / 2 + place * (_BAR * len(tables) + _GAP)
        middle = left + _BAR * len(tables) / 2
        _text(root, f"{key[0]}", middle, base + 16, "middle")
        _text(root, f"x{key[1]}", middle, base + 30, "middle")
        rows = {number: table[key] for number, table in enumerate(tables) if key in table}
        for number, row in rows.items():
            if (value := panel.value(row)) is not None:
                _mark(root, left + number * _BAR, base, value, panel.tail(row), scale, number)
    _text(root, "prompt tokens x at once", width - _GAP, base + 46, "end")


def ticks(most: float) -> list[float]:
    """Round values from 0 to the first one that is no less than `most`: 4 to 6 of them, or 3."""
    power = 10.0 ** math.floor(math.log10(most))
    step = next(each * power for each in (0.2, 0.5, 1, 2) if each * power * 5 >= most)
    return [float(f"{number * step:.6g}") for number in range(math.ceil(most / step - 1e-9) + 1)]


def _mark(
    root: ET.Element,
    x: float,
    base: float,
    value: float,
    tail: float | None,
    scale: float,
    number: int,
) -> None:
    bar = _bar(root, x, base - value * scale, _BAR - 3, value * scale, number)
    more = "" if tail is None else f" (p95 {tail:.4g})"
    ET.SubElement(bar, "title").text = f"{value:.4g}{more}"
    if tail is not None:
        middle = x + (_BAR - 3) / 2
        _line(root, middle, base - value * scale, middle, base - tail * scale, _INK)


def _bar(
    root: ET.Element, x: float, y: float, width: float, height: float, number: int
) -> ET.Element:
    area = {"x": f"{x:.1f}", "y": f"{y:.1f}", "width": f"{width:.1f}", "height": f"{height:.1f}"}
    return ET.SubElement(root, "rect", {**area, "fill": _COLOURS[number % len(_COLOURS)]})


def _line(root: ET.Element, x1: float, y1: float, x2: float, y2: float, colour: str) -> None:
    ends = {"x1": f"{x1:.1f}", "y1": f"{y1:.1f}", "x2": f"{x2:.1f}", "y2": f"{y2:.1f}"}
    ET.SubElement(root, "line", {**ends, "stroke": colour})


def _text(root: ET.Element, text: str, x: float, y: float, anchor: str) -> ET.Element:
    place = {"x": f"{x:.1f}", "y": f"{y:.1f}", "text-anchor": anchor, "fill": _INK}
    element = ET.SubElement(root, "text", {**place, "font-family": _FONT, "font-size": "12"})
    element.text = text
    return element
