"""Hooks for a run that may leave nothing out: what must fail it besides a failed test."""

from __future__ import annotations

import os

import pytest

# Exit statuses besides pytest's own (0 to 5): .ci/tests.py runs nothing again after these.
SKIPPED, CRASHED = 10, 11
_crashed = pytest.StashKey[bool]()


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Where everything is required, a skipped test fails the run, whatever skipped it."""
    if session.exitstatus not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        return
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("MLX_TP_REQUIRE_ALL") and reporter and reporter.stats.get("skipped"):
        session.exitstatus = SKIPPED
    if session.config.stash.get(_crashed, False):
        session.exitstatus = CRASHED


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: object, error: object) -> None:
    """A worker that died took more with it than the test that it was at."""
    if error:
        node.config.stash[_crashed] = True  # type: ignore[attr-defined]
