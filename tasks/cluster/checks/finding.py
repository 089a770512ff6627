"""What a check found. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

OK, WARN, FAIL = "ok", "warn", "fail"


@dataclass(frozen=True)
class Finding:
    """What a check found: `level` is ok, warn or fail; `fix` says what to do about it."""

    check: str
    level: str
    node: str
    what: str
    fix: str = ""


def more(items: Sequence[object]) -> str:
    """What is said behind the first of several."""
    return f" (and {len(items) - 1} more)" if len(items) > 1 else ""
