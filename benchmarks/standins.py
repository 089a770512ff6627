"""What a start of a test host's macOS command takes of CPU, against one of `true` in that host."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from .measure import ROOT, TIMES, Result, Row, Work, cpu, in_turn

sys.path.insert(0, str(ROOT / "tests"))

from rig import Rig

STARTS = 100  # in a row, by one shell
COMMANDS = {
    "sysctl -n hw.memsize": "which process 1 of the host answers itself",
    "ifconfig en5": "which it answers too, and asks `ip` after a change",
    "ibv_devinfo -v": "and so this one",
    "networksetup -listallhardwareports": "and so this one",
    "lsof -nP -iTCP:8080 -sTCP:LISTEN": "which looks into /proc",
    "sudo -n true": "the real one, behind a line of dash",
    "sed -n 1p /dev/null": "GNU's, behind a guard of Apple's words",
}


def run() -> Result:
    with tempfile.TemporaryDirectory() as folder:
        rig = Rig(Path(folder) / "rig", ("mac1",)).up()
        try:
            works = {line: starts(rig, line) for line in (*COMMANDS, "/usr/bin/true")}
            in_turn(works, times=1)
            samples = in_turn(works)
        finally:
            rig.down()
    true = samples.pop("/usr/bin/true")
    rows = []
    for line, spent in samples.items():
        what = f"a start of `{line}` ({COMMANDS[line]})"
        rows.append(Row(f"{what}, CPU", "`true`", spent, true, unit="ms"))
        rows.append(Row(f"{what}, CPU", "", spent, unit="ms", kind="most", goal=5))
    note = f"Each of {TIMES} samples is {STARTS} starts in a row, and counts what process 1 does."
    return Result(rows, [note])


def starts(rig: Rig, line: str) -> Work:
    """Milliseconds of CPU of one of so many starts: of what starts, and of process 1."""
    loop = f"i=0; while [ $i -lt {STARTS} ]; do {line} >/dev/null; i=$((i + 1)); done"

    def run() -> None:
        rig.run("mac1", loop)

    there = cpu(run)

    def work() -> float:
        before = of_first(rig)
        spent = there() or 0
        return (spent + of_first(rig) - before) * 1000 / STARTS

    return work


def of_first(rig: Rig) -> float:
    """Seconds of CPU that process 1 of the host, and the children that have ended, have taken."""
    fields = Path(f"/proc/{rig.machines['mac1'].pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
