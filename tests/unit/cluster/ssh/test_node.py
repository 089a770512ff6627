"""What runs a script on a node: where its connection ends is not for the screen."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tasks.cluster.ssh import node


@pytest.mark.parametrize("error", [EOFError, BrokenPipeError])
def test_too_late_on_a_connection_that_is_gone(error: type[Exception]) -> None:
    """A control machine that wakes up finds both: its timer has run out, and nobody is there."""

    def close() -> None:
        raise error

    runner: Any = object.__new__(node._runner())
    runner.channel = SimpleNamespace(close=close)
    runner.kill()
