"""A file that an option names for what a task has found out: `--out`, `--write`, `--svg`."""

import tempfile
from pathlib import Path

from ..cli import screen
from ..cluster.errors import ActionFailed, BadInput


def check(file: str | None, option: str = "--out") -> None:
    """Raise BadInput where it can't be one: before the work, not after it."""
    if not file:
        return
    path = Path(file).expanduser().absolute()
    if path.is_dir():
        raise BadInput(f"{option} {file}: is a folder: name a file in it")
    if not path.parent.is_dir():
        raise BadInput(f"{option} {file}: there is no folder {Path(file).parent}: make it first")


def write(file: str, text: str, option: str = "--out") -> None:
    """Write beside the file and move it there: no reader sees half of it, no failure loses it.

    One that was there keeps who may read it: a hostfile may hold secrets.
    """
    path = Path(file).expanduser()
    try:
        mode = path.stat().st_mode & 0o777 if path.exists() else 0o644
        with tempfile.NamedTemporaryFile("wb", dir=path.parent, delete=False) as new:
            new.write(text.encode())
        Path(new.name).chmod(mode)
        Path(new.name).replace(path)
    except OSError as error:
        raise ActionFailed(f"{option} {file}: can't be written ({error.strerror})") from None
    screen.say(f"written: {path}")
