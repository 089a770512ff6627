"""inv test.*: tests that take longer than CI has, and the pages that are written from them."""

import os
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from invoke.context import Context
from invoke.tasks import task

from . import cli
from .cluster import shell
from .cluster.errors import ActionFailed, BadInput

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "reliability.md"
TESTS = [
    "tests/test_faults.py",
    "tests/test_interrupts.py",
    "tests/test_lock.py::test_ten_loops_for_long",
]
# It holds once the page is written.
OF_THE_PAGE = "tests/test_faults.py::test_the_page_is_of_this_matrix"
ENVIRONMENT = {"MLX_TP_ALL_FAULTS": "1"}
MARK = "<!-- written by inv test.faults: do not edit below -->\n"


@task(auto_shortflags=False, help={"only": "run rows that match, as pytest's -k; writes no page"})
def faults(c: Context, only: str | None = None) -> None:
    """Run every fault for real; write docs/reliability.md.

    Each at every stage where it can strike.

    Needs Linux and root, and takes some minutes (exit 4 if a row does not hold).
    """
    if not sys.platform.startswith("linux") or os.getuid() != 0:
        raise BadInput("test.faults needs Linux and root: its hosts are network namespaces")
    if only is not None and not only.strip():
        raise BadInput("--only is empty: say what the rows to run match, as in --only 'drops'")
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        # The properties that the tests note are of the older form of these reports.
        words = [sys.executable, "-m", "pytest", "-q", "-m", "", "-o", "junit_family=xunit1"]
        words += [f"--junitxml={report}", *TESTS]
        words += ["-k", only] if only else ["--deselect", OF_THE_PAGE]
        line = " ".join(map(shell.quote, words))
        done = c.run(f"cd {shell.quote(str(ROOT))} && {line}", env=ENVIRONMENT, warn=True)
        if not report.exists():
            raise ActionFailed("test.faults: pytest has ended without a report")
        if not only:
            write(report.read_text(encoding="utf-8"))
            cli.screen.say(f"wrote {PAGE.relative_to(ROOT)}")
    if done is None or not done.ok:
        raise ActionFailed("test.faults: not every row holds, see above")


def write(report: str) -> None:
    """Write the page's table from a report of pytest (JUnit XML)."""
    head = PAGE.read_text(encoding="utf-8").partition(MARK)[0]
    PAGE.write_text(f"{head}{MARK}\n{table(report)}", encoding="utf-8")


def table(report: str) -> str:
    """A row per fault and stage: what was said of it, with which exit status, and what held."""
    rows = ["| fault | stage | said | outcome |", "|---|---|---|---|"]
    for case in ElementTree.fromstring(report).iter("testcase"):
        properties = [(each.get("name"), each.get("value") or "") for each in case.iter("property")]
        values = dict(properties)
        if "fault" not in values:
            continue
        said = "<br>".join(_said(value) for name, value in properties if name == "said")
        held = case.find("failure") is None and case.find("error") is None
        outcome = values["after"] if held else "does not hold"
        rows.append(f"| {values['fault']} | {values['stage']} | {said} | {outcome} |")
    return "\n".join(rows) + "\n"


def _said(value: str) -> str:
    """`command TAB exit status TAB text` without what differs from run to run."""
    command, code, text = value.split("\t", 2)
    lines = list(_same(text))
    shown = [lines[0], "...", lines[-1]] if len(lines) > 2 else lines
    words = " ".join(f"`{line}`" if line != "..." else line for line in shown)
    return f"{command}: exit {code} {words}".replace("|", "\\|").rstrip()


_DIFFERS = {
    r"pid \d+": "pid N",
    r"\d+\.\d s": "N s",
    r"/tmp/pytest\S*?/(?=home|rig|ssh)": ".../",
    r"\S*/ssh_config": "SSH_CONFIG",
    r"\S*/(?=tp_server)": "LOG_DIR/",
    r" +": " ",
}


def _same(text: str) -> Iterator[str]:
    for line in text.splitlines():
        for pattern, word in _DIFFERS.items():
            line = re.sub(pattern, word, line)
        if line.strip():
            yield line.strip().replace("`", "'")
