"""An `inv` command of its own: its lines with their times, within a limit."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from typing import IO, Any

from tasks.cluster.cluster import ROOT


class Job:
    """Runs at once; `lines` are (time, text) of stderr; killed after `limit` seconds."""

    def __init__(self, words: Sequence[str], env: Mapping[str, str], limit: float) -> None:
        self.words, self.limit, self.begun = words, limit, time.time()
        self.lines: list[tuple[float, str]] = []
        self.out, self.ended, self.was_cut = "", 0.0, False
        self.first_out: float | None = None
        self.process = subprocess.Popen(
            [sys.executable, "-m", "invoke", *words],
            cwd=ROOT,
            env={**os.environ, "PYTHONUNBUFFERED": "1", "NO_COLOR": "1", **env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        self.readers = [
            threading.Thread(target=self._read, args=pair, daemon=True)
            for pair in ((self.process.stdout, True), (self.process.stderr, False))
        ]
        for reader in self.readers:
            reader.start()

    def _read(self, stream: IO[bytes], is_out: bool) -> None:
        while data := os.read(stream.fileno(), 65536) if is_out else stream.readline():
            text = data.decode(errors="replace")
            if is_out:
                self.first_out = self.first_out or time.time()
                self.out += text
            else:
                self.lines.append((time.time(), text.rstrip("\n")))
        self.ended = time.time()

    @property
    def runs(self) -> bool:
        return self.process.poll() is None

    @property
    def code(self) -> int | None:
        return self.process.returncode

    def wait(self) -> Job:
        """Wait for its end, or for its limit."""
        try:
            self.process.wait(max(0.1, self.begun + self.limit - time.time()))
        except subprocess.TimeoutExpired:
            self.was_cut = True
            self.end()
        for reader in self.readers:
            reader.join(5)
        self.ended = self.ended or time.time()
        return self

    def end(self) -> None:
        """Kill it, and what is in its session."""
        if self.runs:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    @property
    def seconds(self) -> float:
        return self.ended - self.begun

    def at(self, pattern: str) -> float | None:
        """When a line came that matches, None where none did."""
        return next((at for at, line in self.lines if re.search(pattern, line)), None)

    @property
    def last(self) -> str:
        """Its last line on stderr, which is the error where it failed."""
        return next((line for _, line in reversed(self.lines) if line.strip()), "")

    @property
    def ending(self) -> str:
        """How it ended, in words."""
        if self.was_cut:
            return f"no end within {self.limit:.0f} s"
        return f"exit {self.code}: {self.last}" if self.code else "exit 0"

    def document(self) -> dict[str, Any]:
        """What it printed with --json; empty where that is none."""
        try:
            found = json.loads(self.out)
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}
