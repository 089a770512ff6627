"""Gates: commands on the PATH that wait, while their gate is shut, before they are what they are.

So a test holds a run at one place of it for as long as it likes, without guessing how long it
takes to come there.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from conftest import wait_for

# Which place a gate on a command stands for: it is the only one where that command is called.
PREFLIGHT = "ps"  # the processes of a node are read: by tp.preflight, tp.stop and tp.status
LAUNCH = "dirname"  # a rank is about to be started
COLLECT = "cksum"  # logs are collected: first when a server is ready, before its health is asked
RANK = "python"  # a rank has been started, and does nothing yet; rank 0 takes the others along

# A rank before its gate ends as those of both engines do: rank 0 by SIGTERM, the others with it.
_RANK = """\
    if [ -e "$g.deaf" ]; then trap ': >"$g.ignored.$$"' TERM INT
    elif [ "$MLX_RANK" = 0 ]; then : >"$g.leader"
      trap 'rm -f "$g.leader"; trap - TERM; kill $$' TERM INT; fi
    led=
"""
_FOLLOW = '[ ! -e "$g.leader" ] || led=1; [ -z "$led" ] || [ -e "$g.leader" ] || exit 1; '


class Gates:
    """`folder` is for the PATH; each gate has a file there while it is shut."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        folder.chmod(0o777)  # the user of test hosts is not root
        self._build(PREFLIGHT, str(shutil.which(PREFLIGHT)), "*")
        self._build(LAUNCH, str(shutil.which(LAUNCH)), "*")
        # With names it is the model's files that are compared.
        self._build(COLLECT, str(shutil.which(COLLECT)), "'  '")
        self._build(RANK, sys.executable, "*mlx_lm?server*|*light_rank.py*", _RANK, _FOLLOW)

    @property
    def python(self) -> str:
        """The ranks' python, with a gate before the server."""
        return str(self.folder / RANK)

    def shut(self, name: str, after: int = 0) -> None:
        """Let `after` calls pass, and hold those that follow."""
        for state in ("arrived", "leader"):
            (self.folder / f"{name}.{state}").unlink(missing_ok=True)
        (self.folder / f"{name}.passed").write_text("")
        (self.folder / f"{name}.passed").chmod(0o666)
        # At once, with what is in it: who finds it reads it.
        new = self.folder / f"{name}.new"
        new.write_text(f"{after}\n")
        new.rename(self.folder / f"{name}.shut")

    def open(self, *names: str) -> None:
        for name in names or (PREFLIGHT, LAUNCH, COLLECT, RANK):
            (self.folder / f"{name}.shut").unlink(missing_ok=True)

    def deafen(self) -> None:
        """Let ranks that stand before their gate stay there when SIGTERM comes."""
        (self.folder / f"{RANK}.deaf").touch()

    @property
    def ignored(self) -> int:
        """How many SIGTERMs deaf ranks have got."""
        return len(list(self.folder.glob(f"{RANK}.ignored.*")))

    def wait_for(self, name: str) -> None:
        """Until somebody stands before the gate."""
        wait_for(self._arrived(name).exists)

    def _arrived(self, name: str) -> Path:
        return self.folder / f"{name}.arrived"

    def _build(self, name: str, real: str, held: str, first: str = "", each: str = "") -> None:
        gate = self.folder / name
        gate.write_text(
            f"#!/bin/sh\ng='{gate}'\n"
            f'case " $* " in {held})\n'
            f'  if [ -e "$g.shut" ] && after=$(cat "$g.shut" 2>/dev/null); then\n{first}'
            '    echo >>"$g.passed"\n'
            '    if [ $(($(wc -l <"$g.passed"))) -gt "$after" ]; then\n'
            f'      : >"$g.arrived"; while [ -e "$g.shut" ]; do {each}sleep 0.05; done\n'
            "    fi\n  fi ;;\nesac\n"
            f'exec {real} "$@"\n'
        )
        gate.chmod(0o755)
