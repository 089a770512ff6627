"""What can do harm, changed one thing at a time: whether a unit test fails (mutmut)."""

import importlib.util
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable

from ..cli import screen
from ..cluster.cluster import ROOT
from ..cluster.errors import ActionFailed, BadInput

ROW = re.compile(r"^ *tasks\.([\w.]+)\.x[\w]*?__mutmut_\d+: ([\w ]+)$")
# In the order in which a reader looks: what a test has failed for, and what no test has.
WORDS = ("killed", "survived", "no tests")


def run(only: Iterable[str], limit: float) -> None:
    """Run what is not known yet, for at most so many seconds; print the score of each module."""
    if not importlib.util.find_spec("mutmut"):
        raise BadInput("mutmut is not installed: uv run --group mutation inv maintain.mutants")
    line = [sys.executable, "-m", "mutmut"]
    asked = [f"tasks.{name}.x*" for name in only]
    try:
        ended = subprocess.run([*line, "run", *asked], cwd=ROOT, timeout=limit, check=False)
    except subprocess.TimeoutExpired:
        ended = None
        screen.say(f"warn: ended after {limit:g} s; called again, it goes on from there")
    told = [*line, "results", "--all", "true"]
    known = subprocess.run(told, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    screen.table(rows(known.stdout))
    if ended is not None and ended.returncode:
        raise ActionFailed("maintain.mutants: mutmut has failed, see above")


def rows(results: str) -> list[tuple[str, ...]]:
    """Of mutmut's results: each module, how many of those that tests reach were killed."""
    found: dict[str, Counter[str]] = {}
    for line in results.splitlines():
        if match := ROW.match(line):
            found.setdefault(match[1], Counter())[match[2]] += 1
    return [_row(name, counted) for name, counted in sorted(found.items())]


def _row(name: str, counted: Counter[str]) -> tuple[str, ...]:
    killed, survived, untested = (counted[word] for word in WORDS)
    reached = killed + survived
    share = f"{killed / reached:.0%}" if reached else "-"
    rest = sum(counted.values()) - reached - untested
    other = f", {rest} others" if rest else ""
    return share, name, f"{killed} of {reached} killed, {untested} without a test{other}"
