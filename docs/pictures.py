"""Makes docs/terminal.svg and docs/screens/: what commands show in a real terminal (tmux).

uv run python docs/pictures.py          # all, in a home of its own: two ranks on this machine
uv run python docs/pictures.py list     # some

On an idle machine, else the bench is one of the others' work.
"""

from __future__ import annotations

import io
import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
COLUMNS = 80
END = "-- the end --"  # what no screen of ours says
LOAD = "--concurrency 1,2 --prompt-tokens 32 --max-tokens 4 --repeats 4"
# In this order: name of the picture -> what is typed.
PICTURES = {
    "terminal": ["inv demo"],
    "list": ["inv"],
    "help": ["inv --help tp.stop"],
    "wrong": ["inv tp.start --model M", "inv tp.strat", "inv tp.logs --tail 9", "inv tp.stop mac1"],
    "preflight": ["inv tp.preflight"],
    "start": ["inv tp.start"],
    "status": ["inv tp.status", "inv tp.memory"],
    "chat": ["inv tp.chat 'Why is the sky blue?' --max-tokens 12"],
    "logs": ["inv tp.logs --lines 12"],
    "top": ["inv tp.top --count 2"],
    "bench": [
        f"inv tp.bench {LOAD} --label before --out before.json",
        f"inv tp.bench {LOAD} --label after --out after.json 2>/dev/null",
        "inv tp.bench --compare before.json,after.json",
        "inv tp.bench --history",
    ],
    "restart": ["inv tp.restart 2>&1 | tail -9"],
    "audit": ["inv tp.audit"],
    "stop": ["inv tp.stop", "inv tp.status"],
}


def main(names: list[str]) -> None:
    (DOCS / "screens").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as home:
        (Path(home) / "bin").mkdir()
        inv = Path(home, "bin", "inv")
        inv.write_text(f'#!/bin/sh\ncd {ROOT} && exec {sys.executable} -m invoke "$@"\n')
        inv.chmod(0o755)
        try:
            for name, lines in PICTURES.items():
                draw(name, [shown(line, Path(home)) for line in lines], lines, names)
        finally:
            shown("inv tp.stop --force", Path(home))
    (DOCS / "screens" / "README.md").write_text(page())


def page() -> str:
    """All of them on one page."""
    parts = [
        "# Screens\n\nMade by `uv run python docs/pictures.py`, in a terminal of 80 columns.\n"
    ]
    for name, lines in PICTURES.items():
        file = "../terminal.svg" if name == "terminal" else f"{name}.svg"
        parts.append(
            f"## {' and '.join(lines[:2])}\n\n![{lines[0]}]({file})\n".replace(" 2>&1", "")
        )
    return "\n".join(parts)


def draw(name: str, screens: list[str], lines: list[str], names: list[str]) -> None:
    """Write one picture, if it is one of those that are wanted."""
    if names and name not in names:
        return
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    for line, screen in zip(lines, screens, strict=True):
        console.print(f"[bold]$ {re.sub(r' 2>.*', '', line)}", highlight=False)
        console.print(Text.from_ansi(screen))
    file = DOCS / ("terminal.svg" if name == "terminal" else f"screens/{name}.svg")
    console.save_svg(str(file), title="mlx-tp-tasks", unique_id=name)
    print(file.relative_to(ROOT))


def shown(line: str, home: Path) -> str:
    """The screen after a command, with its colours; nothing in it tells whose machine this is."""
    line = re.sub(r"(before|after)\.json", rf"{home}/\1.json", line)
    socket = f"pictures-{uuid.uuid4().hex[:8]}"
    env = {
        **{
            k: v for k, v in os.environ.items() if not k.startswith(("INVOKE_", "TMUX", "NO_COLOR"))
        },
        "HOME": str(home),
        "PATH": f"{home}/bin:{os.environ['PATH']}",
        "INVOKE_TP_LOG_DIR": str(home / "logs"),
        "HF_HUB_OFFLINE": "1",
        "TERM": "xterm-256color",
        "USER": "you",
        "LOGNAME": "you",
    }

    def tmux(*words: str) -> str:
        words = ("tmux", "-L", socket, "-f", "/dev/null", *words)
        return subprocess.run(words, env=env, capture_output=True, text=True, check=False).stdout

    # As root on Linux the machine has another name for it.
    named = os.uname().sysname == "Linux" and os.getuid() == 0
    line = f"hostname macbook; {line}" if named else line
    command = f"{'unshare --uts ' * named}sh -c {shlex.quote(line)}; echo '{END}'; sleep 1000"
    size = ("-x", str(COLUMNS), "-y", "45")
    tmux("start-server", ";", "set", "-g", "history-limit", "10000", ";",
         "new-session", "-d", *size, command)  # fmt: skip
    end = time.monotonic() + 300
    while END not in tmux("capture-pane", "-p", "-S", "-"):
        assert time.monotonic() < end, line
        time.sleep(0.2)
    text = tmux("capture-pane", "-p", "-e", "-S", "-").partition(END)[0]
    tmux("kill-server")
    return anonymous(text, home).rstrip()


def anonymous(text: str, home: Path) -> str:
    """Paths as a user would have them."""
    return text.replace(str(ROOT), "~/mlx-tp-tasks").replace(str(home), "~")


if __name__ == "__main__":
    main(sys.argv[1:])
