"""ps, pgrep and pkill, from the real /proc, in the columns of Apple's (adv_cmds, ps/keyword.c)."""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from . import apple, getopts, node

TICKS = os.sysconf("SC_CLK_TCK")
SHELL = [f"{node.RIG}/bin/sh", "-O", "xpg_echo"]  # what /bin/sh of a strict host is


@dataclass(frozen=True)
class Process:
    """`fields` are those of /proc/PID/stat after the name, the first of them the state."""

    pid: int
    name: str
    fields: tuple[str, ...]

    def _read(self, file: str) -> list[str]:
        try:
            with open(f"{node.PROC}/{self.pid}/{file}", "rb") as opened:
                return [os.fsdecode(each) for each in opened.read().split(b"\0") if each]
        except OSError:
            return []

    @cached_property
    def uid(self) -> int:
        try:
            return os.stat(f"{node.PROC}/{self.pid}").st_uid
        except OSError:
            return 0

    @property
    def ppid(self) -> int:
        return int(self.fields[1])

    @cached_property
    def words(self) -> list[str]:
        """Its command line, as on a Mac: a stand-in, sh and launchd are no scripts there."""
        words = self._read("cmdline")
        if self.pid == 1:
            return ["/sbin/launchd"]
        if len(words) > 1 and words[0].endswith("/perl") and _is_stand_in(words[1]):
            return words[1:]
        return ["/bin/sh", *words[3:]] if words[:3] == SHELL else words

    @property
    def environment(self) -> list[str]:
        """What its owner and root may see of it."""
        return self._read("environ") if node.client.user in (0, self.uid) else []

    @property
    def start(self) -> float:
        return _booted() + int(self.fields[19]) / TICKS


def _is_stand_in(path: str) -> bool:
    try:
        return os.readlink(path).startswith(node.RIG)
    except OSError:
        return False


def _booted() -> float:
    with open(f"{node.PROC}/stat") as file:
        return float(re.findall(r"^btime (\d+)$", file.read(), re.M)[0])


def processes() -> Iterator[Process]:
    """All of the host, but for a child of process 1 that looks."""
    looks = os.getpid()
    for name in os.listdir(node.PROC):
        if name.isdigit() and (int(name) != looks or looks == 1):
            try:
                with open(f"{node.PROC}/{name}/stat") as file:
                    head, _, rest = file.read().rpartition(")")
            except OSError:
                continue
            yield Process(int(name), head.partition("(")[2], tuple(rest.split()))


def _state(one: Process) -> str:
    letter = {"D": "U", "t": "T", "I": "S"}.get(one.fields[0], one.fields[0])
    return letter + ("s" if int(one.fields[3]) == one.pid else "")


def _command(one: Process) -> str:
    return " ".join(one.words) or f"({one.name})"


def _program(one: Process) -> str:
    return one.words[0] if one.words else f"({one.name})"


def _user(one: Process) -> str:
    try:
        return pwd.getpwuid(one.uid).pw_name
    except KeyError:
        return str(one.uid)


def _time(one: Process) -> str:
    seconds = (int(one.fields[11]) + int(one.fields[12])) / TICKS
    return f"{int(seconds) // 60}:{seconds % 60:05.2f}"


def _elapsed(one: Process) -> str:
    minutes, seconds = divmod(int(time.time() - one.start), 60)
    days, hours = divmod(minutes // 60, 24)
    text = f"{hours:02}:{minutes % 60:02}:{seconds:02}" if hours else f"{minutes:02}:{seconds:02}"
    return f"{days:02}-{text}" if days else text


# keyword -> (header, width: negative is on the left, its text)
COLUMNS: dict[str, tuple[str, int, Callable[[Process], object]]] = {
    "pid": ("PID", 5, lambda one: one.pid),
    "ppid": ("PPID", 5, lambda one: one.ppid),
    "pgid": ("PGID", 5, lambda one: one.fields[2]),
    "uid": ("UID", 5, lambda one: one.uid),
    "user": ("USER", -16, _user),
    "rss": ("RSS", 6, lambda one: int(one.fields[21]) * 4),
    "stat": ("STAT", -4, _state),
    "state": ("STAT", -4, _state),
    "tty": ("TTY", -8, lambda one: "??"),
    "time": ("TIME", 9, _time),
    "etime": ("ELAPSED", 11, _elapsed),
    "lstart": ("STARTED", -28, lambda one: time.strftime("%c", time.localtime(one.start))),
    "comm": ("COMM", -16, _program),
    "command": ("COMMAND", -16, _command),
    "args": ("ARGS", -16, _command),
}


def ps(words: list[str]) -> int:
    row = apple.find("ps")
    assert row
    first = words[:1] and not words[0].startswith("-")
    line = [f"-{words[0]}", *words[1:]] if first else words
    found = getopts.short("ps", row.old if first else row.options, line)
    flags = {letter: value or "" for letter, value in found.options}
    asked = [each for letter, value in found.options if letter in "oO" for each in _keys(value)]
    columns = asked or [(key, COLUMNS[key][0]) for key in ("pid", "tty", "time", "command")]
    pids = {int(each) for text in [flags.get("p", ""), *found.operands]
            for each in re.findall(r"\d+", text)}  # fmt: skip
    is_all = "A" in flags or {"a", "x"} <= flags.keys() or "e" in flags
    shown = [
        one for one in sorted(processes(), key=lambda one: one.pid)
        if (one.pid in pids if pids else is_all or one.uid == node.client.user)
    ]  # fmt: skip
    if any(header for _, header in columns):
        print(_line([(key, header) for key, header in columns]))
    for one in shown:
        told = [(key, str(COLUMNS[key][2](one))) for key, _ in columns]
        if "E" in flags and told[-1][0] in ("command", "args"):
            told[-1] = (told[-1][0], " ".join([told[-1][1], *one.environment]))
        print(_line(told))
    return 0 if shown else 1


def _keys(value: str | None) -> list[tuple[str, str]]:
    """`pid=,comm`: each keyword and its header."""
    words = [each for each in re.split("[ ,]", value or "") if each]
    return [
        (key, header if equals else COLUMNS[key][0])
        for key, equals, header in (each.partition("=") for each in words)
    ]


def _line(row: list[tuple[str, str]]) -> str:
    cells = [
        f"{text:<{-width}}" if (width := COLUMNS[key][1]) < 0 else f"{text:>{width}}"
        for key, text in row
    ]
    return " ".join([*cells[:-1], cells[-1].rstrip()])


def pgrep(words: list[str]) -> int:
    found = _matching("pgrep", words)
    flags = _flags("pgrep", words)
    for one in found:
        named = _command(one) if "f" in flags else one.name
        print(f"{one.pid} {named}" if "l" in flags else one.pid)
    return 0 if found else 1


def pkill(words: list[str]) -> int:
    number = signal.SIGTERM
    if words and re.fullmatch(r"-(\d+|[A-Z]+)", words[0]):
        name, *words = words
        given = name[1:].removeprefix("SIG")
        number = signal.Signals(int(given)) if given.isdigit() else signal.Signals[f"SIG{given}"]
    found = _matching("pkill", words)
    for one in found:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(one.pid, number)
    return 0 if found else 1


def _flags(name: str, words: list[str]) -> Mapping[str, str]:
    row = apple.find("pgrep")
    assert row
    found = getopts.short(name, row.options, words)
    return {letter: value or "" for letter, value in found.options} | {"": "|".join(found.operands)}


def _matching(name: str, words: list[str]) -> list[Process]:
    """Those that a pattern fits, but for whoever asks and all above it."""
    flags = _flags(name, words)
    here = {one.pid: one for one in processes()}
    above, at = set(), node.client.pid
    while at in here and "a" not in flags:
        above.add(at)
        at = here[at].ppid
    fits = re.compile(flags[""]).fullmatch if "x" in flags else re.compile(flags[""]).search
    return [
        one for one in sorted(here.values(), key=lambda one: one.pid)
        if one.pid not in above and one.fields[0] != "Z"
        and fits(_command(one) if "f" in flags else one.name)
    ]  # fmt: skip
