"""Makes docs/terminal.svg, the picture in README: what `inv demo` prints on a terminal.

uv run python docs/terminal.py
"""

from __future__ import annotations

import io
import os
import pty
import select
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).parents[1]


def main() -> None:
    console = Console(record=True, width=110, file=io.StringIO(), force_terminal=True)
    console.print("[bold]$ uv run inv demo")
    console.print(Text.from_ansi(run([sys.executable, "-m", "invoke", "demo"])))
    console.save_svg(str(ROOT / "docs" / "terminal.svg"), title="mlx-tp-tasks")


def run(command: list[str]) -> str:
    """What `command` writes, in its order; stdout is a terminal, so that it has colours."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(command, cwd=ROOT, stdout=theirs, stderr=subprocess.PIPE)
    os.close(theirs)
    assert process.stderr is not None
    streams = [ours, process.stderr.fileno()]
    text = b""
    while streams:
        for stream in select.select(streams, [], [])[0]:
            try:
                piece = os.read(stream, 65536)
            except OSError:  # Linux says so when the other end of a terminal is closed.
                piece = b""
            text += piece
            if not piece:
                streams.remove(stream)
    process.wait()
    return text.decode(errors="replace").replace("\r", "")


if __name__ == "__main__":
    main()
