"""The ways a task ends badly: `invoke.Exit` shows the message on stderr, without a traceback."""

from __future__ import annotations

from invoke.exceptions import Exit


class BadInput(Exit):
    """Wrong use or bad input; nothing was done (exit 2)."""

    def __init__(self, message: str) -> None:
        super().__init__(message, code=2)


class CheckFailed(Exit):
    """A check failed; nothing was changed (exit 3)."""

    def __init__(self, message: str = "") -> None:
        super().__init__(message or None, code=3)


class ActionFailed(Exit):
    """An action failed, and was undone where that could be done (exit 4)."""

    def __init__(self, message: str) -> None:
        super().__init__(message, code=4)


class Unreachable(Exit):
    """Some node could not be reached (exit 5)."""

    def __init__(self, message: str) -> None:
        super().__init__(message, code=5)


class Interrupted(Exit):
    """The user pressed Ctrl-C (exit 130, as shells say it)."""

    def __init__(self, message: str = "interrupted") -> None:
        super().__init__(message, code=130)
