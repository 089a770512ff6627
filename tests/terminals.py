"""Real terminals of any width, by tmux: what a screen looks like, and whether a row was wrapped."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import pytest
from conftest import DEADLINE, ROOT, require, wait_for

COLOURED = re.compile(r"\x1b\[(?:\d+;)*3[1-7]m(.+?)\x1b\[")
END = "-- the end --"  # what no screen of ours says


@dataclass
class Terminal:
    """One at a time; `show` gives what a command writes, row by row."""

    env: dict[str, str]
    name: str = ""
    colours: Sequence[str] = ()  # what was coloured on the last screen shown

    def tmux(self, *words: str) -> str:
        line = ["tmux", "-L", self.name, "-f", "/dev/null", *words]
        more = {"capture_output": True, "text": True, "timeout": DEADLINE, "check": False}
        return subprocess.run(line, cwd=ROOT, env=self.env, **more).stdout  # type: ignore[call-overload,no-any-return]

    def open(self, command: str, columns: int = 80, env: Mapping[str, str] | None = None) -> None:
        # One that has just been ended may still be asked by the next.
        self.name = f"screens-{uuid.uuid4().hex[:8]}"
        self.env |= env or {}
        for name in ("COLUMNS", "LINES"):  # a worker of xdist has them
            self.env.pop(name, None)
        self.tmux("start-server", ";", "set", "-g", "history-limit", "100000", ";",
                  "new-session", "-d", "-x", str(columns), "-y", "40", command)  # fmt: skip

    def rows(self, joined: bool = False, coloured: bool = False) -> list[str]:
        """All rows; `joined`, those that the terminal has wrapped are one."""
        more = [*["-J"] * joined, *["-e"] * coloured]
        return self.tmux("capture-pane", "-p", "-S", "-", *more).splitlines()

    def show(self, line: Sequence[str], columns: int, env: Mapping[str, str]) -> list[str]:
        """The result of a command that has ended; no row of it may have been wrapped."""
        self.open(f"{shlex.join(line)} 2>/dev/null; echo '{END}'; sleep 1000", columns, env)
        wait_for(lambda: END in self.rows())
        rows = [row.rstrip() for row in self.rows()]
        wrapped = {row.rstrip() for row in self.rows(joined=True)} - {*rows}
        self.colours = COLOURED.findall("\n".join(self.rows(coloured=True)))
        self.tmux("kill-server")
        assert wrapped == set(), wrapped
        return rows[: rows.index(END)]


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    require(shutil.which("tmux"), "needs tmux")
    path = f"{os.path.dirname(sys.executable)}{os.pathsep}{os.environ['PATH']}"
    made = Terminal({**os.environ, "PATH": path, "TERM": "xterm"})
    yield made
    made.tmux("kill-server")
