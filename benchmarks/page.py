"""benchmarks/results.json -> docs/performance.md and its plots. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any
from xml.etree import ElementTree

JsonRow = Mapping[str, Any]


def table(rows: Sequence[JsonRow]) -> str:
    """A Markdown table: medians, their ratio, the goal, and whether it holds."""
    head = "| what | ours | against | theirs | | goal | holds |\n|---|---|---|---|---|---|---|"
    return "\n".join([head, *map(_row, rows)]) + "\n"


def figure(row: JsonRow) -> float:
    """What is compared with the goal."""
    ours = median(row["ours"])
    if row["kind"] in ("most", "least") or not row["other"]:
        return float(ours)
    other = median(row["other"])
    if row["kind"] == "more":
        return float(ours - other)
    return float(other / ours if row["kind"] == "faster" else ours / other)


def holds(row: JsonRow) -> bool | None:
    """Whether the goal is met; None where there is none."""
    if not row["kind"]:
        return None
    is_least = row["kind"] in ("least", "faster")
    goal = float(row["goal"])
    return figure(row) >= goal if is_least else figure(row) <= goal


def _row(row: JsonRow) -> str:
    unit = row["unit"]
    other = _number(median(row["other"]), unit) if row["other"] else ""
    found = {None: "", True: "yes", False: "**no**"}[holds(row)]
    cells = [row["what"], _number(median(row["ours"]), unit), row["against"], other]
    cells += [_figure(row), _goal(row), found]
    return f"| {' | '.join(cells)} |"


def _figure(row: JsonRow) -> str:
    if not row["other"] or row["kind"] in ("most", "least"):
        return ""
    if row["kind"] == "more":
        return f"{figure(row):+.2f} {row['unit']}"
    return f"{figure(row):.2f} times" + (" as fast" if row["kind"] == "faster" else "")


def _goal(row: JsonRow) -> str:
    goal, unit = row["goal"], row["unit"]
    return {
        "": "",
        "ratio": f"at most {goal:g} times",
        "faster": f"at least {goal:g} times as fast",
        "more": f"at most {goal:g} {unit} more",
        "most": f"at most {goal:g} {unit}".strip(),
        "least": f"at least {goal:g} {unit}".strip(),
    }[row["kind"]]


def _number(value: float, unit: str) -> str:
    digits = f"{value:,.0f}" if abs(value) >= 1000 or value == int(value) else f"{value:.3g}"
    return f"{digits} {unit}".strip()


TITLES = {
    "list": "Looking around",
    "trips": "Round trips and connections",
    "preflight": "Checks",
    "models": "Whether a model divides",
    "server": "A server's start, life and end",
    "notice": "Noticing",
    "interrupts": "Ctrl-C",
    "logs": "Logs",
    "tail": "Long logs",
    "watch": "Watching",
    "growth": "Growth",
    "flood": "Nodes that talk without an end",
    "standins": "Test hosts",
}


def document(data: Mapping[str, Any]) -> str:
    """The measured part of docs/performance.md."""
    found = data["benchmarks"]
    parts = [_missed(found)]
    for name, title in TITLES.items():
        if name in found:
            parts += [f"## {title}", f"`inv bench.{name}`, {_machine(found[name]['machine'])}"]
            rows = found[name]["rows"]
            parts.append(_growth(rows) if name == "growth" else table(rows))
            parts += [f"- {note}" for note in found[name]["notes"]]
            parts += [f"![{each}](performance-{each}.svg)" for each in PLOTS if each == name]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _missed(found: Mapping[str, Any]) -> str:
    """What does not hold, first of all."""
    rows = [row for name in TITLES if name in found for row in found[name]["rows"]]
    judged = [row for row in rows if holds(row) is not None]
    missed = [row for row in judged if not holds(row)]
    lines = [f"{len(judged) - len(missed)} of {len(judged)} goals are met. Missed:"]
    lines += [
        f"- {row['what']}: {_figure(row) or _number(median(row['ours']), row['unit'])}"
        f" ({_goal(row)}{', against ' + row['against'] if row['against'] else ''})"
        for row in missed
    ]
    return "\n".join([lines[0], "", *lines[1:]]) if missed else lines[0].replace(" Missed:", "")


def _machine(machine: Mapping[str, Any]) -> str:
    return (
        f"{machine['when']}: {machine['cpu']}, {machine['cores']} cores,"
        f" {machine['memory'] / 2**30:.0f} GiB, {machine['system']}, Python {machine['python']};"
        f" load average {machine['load']:.1f} as it ended"
    )


def _growth(rows: Sequence[JsonRow]) -> str:
    """A row per task and size: seconds, memory, threads and files side by side."""
    by_key = {(row["what"], row["x"]): median(row["ours"]) for row in rows if row["x"]}
    tasks = list(dict.fromkeys(what for what, _ in by_key if ":" not in what))
    lines = [
        "| task | nodes | s | MB at most | threads | open files |",
        "|---|---|---|---|---|---|",
    ]
    for task in tasks:
        for (what, count), seconds in by_key.items():
            if what == task:
                rest = [by_key[f"{task}: {kind}", count] for kind in KINDS]
                cells = [task, str(count), f"{seconds:.2f}", *(f"{each:.0f}" for each in rest)]
                lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, "", table([row for row in rows if not row["x"]])])


KINDS = ("memory", "threads", "open files")


def plots(data: Mapping[str, Any]) -> dict[str, str]:
    """Name -> SVG, for each plot whose benchmark has been run."""
    found = data["benchmarks"]
    return {
        name: chart(title, series(found[name]["rows"]))
        for name, (title, series) in PLOTS.items()
        if name in found
    }


Points = list[tuple[int, float]]


def _preflight_series(rows: Sequence[JsonRow]) -> dict[str, Points]:
    wall = [row for row in rows if row["kind"] and row["x"]]
    series: dict[str, Points] = {"tp.preflight": []}
    for row in wall:
        if row["kind"] == "ratio":
            series["tp.preflight"].append((row["x"], median(row["ours"])))
        series.setdefault(row["against"], []).append((row["x"], median(row["other"])))
    return series


def _growth_series(rows: Sequence[JsonRow]) -> dict[str, Points]:
    series: dict[str, Points] = {}
    for row in rows:
        if row["x"] and ":" not in row["what"]:
            series.setdefault(row["what"], []).append((row["x"], median(row["ours"])))
    return series


PLOTS = {
    "preflight": ("tp.preflight: seconds by nodes", _preflight_series),
    "growth": ("seconds by nodes", _growth_series),
}
_COLOURS = ("#0969da", "#57606a", "#cf222e", "#bf8700", "#8250df", "#1a7f37")
_LEFT, _TOP, _WIDTH, _HEIGHT = 60, 40, 460, 300


def chart(title: str, series: Mapping[str, Points]) -> str:
    """Lines over two logarithmic axes, with a legend beside them."""
    points = [point for line in series.values() for point in line]
    root = ElementTree.Element(
        "svg", xmlns="http://www.w3.org/2000/svg", viewBox=f"0 0 860 {_TOP + _HEIGHT + 50}"
    )
    root.set("font-family", "system-ui, sans-serif")
    root.set("font-size", "13")
    ElementTree.SubElement(root, "rect", width="100%", height="100%", fill="#ffffff")
    _text(root, _LEFT, 24, title, "font-weight", "bold")
    if points:
        x = _scale([count for count, _ in points], _LEFT, _LEFT + _WIDTH)
        y = _scale([value for _, value in points], _TOP + _HEIGHT, _TOP)
        for count in sorted({count for count, _ in points}):
            _line(root, [(x(count), _TOP), (x(count), _TOP + _HEIGHT)], "#d0d7de")
            _text(root, x(count) - 8, _TOP + _HEIGHT + 18, str(count))
        for value in _ticks([value for _, value in points]):
            _line(root, [(_LEFT, y(value)), (_LEFT + _WIDTH, y(value))], "#d0d7de")
            _text(root, 8, y(value) + 4, f"{value:g} s")
        for place, (name, line) in enumerate(series.items()):
            colour = _COLOURS[place % len(_COLOURS)]
            _line(root, [(x(count), y(value)) for count, value in line], colour, "2.5")
            for count, value in line:
                spot = {"cx": f"{x(count):.1f}", "cy": f"{y(value):.1f}", "r": "4"}
                ElementTree.SubElement(root, "circle", spot, fill=colour)
            _text(root, _LEFT + _WIDTH + 20, _TOP + 16 + 22 * place, name, "fill", colour)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode") + "\n"


def _scale(values: Sequence[float], first: float, last: float) -> Callable[[float], float]:
    low, high = math.log(min(values)), math.log(max(values))
    return lambda value: first + (last - first) * (math.log(value) - low) / ((high - low) or 1)


def _ticks(values: Sequence[float]) -> list[float]:
    steps = [factor * 10.0**power for power in range(-3, 5) for factor in (1, 2, 5)]
    return [step for step in steps if min(values) <= step <= max(values)]


def _line(
    root: ElementTree.Element, points: Sequence[tuple[float, float]], colour: str, width: str = "1"
) -> None:
    line = ElementTree.SubElement(root, "polyline", fill="none", stroke=colour)
    line.set("points", " ".join(f"{x:.1f},{y:.1f}" for x, y in points))
    line.set("stroke-width", width)


def _text(root: ElementTree.Element, x: float, y: float, text: str, *more: str) -> None:
    made = ElementTree.SubElement(root, "text", x=f"{x:.1f}", y=f"{y:.1f}")
    made.text = text
    for name, value in zip(more[::2], more[1::2], strict=True):
        made.set(name, value)
