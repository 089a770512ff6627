"""Where a server's key is: a variable, a file, a command. Never the key itself. Pure until read."""

import os
import re
import subprocess
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from .. import shell
from .values import NAME, Kind

SECONDS = 60  # that a command may take: a vault may ask for a finger
MOST = 65536  # characters: what has so many is another file
_FORMS = "env:NAME, file:PATH or command:LINE, never the key itself"


@dataclass(frozen=True)
class KeySource:
    """`kind` is "env", "file" or "command"; `name` the variable, the path or the line for sh."""

    kind: str
    name: str

    @cached_property
    def key(self) -> str:
        """The key, asked for once; raise ValueError with what is wrong, without a word of it."""
        if self.kind == "env":
            found = os.environ.get(self.name, "")
        elif self.kind == "file":
            found = self._of_file()
        else:
            found = self._of_command()
        if not (key := found.strip()):
            raise ValueError(f"{self} is empty, or not set")
        if not re.fullmatch("[!-~]+", key) or len(found) == MOST:
            raise ValueError(f"{self} holds no key: one word of ASCII")
        return key

    @property
    def shell(self) -> str:
        """Give the key in a line for a shell, between double quotes."""
        if self.kind == "env":
            return f"${self.name}"
        if self.kind == "command":
            return f"$({self.name})"
        tail = self.name.removeprefix("~/")
        home = "~/" if tail != self.name else ""
        return f"$(cat {home}{shell.quote(tail)})"

    def __str__(self) -> str:
        return f"${self.name}" if self.kind == "env" else f"{self.kind}:{self.name}"

    def _of_file(self) -> str:
        try:
            with Path(self.name).expanduser().open(encoding="utf-8", errors="replace") as file:
                return file.read(MOST)
        except (OSError, RuntimeError) as error:
            why = getattr(error, "strerror", None) or error
            raise ValueError(f"{self} can't be read ({why})") from None

    def _of_command(self) -> str:
        line = ["/bin/sh", "-c", self.name]
        try:
            done = subprocess.run(line, stdout=subprocess.PIPE, timeout=SECONDS, check=False)
        except (OSError, subprocess.TimeoutExpired):
            raise ValueError(f"{self} gave nothing within {SECONDS} s") from None
        if done.returncode:
            raise ValueError(f"{self} ended with status {done.returncode}")
        return done.stdout.decode("utf-8", "replace")


class KeyPlace(Kind):
    """Where a key is; what is no such place may be a key, and is not shown."""

    metavar, takes = "WHERE", _FORMS
    unset: tuple[object, ...] = (None, "")

    def read(self, value: object, where: str) -> KeySource:
        found = re.fullmatch(r"(env|file|command):\s*(\S[^\x00-\x1f\x7f]*)", str(value))
        found = found if isinstance(value, str) else None
        if not found or (found[1] == "env" and not re.fullmatch(NAME, found[2])):
            raise ValueError(f"{where} is wrong: give {_FORMS}")
        return KeySource(found[1], found[2])
