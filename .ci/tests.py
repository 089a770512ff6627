#!/usr/bin/env python3
"""Run the tests (with pytest's arguments), and what fails once more, alone.

What passes then is flaky: it is named at the end, and fails nothing. What fails again fails the
run, and so does whatever is no failed test: a skip where none may be, a crash, no tests at all.
The outputs of both runs are kept in KEPT, with the examples that hypothesis has found.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

KEPT = Path(".ci/kept").absolute()
LOG = KEPT / "tests.log"
FAILED = 1  # pytest's exit status for failed tests, and nothing worse
LIMIT = 600  # seconds; a test that hangs is one that has failed, not a run without an end
FEW = 20  # more than these are not flaky, and would take long one by one


def main(words: list[str]) -> int:
    shutil.rmtree(KEPT / "cache", ignore_errors=True)
    KEPT.mkdir(parents=True, exist_ok=True)
    LOG.unlink(missing_ok=True)
    status = run(*words, f"--junitxml={KEPT / 'tests.xml'}")
    failed = last_failed()
    if status != FAILED or not failed:
        return status
    if len(failed) > FEW:
        print(f"{len(failed)} tests failed: too many to run each once more", flush=True)
        return status
    print("\nwhat failed, once more, alone:", flush=True)
    status = run(*words, "-n0", "-rA", "--last-failed", "--last-failed-no-failures=none")
    again = last_failed()
    tell("flaky, passed at the second try", failed - again)
    tell("failed twice", again)
    passed = len(tests()) - len(again)
    counts = [f"{len(again)} failed"] * bool(again) + [f"{passed} passed"]
    print(f"==== {', '.join(counts)} ({len(failed - again)} flaky) ====")
    # What was not found the second time is still among the failed, whatever the status is.
    return status or (FAILED if again else 0)


def run(*words: str) -> int:
    """Show and keep what pytest writes; its exit status."""
    options = ["-o", f"cache_dir={KEPT / 'cache'}", f"--timeout={LIMIT}"]
    line = [sys.executable, "-m", "pytest", *options, *words]
    env = {**os.environ, "HYPOTHESIS_STORAGE_DIRECTORY": str(KEPT / "hypothesis")}
    with (
        LOG.open("ab") as log,
        subprocess.Popen(line, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as pytest,
    ):
        assert pytest.stdout
        while piece := pytest.stdout.read1():
            log.write(piece)
            sys.stdout.buffer.write(piece)
            sys.stdout.flush()
    return pytest.returncode


def last_failed() -> set[str]:
    found = KEPT / "cache" / "v" / "cache" / "lastfailed"
    return set(json.loads(found.read_text())) if found.exists() else set()


def tests() -> set[tuple[str, ...]]:
    """What the first run has run; a test that failed at its end as well has two entries there."""
    cases = ET.parse(KEPT / "tests.xml").iter("testcase")
    return {(case.get("classname", ""), case.get("name", "")) for case in cases}


def tell(what: str, names: set[str]) -> None:
    if names:
        print(f"\n{what} (both outputs: {LOG}):", *sorted(names), sep="\n  ")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
