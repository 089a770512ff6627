"""What CI makes of tests that fail: .ci/tests.py on a folder of tests of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import DEADLINE, ROOT

Run = Callable[..., tuple[int, str]]

# Whether a test is at its first try is known by a file.
AGAIN = """
import os, pathlib, pytest
def again(name):
    path = pathlib.Path(name)
    return path.exists() or path.touch()
"""
FINE = "def test_fine(): pass\n"
FLAKY = "def test_flaky():\n    print('try', again('f'))\n    assert again('x')\n"
ENDS_BADLY = (
    "@pytest.fixture\ndef ends():\n    yield\n    assert again('e')\ndef test_ends(ends): pass\n"
)
FAILING = "def test_failing(): assert not 'never'\n"
HANGING = "def test_hanging():\n    import time\n    time.sleep(100)\n"
SKIPPED = "def test_skipped(): pytest.skip('no')\n"
LATE_SKIP = "def test_late(): pytest.skip('no') if again('s') else pytest.fail('first')\n"
CRASH = "def test_crash(): again('c') or os._exit(7)\n"
PLUGINS = "-p xdist.plugin -p pytest_timeout"
GONE = "if not again('g'):\n    def test_gone(): assert 0\n"


@pytest.fixture
def ci(tmp_path: Path) -> Run:
    """`ci(tests, *arguments)`: its exit status and what it wrote."""

    def run(tests: str, *words: str) -> tuple[int, str]:
        (tmp_path / "pytest.ini").write_text(f"[pytest]\naddopts = {PLUGINS}\n")
        hooks = "from strict import pytest_sessionfinish, pytest_testnodedown\n"
        (tmp_path / "conftest.py").write_text(hooks)
        (tmp_path / "test_made.py").write_text(AGAIN + tests)
        # Other plugins take long to load, and have no part in it.
        paths = {"PYTHONPATH": str(ROOT / "tests"), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
        paths["MLX_TP_REQUIRE_ALL"] = "1"
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
        done = subprocess.run(
            [sys.executable, ROOT / ".ci" / "tests.py", *words],
            cwd=tmp_path,
            env={**inherited, **paths},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=DEADLINE,
            check=False,
        )
        return done.returncode, done.stdout

    return run


def named(shown: str, heading: str) -> list[str]:
    found = re.search(rf"^{heading} \(.*\):\n((?:  .*\n)+)", shown, re.MULTILINE)
    return re.findall(r"::(\w+)$", found[1], re.MULTILINE) if found else []


@pytest.mark.parametrize("workers", ["0", "2"])
def test_flaky(ci: Run, tmp_path: Path, workers: str) -> None:
    """It fails nothing, is named at the end, and both of its outputs can be read."""
    code, shown = ci(FINE + FLAKY + ENDS_BADLY, "-n", workers)
    assert code == 0, shown
    assert named(shown, "flaky, passed at the second try") == ["test_ends", "test_flaky"]
    assert shown.splitlines()[-1] == "==== 3 passed (2 flaky) ===="
    kept = re.search(r"both outputs: (.*)\)", shown)
    assert kept
    log = Path(kept[1])
    assert log.is_relative_to(tmp_path / ".ci" / "kept")
    assert re.search(r"(?s)try None.*try True", log.read_text())


def test_failing(ci: Run) -> None:
    code, shown = ci(FINE + FLAKY + FAILING + GONE, "-k", "not gone")
    assert code == 1
    assert named(shown, "flaky, passed at the second try") == ["test_flaky"]
    assert named(shown, "failed twice") == ["test_failing"]
    assert shown.splitlines()[-1] == "==== 1 failed, 2 passed (1 flaky) ===="


def test_one_that_hangs(ci: Run) -> None:
    """It fails, and holds up nobody."""
    code, shown = ci(FINE + HANGING, "--timeout=1")
    assert code == 1
    assert named(shown, "failed twice") == ["test_hanging"]


def test_fine(ci: Run) -> None:
    """Then pytest's own line is the last, and nothing is run again."""
    code, shown = ci(FINE)
    assert code == 0
    assert re.match(r"=+ 1 passed in [\d.]+s =+$", shown.splitlines()[-1])


def test_too_many(ci: Run) -> None:
    """What has broken everything is not tried again for half an hour."""
    code, shown = ci(
        "@pytest.mark.parametrize('n', range(30))\ndef test_n(n): assert again(str(n))"
    )
    assert code == 1
    assert shown.splitlines()[-1] == "30 tests failed: too many to run each once more"


@pytest.mark.parametrize(
    ("tests", "expected"),
    [
        pytest.param(FLAKY + SKIPPED, 10, id="a skip"),
        pytest.param(FLAKY + LATE_SKIP, 10, id="a skip at the second try"),
        pytest.param(FINE + CRASH, 11, id="a crash"),
        pytest.param(FLAKY + GONE, 1, id="not there any more"),
        pytest.param("", 5, id="no tests"),
        pytest.param("import nowhere\n", 2, id="can't be imported"),
    ],
)
def test_what_is_no_failed_test(ci: Run, tests: str, expected: int) -> None:
    code, shown = ci(tests, "-n", "1" if tests.endswith(CRASH) else "0")
    assert code == expected, shown


def test_what_is_committed_is_linted_as_in_ci() -> None:
    """Each linter that .ci/run has is a hook of pre-commit, too."""
    linters = re.findall(
        r"\.venv/bin/([a-z-]+(?: (?:check|format))?)", (ROOT / ".ci" / "run").read_text()
    )
    hooks = (ROOT / ".pre-commit-config.yaml").read_text()
    missing = {each for each in linters if f"uv run {each}" not in hooks}
    assert missing == {"inv", "python"}  # the demo, and the tests
    assert "ruff check" in linters
