"""Ctrl-C, SIGTERM and SIGHUP: all three end a task in one orderly way, Ctrl-C once more at once.

Only the first raises, and what cleans up after it is not interrupted by the others. A second Ctrl-C
ends the command where it is, as SIGKILL would, unless the command asks for one (`again`).
"""

import os
import signal
import stat
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
HURRY = 0.5  # seconds that a command which was told to end waits for nodes that need not answer


class Signalled(KeyboardInterrupt):
    """Raised in the main thread by a signal, as Python itself does for Ctrl-C."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


class Signals:
    """The signals that a command was given; those of one process are one."""

    def __init__(self) -> None:
        # Dead once the exception is swallowed, as Invoke does while a command of `c.run` runs.
        self._first: Callable[[], Signalled | None] = lambda: None
        self._more = 0
        self._is_asked = False
        self._end: float | None = None

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Within it these signals raise `Signalled`; not those that our parent ignores (nohup)."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        found = {number: signal.getsignal(number) for number in NUMBERS}
        taken = {n: each for n, each in found.items() if each not in (signal.SIG_IGN, None)}
        for number in taken:
            signal.signal(number, self._on_signal)
        try:
            yield
        finally:
            # After a signal the run only cleans up, and nothing may interrupt that.
            if self._first() is None:
                for number, handler in taken.items():
                    signal.signal(number, handler)

    @property
    def is_given(self) -> bool:
        """Whether a signal is ending the command."""
        return self._first() is not None

    def again(self, seconds: float, ask: Callable[[], object]) -> bool:
        """Whether a second signal comes after `ask()`, within so many seconds."""
        before, self._is_asked = self._more, True
        ask()
        end = time.monotonic() + seconds
        while self._more == before and time.monotonic() < end:
            time.sleep(0.05)
        self._is_asked = False
        return self._more > before

    def patience(self, seconds: float) -> float:
        """How long to wait for what nodes do without us: `seconds`, after a signal `HURRY` in all.

        That counts from the first such wait on: what must be undone is undone before.
        """
        if self._first() is None:
            return seconds
        self._end = self._end or time.monotonic() + HURRY
        return min(seconds, max(self._end - time.monotonic(), 0.0))

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGHUP:
            _mute()
        if self._first() is not None:
            self._more += 1
            if number == signal.SIGINT and not self._is_asked:
                _end()
            return
        error = Signalled(number)
        self._first, self._more, self._end = weakref.ref(error), 0, None
        raise error


def _end() -> None:
    """End now: nothing is waited for, not even that what is said can be said."""
    with suppress(OSError):
        os.set_blocking(2, False)
        os.write(2, b"\nended at once, maybe half done: inv tp.status tells, inv tp.stop stops\n")
    os._exit(128 + signal.SIGINT)


def number_of(error: KeyboardInterrupt) -> int:
    """The signal behind it: Ctrl-C, where Python itself has raised it."""
    return error.number if isinstance(error, Signalled) else int(signal.SIGINT)


def _mute() -> None:
    """The terminal is gone: words for it must not fail what is still to be done."""
    with Path(os.devnull).open("r+b", buffering=0) as nowhere:
        for number in (1, 2):
            # A terminal that is gone says of itself that it is none; it still is a device.
            with suppress(OSError):
                if stat.S_ISCHR(os.fstat(number).st_mode):
                    os.dup2(nowhere.fileno(), number)
