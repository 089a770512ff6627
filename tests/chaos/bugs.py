"""Eight bugs to be found: each is seeded into a copy of this checkout, where the walk is then run.

A walk that finds none of them proves nothing by finding nothing else.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PARTS = ("tasks", "tests", "hosts", "tasks.py", "invoke.yaml", "pyproject.toml")


@dataclass(frozen=True)
class Patch:
    """Text of the tasks that is there once, wherever that is, and what stands in its place."""

    old: str
    new: str

    def apply(self, checkout: Path) -> Path:
        """Patch the file, and give it."""
        files = [
            path for path in (checkout / "tasks").rglob("*.*") if path.suffix in (".py", ".sh")
        ]
        found = [path for path in files for _ in range(path.read_text().count(self.old))]
        if len(found) != 1:
            raise ValueError(f"{self.old!r} is there {len(found)} times, not once")
        found[0].write_text(found[0].read_text().replace(self.old, self.new))
        return found[0]


@dataclass(frozen=True)
class Bug:
    """What is wrong, and which invariants it breaks."""

    about: str
    patches: Sequence[Patch]
    breaks: Sequence[str]


BUGS = {
    "no-fence": Bug(
        "a node lets a lower number act",
        [
            Patch(
                '  [ "$hold" = "$of" ] || [ "$fence" -gt "$highest" ] || return\n',
                "",
            )
        ],
        ["who lost the cluster does not act", "what was started lives", "a stop by a person stays"],
    ),
    "kill-first": Bug(
        "tp.stop sends SIGKILL at once",
        [Patch("    if left and not force:\n", "    if left and force:\n")],
        ["ranks end in order"],
    ),
    "forgotten-early": Bug(
        "the record is forgotten before its ranks are signalled",
        [
            Patch(
                '        tell(f"stopping {_labels(left)}")\n',
                "        forget(cluster, [StopReport(node.name) for node in cluster.nodes])\n",
            ),
            Patch(
                'is_open "$at" && ! living "$at"/rank-*.pid && :',
                'is_open "$at" && :',
            ),
        ],
        ["each rank is known", "status tells what is there"],
    ),
    "lock-kept": Bug(
        "the lock's keeper ends without giving it back",
        [
            Patch(
                'release() { is_mine && remove "$token"; }',
                "release() { :; }",
            )
        ],
        ["no lock stays"],
    ),
    "stop-undone": Bug(
        "tp.watch --restart starts again what a person has stopped",
        [
            Patch(
                "        if found.state == readiness.STOPPED:\n",
                "        if found.state == readiness.UNKNOWN:\n",
            ),
            Patch(
                "    if wanted and wanted.state == readiness.STOPPED:\n",
                "    if wanted and wanted.state == readiness.UNKNOWN:\n",
            ),
        ],
        ["a stop by a person stays"],
    ),
    "bystander": Bug(
        "tp.stop ends every server of the engine",
        [
            Patch(
                "        if everything:\n            listed =",
                "        if not run:\n            listed =",
            )
        ],
        ["bystanders live", "another cluster goes its way"],
    ),
    "torn-write": Bug(
        "the record is written in place",
        [Patch('>"$at/$2.$$" && mv "$at/$2.$$" "$at/$2"', '>"$at/$2"')],
        ["no file is torn"],
    ),
    "unknown-start": Bug(
        "tp.status knows of rank 0 only, until a server is ready",
        [
            Patch(
                "    if health.state == readiness.UNKNOWN:\n",
                "    if health.state in readiness.COMING:\n"
                '        found["ranks"] = [row for row in found["ranks"] if not row["rank"]]\n'
                "    if health.state == readiness.UNKNOWN:\n",
            )
        ],
        ["status tells what is there"],
    ),
    "unknown-rank": Bug(
        "tp.status knows of rank 0 only",
        [
            Patch(
                "[_rank_row(read, node, rank) for node, rank in read.ranks]\n",
                "[_rank_row(read, node, rank) for node, rank in read.ranks if not rank.rank]\n",
            )
        ],
        ["status tells what is there"],
    ),
}


def run(name: str, steps: int, seed: int, seconds: float) -> int:
    """Walk with the bug, and say where it was found: 0, or 4 where it was not."""
    bug = BUGS[name]
    with tempfile.TemporaryDirectory(prefix="chaos-bug-") as folder:
        checkout = Path(folder)
        checkout.chmod(0o755)
        copy(checkout, bug)
        line = [sys.executable, "-m", "chaos", "--steps", str(steps), "--seed", str(seed)]
        line += ["--seconds", str(seconds)] if seconds != float("inf") else []
        env = {**os.environ, "PYTHONPATH": f"{checkout / 'tests'}:{checkout}"}
        last = ""
        with subprocess.Popen(
            line, cwd=checkout, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as walk:
            assert walk.stdout
            for last in walk.stdout:
                print(last, end="", flush=True)
    return tell(name, bug, last)


def tell(name: str, bug: Bug, last: str) -> int:
    """Of the walk's last line: whether this bug was found, in a line."""
    found = re.match(r"found, seed (\d+), step (\d+): ([^:]+):", last)
    if found and found[3] in bug.breaks:
        print(f"bug {name} ({bug.about}): seed {found[1]}, step {found[2]}: {found[3]}")
        return 0
    print(f"bug {name} ({bug.about}): not found")
    return 4


def copy(checkout: Path, bug: Bug) -> None:
    """This checkout, with the bug; ValueError where the code is not what the bug was made for."""
    for part in PARTS:
        if (ROOT / part).is_dir():
            ignore = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / part, checkout / part, ignore=ignore)
        else:
            shutil.copy(ROOT / part, checkout)
    for patch in bug.patches:
        patch.apply(checkout)


if __name__ == "__main__":
    print("\n".join(BUGS))
