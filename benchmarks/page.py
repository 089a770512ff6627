"""benchmarks/results.json -> docs/performance.md and its plots. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

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
    return figure(row) >= row["goal"] if is_least else figure(row) <= row["goal"]


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
