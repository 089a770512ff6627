"""Which file a line is from: a frame above it, the logger or exception it names. Pure."""

import re
import sys

_FRAME = re.compile(r'\bFile (?:"([^"]{1,400})", line |(\S{1,400}\.py):)\d')
# As logging's own forms and loguru's have it: ERROR:a.b:, a.b - ERROR, | ERROR | a.b:f:9.
_LOGGER = re.compile(
    r"\b(?:ERROR|CRITICAL)\b[\s|:-]{1,12}([a-z_][\w.]{2,120})[: ]"
    r"|(?<![\w.])([a-z_][\w.]{2,120}) - (?:ERROR|CRITICAL)\b"
)
# An exception that stands with its module: a.b.OddError: ...
_QUALIFIED = re.compile(r"(?<![\w./])([a-z_][\w.]{2,160}(?:Error|Exception|Timeout))(?=: |\(|$)")
_REACH = 12  # lines from a frame to its exception: source, marks, and what Python 3.13 folds


class Frames:
    """Takes a log's lines one by one, each rank's for themselves, and knows the frame of each."""

    def __init__(self) -> None:
        self._last: dict[str, tuple[str, int]] = {}

    def of(self, line: str, tag: str = "") -> str:
        """Give the file of the frame above this line, or nothing where none is near."""
        if "File " in line and (frame := _FRAME.search(line)):
            self._last[tag] = ((frame[1] or frame[2]).replace("\\", "/"), 0)
            return ""
        path, before = self._last.get(tag, ("", _REACH))
        self._last[tag] = (path, before + 1)
        return path if 0 < before < _REACH else ""  # the line after a frame is its code


def named(line: str) -> str:
    """Give the file of the logger that an ERROR line names, or else of its exception's module."""
    found = _LOGGER.search(line) if "ERROR" in line or "CRITICAL" in line else None
    name = (found[1] or found[2]) if found else ""
    if "." in name.strip("."):
        return f"/{name.replace('.', '/')}.py"
    found = _QUALIFIED.search(line)
    *module, _ = found[1].split(".") if found else [""]
    if not module or module[0] in sys.stdlib_module_names:
        return ""
    return f"/site-packages/{'/'.join(module)}/__init__.py"
