"""The long tier: tests marked `long`, which plain pytest and CI leave out."""

import sys
import tempfile
from pathlib import Path
from xml.etree import ElementTree

from invoke.context import Context

from ..cli import screen
from ..cluster import shell
from ..cluster.cluster import ROOT
from ..cluster.errors import ActionFailed, BadInput

# One after the other: what is measured or raced for minutes should have the machine.
# The older form of the report, as the one test that notes what it found can't with the newer.
PYTEST = ("-m", "pytest", "-n", "0", "-m", "long", "-o", "junit_family=xunit1")


def run(c: Context, only: str | None = None) -> None:
    """Run them, and print their table; ActionFailed if one has failed, or none was there."""
    if only is not None and not only.strip():
        raise BadInput("--only is empty: say what the tests to run match, as in --only race")
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        words = [sys.executable, *PYTEST, f"--junitxml={report}", *(["-k", only] if only else ())]
        line = " ".join(map(shell.quote, words))
        env = {"MLX_TP_REQUIRE_ALL": "1"}
        done = c.run(f"cd {shell.quote(str(ROOT))} && {line}", env=env, warn=True)
        if report.exists():
            screen.table(rows(report.read_text(encoding="utf-8")))
    if done is None or not done.ok:
        raise ActionFailed("maintain.long: not every test has passed, see above")


def rows(report: str) -> list[tuple[str, ...]]:
    """Of each test in pytest's report (JUnit XML): its outcome, its time, its name."""
    cases = list(ElementTree.fromstring(report).iter("testcase"))
    return [(_outcome(case), f"{float(case.get('time', 0)):.0f} s", _name(case)) for case in cases]


def _outcome(case: ElementTree.Element) -> str:
    bad = ("failure", "error", "skipped")
    return next((word for word in bad if case.find(word) is not None), "passed")


def _name(case: ElementTree.Element) -> str:
    return f"{case.get('classname', '').rpartition('.')[2]}::{case.get('name', '')}"
