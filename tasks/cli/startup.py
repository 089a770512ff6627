"""What is to be there before any task runs, whatever `inv` was started from; and its last word.

cron, launchd, services and containers leave out a home, streams, a locale that has the characters.
"""

import atexit
import errno
import gc
import io
import os
import pwd
import sys
from collections.abc import Mapping
from pathlib import Path
from traceback import walk_tb
from types import TracebackType
from typing import Any

from .. import cli
from ..cluster.config.settings import unreadable
from ..cluster.text import one_line

# Of a reader that has gone, and of a disk: what a user mends, and no bug of ours.
_UNWRITABLE = {errno.EPIPE, errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG, errno.EIO}


def begin() -> None:
    """Complete the process's surroundings; Invoke's own errors are told in a line from here on."""
    # Invoke keeps no compiled modules (--write-pyc), and each run would compile all of ours anew.
    sys.dont_write_bytecode = bool(sys.flags.dont_write_bytecode)
    _complete_streams()
    _complete_home()
    sys.excepthook = _tell
    # At its end Python would look for garbage in all that was imported, once more.
    atexit.register(gc.freeze)
    atexit.register(_flush)


def _complete_streams() -> None:
    """Nothing that is opened later may come to be stdin, stdout or stderr of what is run here."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            # The lowest number that is free is this one.
            os.open(os.devnull, os.O_RDWR)
            setattr(sys, name, os.fdopen(number, "w" if number else "r"))
    for stream in (sys.stdout, sys.stderr):
        # What a terminal without UTF-8 can't show is written out (\u2026) and ends nothing.
        if isinstance(stream, io.TextIOWrapper) and stream.errors in ("strict", "surrogateescape"):
            stream.reconfigure(errors="backslashreplace")


def _complete_home() -> None:
    """Without HOME, ~ is what the user database says, here as on the nodes."""
    try:
        home = pwd.getpwuid(os.getuid()).pw_dir
    except KeyError:  # a container's user may have no entry
        home = "/"
        os.environ.setdefault("LOGNAME", str(os.getuid()))
    os.environ["HOME"] = os.environ.get("HOME") or home


def _flush() -> None:
    """What can't be written any more is a line too, where Python itself would tell of a bug."""
    try:
        sys.stdout.flush()
    except OSError as error:
        _end(error)


def _end(error: OSError) -> None:
    """End where nothing more can be written: at `| head`, or on a disk that is full."""
    if not isinstance(error, BrokenPipeError):
        file = one_line(str(error.filename or "stdout or a temporary file"))
        print(f"{file}: {error.strerror}", file=sys.stderr, flush=True)
    os._exit(141 if isinstance(error, BrokenPipeError) else 4)


def _tell(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Python's excepthook: Invoke would end with a traceback where a user's file is broken."""
    if isinstance(error, OSError) and error.errno in _UNWRITABLE:
        _end(error)
    line = _of_invoke(error, {each.f_code.co_name: each.f_locals for each, _ in walk_tb(trace)})
    if not (line := line or _of_own_file(error, trace)):
        sys.__excepthook__(kind, error, trace)
        return
    print(cli.screen.wrapped(one_line(line), sys.stderr), file=sys.stderr)
    sys.exit(2)


def _of_invoke(error: BaseException, frames: Mapping[str, Mapping[str, Any]]) -> str:
    """What is wrong with a configuration that Invoke has stumbled over; "" for any other error."""
    if frames.keys() & {"load_project", "update_config"}:
        merging = frames.get("_merge_file", {}).get("path")
        file = merging or frames.get("_load_file", {}).get("filepath")
        return unreadable(error, file, frames.get("merge_dicts", {}).get("key"))
    named = frames.get("execute", {}).get("config_path")
    return f"tasks.executor_class {named}: {error}: {OURS}" if named else ""


def _of_own_file(error: BaseException, trace: TracebackType | None) -> str:
    """Where a task file of the user's own can't be loaded; "" where it is one of ours."""
    if "load_collection" not in {each.f_code.co_name for each, _ in walk_tb(trace)}:
        return ""
    if isinstance(error, SyntaxError):
        place, what = (error.filename or "", error.lineno), error.msg
    else:
        places = [(each.f_code.co_filename, number) for each, number in walk_tb(trace)]
        place = next(found for found in reversed(places) if not _is_librarys(found[0]))
        what = str(error)
    if not place[0] or place[0].startswith(f"{Path(__file__).parents[1]}{os.sep}"):
        return ""
    return f"{place[0]}:{place[1]}: {type(error).__name__}: {what}"


def _is_librarys(file: str) -> bool:
    """Whether it is Python's, or of a package such as Invoke."""
    return file.startswith(("<frozen", f"{Path(os.__file__).parent}{os.sep}")) or PACKAGES in file


PACKAGES = f"{os.sep}site-packages{os.sep}"
OURS = (
    "write tasks: {executor_class: tasks.executor.Executor} into the invoke.yaml beside your task"
    " file, or take out the other one"
)
