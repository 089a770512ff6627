"""The ways a task ends badly: `invoke.Exit` shows one line on stderr, without a traceback."""

import signal

from invoke.exceptions import Exit

from .text import one_line, printable


class Ended(Exit):
    """A task's bad end, with what there is to say of it and the exit status."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(printable(one_line(message)) or None, code)


class BadInput(Ended):
    """Wrong use or bad input; nothing was done (exit 2)."""

    def __init__(self, message: str) -> None:
        super().__init__(message, code=2)


class CheckFailed(Ended):
    """A check failed; nothing was changed (exit 3)."""

    def __init__(self, message: str = "") -> None:
        super().__init__(message, code=3)


class ActionFailed(Ended):
    """An action failed, and was undone where that could be done (exit 4)."""

    def __init__(self, message: str) -> None:
        super().__init__(message, code=4)


class Unreachable(Ended):
    """Some node could not be reached (exit 5)."""

    def __init__(self, message: str) -> None:
        super().__init__(message, code=5)


class Interrupted(Exit):
    """The user pressed Ctrl-C, or another signal came (exit 130, 143 or 129, as shells say it)."""

    def __init__(self, number: int = signal.SIGINT) -> None:
        by = "" if number == signal.SIGINT else f" by {signal.Signals(number).name}"
        super().__init__(f"interrupted{by}", code=128 + number)
