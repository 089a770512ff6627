"""Runners that take a whole script and a large answer, where Invoke's go by the character."""

import os
import signal
from contextlib import suppress
from subprocess import PIPE, Popen
from typing import IO, Any

from invoke.runners import Local, Result, Runner

KEPT = 8 * 1024 * 1024  # bytes of one answer, at most; what streams has been taken as it came


class BulkResult(Result):
    """An answer; `is_cut` where there was more of it than is kept."""

    is_cut = False


class BulkIO(Runner):
    """A runner that writes a script to stdin at once; Invoke's writes a character per 10 ms.

    It reads in large pieces, and has no watchers: for each piece Invoke would join all that came
    before, which for a log of megabytes takes seconds.
    """

    read_chunk_size = 65536

    def handle_stdin(self, input_: IO[str], output: IO[str], echo: bool = False) -> None:
        """Write what `input_` gives until it ends ("") or the program does; None is not yet."""
        # A program that ends before it has read all tells by its words and status what it is.
        with suppress(OSError):
            while not self.program_finished.is_set():
                if data := input_.read():
                    self.write_proc_stdin(data)
                elif data is not None:
                    self.close_proc_stdin()
                    return

    def write_proc_stdin(self, data: str) -> None:
        # A path of this machine is bytes to it, whatever the locale.
        self._write_proc_stdin(data.encode(self.encoding, "surrogateescape"))

    def respond(self, buffer_: list[str]) -> None:
        """Called when more is in `buffer_`: who says more than is kept is listened to no longer."""
        kept = self._kept.setdefault(id(buffer_), [0, 1])
        # Where one character wants more, all of the answer do, once they are joined.
        kept[1] = max(kept[1], 1 if buffer_[-1].isascii() else 4)
        kept[0] += len(buffer_[-1])
        left = self._room // kept[1] - kept[0]
        if left < 0:
            buffer_[-1] = buffer_[-1][: max(len(buffer_[-1]) + left, 0)]
            if self.opts["out_stream"] is None:
                self._is_cut = True
                self.leave()

    def leave(self) -> None:
        """Listen no longer."""
        self.kill()

    def generate_result(self, **parts: Any) -> BulkResult:
        return BulkResult(**parts)

    def run(self, command: str, room: int = KEPT, **options: object) -> BulkResult:
        self._kept: dict[int, list[int]] = {}
        self._room, self._is_cut = room, False
        try:
            result = super().run(command, **options)
            assert isinstance(result, BulkResult), "only what is disowned has none"
            result.is_cut = self._is_cut
            return result
        finally:
            # They and this know each other: what they have read would wait for the garbage
            # collector, which counts objects and not megabytes.
            self.threads = {}
            self._timer = None


class LocalRunner(BulkIO, Local):
    """Invoke's local runner with `Whole`; as over SSH, Ctrl-C here is not for what runs there."""

    def start(self, command: str, shell: str, env: dict[str, str]) -> None:
        self.process = Popen(
            [shell, "-c", command],
            env=env,
            stdin=PIPE,
            stdout=PIPE,
            stderr=PIPE,
            start_new_session=True,
        )

    def leave(self) -> None:
        # What the shell has started has the pipes, too.
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
