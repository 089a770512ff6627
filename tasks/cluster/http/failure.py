"""Why a server could not be asked, or did not answer as it should. Pure."""

import json
import math
from collections.abc import Mapping
from enum import Enum
from typing import Any

from ..text import one_line

# JSON of a server, of whatever shape: who reads it minds NOT_AS_AGREED.
Json = Any
# What JSON of another shape than agreed raises where it is read.
NOT_AS_AGREED = (
    ValueError, KeyError, TypeError, IndexError, AttributeError, OverflowError, RecursionError,
)  # fmt: skip
_SAYS = ("message", "detail", "error", "msg")  # where servers' errors have their words
_FLAGS = (True, 1, "true")  # an error whose words stand beside it


class Why(Enum):
    """What kind of failure it is; its value is how long it has to last to be final, in seconds.

    A final one is no sign of a server's death: it lives, and can't be asked.
    """

    KEY = ("key", 0.0)  # 401, 403
    NO_WAY = ("no way", 0.0)  # the node's sshd forwards nothing, and nothing there can go between
    TLS = ("tls", 0.0)
    NOT_HTTP = ("not http", 3.0)
    NO_PAGE = ("no page", 10.0)  # 404
    REFUSED = ("refused", math.inf)  # nothing listens (yet)
    TIMEOUT = ("timeout", math.inf)
    BROKEN = ("broken", math.inf)  # the connection, without an answer
    STATUS = ("status", math.inf)  # another one than 200
    ANSWER = ("answer", math.inf)  # what it holds

    @property
    def lasts(self) -> float:
        return self.value[1]

    @property
    def is_final(self) -> bool:
        return self.lasts < math.inf


class ApiError(Exception):
    """The server did not answer as it should: `why`, and a message that says what it did."""

    def __init__(self, message: str, why: Why = Why.ANSWER) -> None:
        super().__init__(message)
        self.why = why

    @property
    def is_timeout(self) -> bool:
        return self.why is Why.TIMEOUT


class ApiTimeoutError(ApiError):
    """No answer in time: of a server that generates, this proves nothing."""

    def __init__(self, message: str) -> None:
        super().__init__(message, Why.TIMEOUT)


def error_of(data: object) -> str | None:
    """The words of a JSON document that is an error, else None.

    OpenAI's form is {"error": {"message": ...}}; others have {"error": "..."}, FastAPI {"detail":
    ...}, vLLM before 0.10 {"object": "error", "message": ...}.
    """
    if not isinstance(data, Mapping):
        return None
    if error := data.get("error") or data.get("errors"):
        beside = data.get("message") or data.get("msg") or data.get("detail")
        if error in _FLAGS:
            return words(beside or data)
        # Fastify has the status in words there, and what is wrong beside it.
        is_more = isinstance(error, str) and isinstance(beside, str) and beside != error
        return words(f"{error}: {beside}" if is_more else error)
    is_error = data.get("object") == "error" or data.get("type") == "error"
    if is_error or (data.get("detail") and "choices" not in data):
        return words(data)
    return None


def of_body(data: object) -> str | None:
    """The same of a whole body, which is an error wherever it says a thing and has no choices."""
    if found := error_of(data):
        return found
    if not isinstance(data, Mapping) or "choices" in data:
        return None
    said = next((data[key] for key in _SAYS if isinstance(data.get(key), str) and data[key]), None)
    return words(said) if said else None


def words(error: object) -> str:
    """What an error says, on one line of at most 200 characters."""
    if isinstance(error, Mapping):
        said = next((error[key] for key in _SAYS if error.get(key)), None)
        return words(said) if said is not None else one_line(json.dumps(error))[:200]
    if isinstance(error, list):
        return "; ".join(map(words, error[:3]))[:200]
    return one_line(str(error))[:200]


def said(text: str) -> str:
    """What a body of an answer that is no success says: its error's words, or its text."""
    try:
        return of_body(json.loads(text)) or one_line(text)[:200]
    except NOT_AS_AGREED:
        return one_line(text)[:200]
