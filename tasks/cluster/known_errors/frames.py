"""Which file raised what a line says: the innermost frame of the traceback before it. Pure."""

import re

_FRAME = re.compile(r'\bFile (?:"([^"]{1,400})", line |(\S{1,400}\.py):)\d')
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
