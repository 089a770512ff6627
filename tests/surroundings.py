"""What `inv` may find around it: locales, streams, folders. Each is made for real, by a shell.

A level of a factor is variables, or lines of sh before the command; they have a mount namespace of
their own. By the user database the user is at home in `inv.home`, whatever `$HOME` says.
"""

from __future__ import annotations

import itertools
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from conftest import DEADLINE, ROOT, Done, Inv

# None is for what is not there.
ASCII: dict[str, str | None] = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
VARIABLES: dict[str, dict[str, str | None]] = {
    "C": ASCII,
    "latin-1": {**ASCII, "PYTHONIOENCODING": "latin-1"},
    "no HOME": {"HOME": None},
    "HOME empty": {"HOME": ""},
    "no TERM": {"TERM": None},
}
# A checkout that lies in /tmp stays there, full as that is.
KEEP = f"mount -t tmpfs none /mnt && mkdir /mnt/x && mount --bind {ROOT} /mnt/x"
BACK = f"mkdir -p {ROOT} && mount --bind /mnt/x {ROOT}"
IN_TMP = ROOT.is_relative_to("/tmp")
FULL = "head -c 1m /dev/zero >/tmp/all 2>/dev/null"
SMALL = "mount -t tmpfs -o size=64k none /tmp"
SHELL = {
    "no stdin": "exec <&-",
    "no stdout": "exec >&-",
    "no stderr": "exec 2>&-",
    "umask 077": "umask 077",
    "read-only": "mount --bind . . && mount -o remount,bind,ro . && cd .",
    "full /tmp": "\n".join([KEEP, SMALL, BACK, FULL] if IN_TMP else [SMALL, FULL]),
}
ODD = "ein schöner Ördner"
FACTORS: dict[str, tuple[str, ...]] = {
    "streams": ("", "no stdin", "no stdout", "no stderr"),
    "locale": ("", "C", "latin-1"),
    "home": ("", "no HOME", "HOME empty"),
    "checkout": ("", "read-only"),
    "folder": ("", ODD),
    "tmp": ("", "full /tmp"),
    "term": ("", "no TERM"),
    "umask": ("", "umask 077"),
}
ALONE = [{factor: level} for factor, levels in FACTORS.items() for level in levels[1:]]


@dataclass
class Surroundings:
    """Two checkouts beside `inv.home`, one of which has a name with blanks and umlauts."""

    inv: Inv

    @property
    def base(self) -> Path:
        return self.inv.home.parent

    def up(self) -> None:
        for name in ("plain", ODD):
            for part in ("tasks", "hosts", "tests/rig"):
                ignore = shutil.ignore_patterns("__pycache__")
                shutil.copytree(ROOT / part, self.base / name / part, ignore=ignore)
            for part in ("tasks.py", "invoke.yaml"):
                shutil.copy(ROOT / part, self.base / name)
        _, *others = Path("/etc/passwd").read_text().splitlines()
        root = f"root:x:0:0:root:{self.inv.home}:/bin/sh"
        (self.base / "passwd").write_text("\n".join([root, *others, ""]))

    def run(self, line: str, levels: Mapping[str, str], code: int | None = None) -> Done:
        """`inv LINE` in these surroundings; the exit status must be `code`, where one is said."""
        chosen = [level for level in levels.values() if level]
        env: dict[str, str | None] = {**self.inv.environment(), "TERM": "xterm"}
        for level in chosen:
            env |= VARIABLES.get(level, {})
        # A stream is closed last: what comes before may have something to say.
        ordered = sorted(chosen, key=lambda level: level.startswith("no std"))
        said = [SHELL[level] for level in ordered if level in SHELL]
        config = ["-f", str(self.inv.config)] if self.inv.config else []
        words = shlex.join([sys.executable, "-m", "invoke", *config, *shlex.split(line)])
        alone = [*self.inv.inside, "unshare", "--mount", "sh", "-c"]
        mount = f"mount --bind {self.base}/passwd /etc/passwd"
        done = subprocess.run(
            [*alone, "\n".join([mount, *said, f"exec {words}"])],
            env={name: value for name, value in env.items() if value is not None},
            cwd=self.base / (levels.get("folder") or "plain"),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=DEADLINE,
            check=False,
        )
        out, err = (stream.decode("utf-8", "replace") for stream in (done.stdout, done.stderr))
        where = f"inv {line} with {', '.join(chosen) or 'nothing odd'}: exit {done.returncode}"
        assert "Traceback" not in out + err, f"{where}\n{err}"
        assert code in (None, done.returncode), f"{where}, not {code}\n{out}\n{err}"
        return Done(done.returncode, out, err)


def pairwise(factors: Mapping[str, Sequence[str]]) -> Iterator[dict[str, str]]:
    """Rows in which any two levels of two factors meet at least once; few, not the fewest."""
    left = {
        pair
        for a, b in itertools.combinations(factors, 2)
        for pair in itertools.product(((a, x) for x in factors[a]), ((b, y) for y in factors[b]))
    }
    while left:
        row = dict(min(left))
        for name in factors:
            if name not in row:
                met = {x: len(_pairs({**row, name: x}, factors) & left) for x in factors[name]}
                row[name] = max(met, key=met.__getitem__)
        left -= _pairs(row, factors)
        yield row


def _pairs(row: Mapping[str, str], factors: Mapping[str, Sequence[str]]) -> set[Any]:
    return set(itertools.combinations([(name, row[name]) for name in factors if name in row], 2))
