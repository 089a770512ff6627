"""The one table of `inv maintain.big`: for people, as JSON and as a page of docs/reports."""

from collections.abc import Sequence
from dataclasses import dataclass

HEAD = ("", "step", "what", "found", "goal")


@dataclass(frozen=True)
class TrialRow:
    """A line: `holds` is whether its goal is met, None where it has none; NOT_RUN says why."""

    step: str
    what: str
    found: str
    goal: str = ""
    holds: bool | None = None

    @property
    def word(self) -> str:
        return {True: "ok", False: "fail", None: "-"}[self.holds]

    @property
    def cells(self) -> tuple[str, ...]:
        return (self.word, self.step, self.what, self.found, self.goal)


def page(about: dict[str, str], rows: Sequence[TrialRow]) -> str:
    """Markdown: what it was measured on, and the table."""
    facts = "".join(f"- {key}: {value}\n" for key, value in about.items())
    table = [HEAD, ("---",) * len(HEAD), *(row.cells for row in rows)]
    lines = "".join(f"| {' | '.join(map(_cell, cells))} |\n" for cells in table)
    failed = [row for row in rows if row.holds is False]
    return (
        f"# A model of {about['size']} on {about['ranks']}\n\n"
        f"<!-- printed by {about['command']}: do not edit -->\n\n{facts}\n"
        f"{len(rows)} rows, {len(failed)} with a goal that is not met.\n\n{lines}"
    )


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
