"""A file that an option names for what a task has found out: `--out`, `--write`, `--svg`."""

import os
import tempfile
from contextlib import suppress
from pathlib import Path

from ..cli import screen
from ..cluster.errors import ActionFailed, BadInput


def check(file: str | None, option: str = "--out") -> None:
    """Raise BadInput where it can't be one: before the work, not after it."""
    if not file:
        return
    path = _place(file, option)
    if path.is_dir():
        raise BadInput(f"{option} {file}: is a folder: name a file in it")
    if path.exists() and not path.is_file():
        # As root one would put a file in the place of /dev/null.
        raise BadInput(f"{option} {file}: is no plain file: name one that is, or a new one")
    if not path.parent.is_dir():
        given = Path(file).parent  # else a link leads away
        folder = path.parent if given.is_dir() else given
        raise BadInput(f"{option} {file}: there is no folder {folder}: make it first")


def write(file: str, text: str, option: str = "--out") -> None:
    """Write beside the file and move it there: no reader sees half of it, no failure loses it.

    One that was there keeps who may read it: a hostfile may hold secrets. A link leads to the file.
    """
    path = _place(file, option)
    try:
        replace(path, text)
    except OSError as error:
        raise ActionFailed(f"{option} {file}: can't be written ({error.strerror})") from None
    screen.say(f"written: {path}")


def replace(path: Path, text: str) -> None:
    """Put a whole new file in the place of `path`, or leave all as it was and raise OSError."""
    mode = path.stat().st_mode & 0o777 if path.exists() else 0o644
    handle, new = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:100]}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(text.encode())
            file.flush()
            os.fsync(handle)  # some disks tell only now that they are full
        Path(new).chmod(mode)
        Path(new).replace(path)
    except BaseException:
        with suppress(OSError):
            Path(new).unlink()
        raise


def _place(file: str, option: str) -> Path:
    """Where the file is, past all links: one that is replaced would be a link no more."""
    try:
        return Path(file).expanduser().resolve()
    except (OSError, RuntimeError, ValueError) as error:  # links in a circle, no such user, a NUL
        raise BadInput(f"{option} {file}: {error}") from None
