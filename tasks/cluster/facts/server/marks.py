"""A rank's marks: how far it came, as its entry wrote it (tasks/remote/entry.py). Pure."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

WRONG_WORLD = 80  # exit status of a rank whose group is not the one that was asked for
NO_BACKEND = 81  # ... whose MLX has not got the backend
NOT_JOINED = 82  # ... whose MLX could not join the others, and said why

T = TypeVar("T")
MarkWords = Mapping[str, str]


@dataclass(frozen=True)
class Importing:
    """Python runs. `stacks` is the signal that has it write all stacks to its log."""

    at: float
    pid: int
    stacks: str


@dataclass(frozen=True)
class Meeting:
    """MLX waits for the other ranks, `limit` seconds at most; then the rank ends with status 1."""

    at: float
    limit: float


@dataclass(frozen=True)
class Joined:
    """All ranks have met, after `seconds`; `versions` are those of python, mlx, mlx-lm ..."""

    at: float
    rank: int
    size: int
    backend: str
    seconds: float
    versions: Mapping[str, str]


@dataclass(frozen=True)
class Loading:
    """Bytes of the weights read so far, of those that this rank will read."""

    at: float
    bytes: int
    of: int


@dataclass(frozen=True)
class Left:
    """An orderly end, with the exit status that the server asked for."""

    at: float
    status: int


@dataclass(frozen=True)
class Marks:
    """What a rank has reached; None for what it has not (or not yet).

    `loading` is None, too, where its entry knew no weights.
    """

    importing: Importing | None = None
    meeting: Meeting | None = None
    joined: Joined | None = None
    loading: Loading | None = None
    left: Left | None = None


def parse(text: str) -> Marks:
    """The marks in a file's text; the last of each kind counts.

    What another version may add (names, keys) is passed over, and so are a line that is still being
    written and one that can't be read: what it would have said has not been reached.
    """
    found: dict[str, dict[str, str]] = {}
    for line in text.split("\n")[:-1]:
        name, _, rest = line.partition(" ")
        at, *pairs = rest.split(" ")
        found[name] = {"at": at, **dict(pair.partition("=")[::2] for pair in pairs)}
    return Marks(
        importing=_made(_importing, found.get("importing")),
        meeting=_made(_meeting, found.get("meeting")),
        joined=_made(_joined, found.get("joined")),
        loading=_made(_loading, found.get("loading")),
        left=_made(_left, found.get("left")),
    )


def _made(make: Callable[[MarkWords], T], words: MarkWords | None) -> T | None:
    try:
        return None if words is None else make(words)
    except (KeyError, ValueError):
        return None


def _importing(words: MarkWords) -> Importing:
    return Importing(_number(words["at"]), int(words["pid"]), words["stacks"])


def _meeting(words: MarkWords) -> Meeting:
    return Meeting(_number(words["at"]), _number(words["limit"]))


def _joined(words: MarkWords) -> Joined:
    own = ("at", "rank", "size", "backend", "seconds")
    return Joined(
        _number(words["at"]),
        int(words["rank"]),
        int(words["size"]),
        words["backend"],
        _number(words["seconds"]),
        {name: value for name, value in words.items() if name not in own},
    )


def _loading(words: MarkWords) -> Loading:
    read, of = int(words["bytes"]), int(words["of"])
    if not 0 <= read <= of:
        raise ValueError(f"{read} bytes of {of}")
    return Loading(_number(words["at"]), read, of)


def _left(words: MarkWords) -> Left:
    return Left(_number(words["at"]), int(words["status"]))


def _number(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is no number")
    return number
