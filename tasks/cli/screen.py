"""What people see: the result on stdout, the narration on stderr, colour only on a terminal."""

from __future__ import annotations

import io
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from contextvars import ContextVar
from typing import IO, TYPE_CHECKING

from ..cluster.server import readiness
from ..cluster.text import one_line, plain
from . import envelope

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

    from ..cluster.server.wait import Progress

_COLOURS = {
    "ok": 32, "ready": 32, "running": 32, "stopped": 32,
    "warn": 33, "starting": 33, "joining": 33, "loading": 33, "unasked": 33,
    "degraded": 33, "killed": 33, "suspended": 33, "had died": 33, "unknown": 33,
    "fail": 31, "dead": 31, "not reached": 31, "still running": 31,
}  # fmt: skip
LEAST = 24  # cells of a last column that can still be read
INDENT = "    "
HELD = "\xa0"  # a blank at which no line ends
_RANKS = (36, 35, 34, 33, 32, 31)


def say(text: str) -> None:
    """A line of narration, on stderr."""
    print(wrapped(plain(text), sys.stderr), file=sys.stderr, flush=True)


def out(text: str) -> None:
    """A line of the result, on stdout; with `--json` in its document."""
    document = envelope.current()
    if document is None:
        print(plain(text), flush=True)
    elif document.is_stream:
        say(text)  # its lines have a form of their own
    else:
        document.lines += plain(text).splitlines()


def sentence(text: str) -> None:
    """A line of the result that is read, and not copied: on a terminal it breaks at words."""
    out(text if envelope.current() else wrapped(plain(text), sys.stdout))


class _Held(io.StringIO):
    """A stream that keeps what is written, until `is_over`: then it goes to where it belongs.

    A terminal shows the last line of it, which the next one takes the place of.
    """

    def __init__(self, stream: IO[str], is_over: Callable[[], bool]) -> None:
        super().__init__()
        self.stream, self.is_over = stream, is_over

    def write(self, text: str) -> int:
        if self.is_over():
            return self.stream.write(text)
        if text.strip() and self.stream.isatty():
            self.stream.write(f"\r\033[K{text.strip().splitlines()[-1][: width() - 1]}")
            self.stream.flush()
        return super().write(text)

    def flush(self) -> None:
        self.stream.flush()


@contextmanager
def held(is_over: Callable[[], bool]) -> Iterator[Callable[[], list[str]]]:
    """Within it what is said and shown is kept, as lines that the function gives, until `is_over`.

    For who says it in fewer words, and what is said after a signal all the same.
    """
    out, err = _Held(sys.stdout, is_over), _Held(sys.stderr, is_over)
    try:
        with redirect_stdout(out), redirect_stderr(err):
            yield lambda: [*out.getvalue().splitlines(), *err.getvalue().splitlines()]
    finally:
        if sys.stderr.isatty():
            sys.stderr.write("\r\033[K")
            sys.stderr.flush()


def tick(text: str = "") -> None:
    """Show a line that is gone with the next one, or with an empty one; on a terminal alone."""
    stream = sys.stderr.stream if isinstance(sys.stderr, _Held) else sys.stderr
    if is_terminal(stream):
        stream.write(f"\r\033[K{one_line(text)[: width() - 1]}")
        stream.flush()


def is_agreed(question: str) -> bool:
    """Ask a question on the terminal: whether the answer is yes."""
    say(f"{question}? yes or no")
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def part(text: str, stream: IO[str]) -> None:
    """A part of a line that is still being written."""
    print(plain(text), end="", file=stream, flush=True)


def coloured(line: str) -> None:
    """A line of the result with colours of ours in it; the rest of it must be plain."""
    if envelope.current() is None:
        print(line, flush=True)
    else:
        out(line)


def width() -> int:
    """Columns of the terminal, 80 where there is none."""
    columns = shutil.get_terminal_size((0, 0)).columns
    if not columns:  # stdout goes into a pipe: what is narrated may still be looked at
        with suppress(AttributeError, OSError, ValueError):
            columns = os.get_terminal_size(sys.__stderr__.fileno()).columns  # type: ignore[union-attr]
    return columns or 80


def is_terminal(stream: IO[str]) -> bool:
    """Whether it shows what is more than text: colours, a line that changes."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def is_colourful(stream: IO[str]) -> bool:
    return is_terminal(stream) and not os.environ.get("NO_COLOR")


def paint(word: str, stream: IO[str], width: int = 0, colour: int | None = None) -> str:
    """`word`, padded to `width`, in the colour of its meaning where `stream` shows colours."""
    code = colour or _COLOURS.get(word)
    padded = word.ljust(width)
    return f"\033[{code}m{padded}\033[0m" if code and is_colourful(stream) else padded


def log_line(line: str) -> None:
    """A line of the combined log ("rank 0 | text"), with its tag in the rank's colour."""
    tag, bar, rest = line.partition(" | ")
    number = tag.removeprefix("rank ")
    is_tagged = bool(bar) and number.isdecimal()
    if envelope.current() is not None:
        rank, text = (int(number), rest) if is_tagged else (None, line)
        envelope.line({"rank": rank, "text": text})
    elif not is_tagged:
        out(line)
    else:
        colour = _RANKS[int(number) % len(_RANKS)]
        coloured(paint(tag, sys.stdout, colour=colour) + bar + plain(rest))


def table(rows: Sequence[Sequence[str]], stream: IO[str] | None = None) -> None:
    """Rows with aligned columns, in colours of meaning; on a terminal none is wider than that."""
    document = envelope.current()
    if document is not None and stream in (None, sys.stdout):
        stream = sys.stderr  # on stdout is nothing but the document
    stream = stream or sys.stdout
    room = width() if stream.isatty() else None
    rows = [[one_line(cell) for cell in row] for row in rows]
    widths = [max(map(cells, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        for line in fitted(row, widths, room):
            word = f"{row[0]}{' ' * (widths[0] - cells(row[0]))}"
            if line.startswith(word) and row[0]:
                line = paint(row[0], stream) + line.removeprefix(row[0])
            print(line.rstrip(), file=stream, flush=True)


def aligned(rows: Sequence[Sequence[str]], room: int) -> list[str]:
    """The same as lines of so many columns, without colours."""
    rows = [[one_line(cell) for cell in row] for row in rows]
    widths = [max(map(cells, column)) for column in zip(*rows, strict=True)]
    return [line.rstrip() for row in rows for line in fitted(row, widths, room)]


def fields(row: Sequence[str]) -> None:
    """What has no columns on one line; on a terminal on as many as it takes."""
    is_wide = sys.stdout.isatty() and sum(map(cells, row)) + 2 * len(row) > width()
    for line in stacked(row, width()) if is_wide else ["  ".join(row)]:
        out(line)


def fitted(row: Sequence[str], widths: Sequence[int], room: int | None) -> list[str]:
    """A row's lines: its last cell goes on below itself, or all of them below the first."""
    padded = [f"{cell}{' ' * (wide - cells(cell))}" for cell, wide in zip(row, widths, strict=True)]
    if room is None or sum(widths) + 2 * len(widths) - 2 <= room:
        return ["  ".join(padded)]
    before = "  ".join([*padded[:-1], ""])
    left = room - cells(before)
    if left >= LEAST:
        first, *more = _wrapped(row[-1], left) or [""]
        return [before + first, *(" " * cells(before) + each for each in more)]
    return stacked(row, room)


def stacked(row: Sequence[str], room: int) -> list[str]:
    """As many cells on a line as it has room for; what follows the first line stands further in."""
    lines = [""]
    for cell in filter(None, row):
        both = f"{lines[-1]}  {cell}" if lines[-1].strip() else f"{lines[-1]}{cell}"
        if cells(both) <= room:
            lines[-1] = both
        else:
            lines += [f"{INDENT}{each}" for each in _wrapped(cell, room - len(INDENT))]
    return [line for line in lines if line.strip()]


def wrapped(text: str, stream: IO[str]) -> str:
    """In a terminal as lines of its width, which break no word, and no command that fits on one.

    What can't be broken elsewhere (a pipe, a file) stays whole; so does what is copied in a line.
    """
    if not stream.isatty():
        return text
    room = width()
    lines = (_lines(line, room) for line in text.split("\n"))
    return "\n".join(each for line in lines for each in line)


def _lines(line: str, room: int) -> list[str]:
    if cells(line) <= room:
        return [line]

    def held(found: re.Match[str]) -> str:
        return found[0].replace(" ", HELD) if cells(found[0]) <= room else found[0]

    indent = line[: len(line) - len(line.lstrip())]
    words = re.sub(r"\binv [^,;:]+", held, line.lstrip())
    return [indent + each.replace(HELD, " ") for each in _wrapped(words, room - len(indent))]


def _wrapped(text: str, room: int) -> list[str]:
    """Its words on lines of so many cells; a word that is wider is cut."""
    lines = [""]
    for word in text.split(" "):
        both = f"{lines[-1]} {word}" if lines[-1] else word
        if cells(both) <= room:
            lines[-1] = both
            continue
        lines += [""] if lines[-1] else []
        for letter in word:
            if cells(lines[-1] + letter) > room:
                lines.append("")
            lines[-1] += letter
    return lines


def cells(text: str) -> int:
    """How many cells of a terminal a text takes: a Chinese character takes two."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


_shown: ContextVar[bool] = ContextVar("shown", default=False)


def is_shown() -> bool:
    """Whether something shows all the time how far the command is."""
    return _shown.get()


@contextmanager
def shown() -> Iterator[None]:
    """Within it that is so: nothing else need be said of a wait."""
    token = _shown.set(True)
    try:
        yield
    finally:
        _shown.reset(token)


@contextmanager
def progress() -> Iterator[Callable[[Progress], None]]:
    """Shows ranks while they start: a live table on a terminal, else a line per change."""
    if not is_colourful(sys.stderr):
        yield _PlainScreen()
        return
    from rich.console import Console
    from rich.live import Live

    with shown(), Live(console=Console(stderr=True), refresh_per_second=8, transient=True) as live:
        yield lambda now: live.update(_live(now))


class _PlainScreen:
    """A line whenever the state changes, and a sign of life every 10 seconds."""

    def __init__(self) -> None:
        self.seen: dict[int, str] = {}
        self.said = ""
        self.spoke = time.monotonic()

    def __call__(self, now: Progress) -> None:
        for view in now.ranks:
            # What an engine without an entry is doing nobody can tell.
            if self.seen.get(view.rank) != view.state in ("running", "dead", "unknown"):
                self._say(now, f"rank {view.rank} on {view.host}: {view.state}")
            self.seen[view.rank] = view.state
        if self.said != now.health.state in (readiness.JOINING, readiness.LOADING):
            self._say(now, _phase(now))
        self.said = now.health.state
        if time.monotonic() - self.spoke > 10:
            last = next((view.last for view in now.ranks if view.last), "")
            self._say(now, f"still {_phase(now)}  {one_line(last)[:100]}".rstrip())
        elif isinstance(sys.stderr, _Held):  # which clears the line before it shows what is said
            tick(elapsed(now))

    def _say(self, now: Progress, text: str) -> None:
        self.spoke = time.monotonic()
        say(f"{now.seconds:5.1f} s  {text}")


def elapsed(now: Progress) -> str:
    """How far a start is, after how long."""
    return f"{now.seconds:5.1f} s  {_phase(now)}"


def _phase(now: Progress) -> str:
    """How far it is, and how long the rest of a load will take."""
    left = f", about {now.left:.0f} s left" if now.left else ""
    return f"{now.health}{left}"


def _live(now: Progress) -> Group:
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.text import Text

    head = Text(f"{now.seconds:.1f} s  {_phase(now)}", no_wrap=True, overflow="ellipsis")
    bar = [ProgressBar(100, 100 * now.share, width=40)] if now.share is not None else []
    return Group(head, *bar, _grid(now))


def _grid(now: Progress) -> Table:
    from rich.table import Table
    from rich.text import Text

    # Rich would shrink all columns alike where the last lines of the logs are long.
    cells = [(f"rank {view.rank}", view.host, view.state) for view in now.ranks]
    left = [max(map(len, each)) for each in zip(*cells, strict=True)] or [0, 0, 0]
    grid = Table.grid(padding=(0, 2), expand=True)
    for width in left:
        grid.add_column(no_wrap=True, width=max(width, 8))
    grid.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    for view in now.ranks:
        style = "red" if view.state in ("dead", "unknown") else "green"
        word = Text(view.state, style=style)
        grid.add_row(Text(f"rank {view.rank}"), Text(view.host), word, Text(one_line(view.last)))
    return grid
