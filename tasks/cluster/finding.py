"""What a check found. Pure."""

from __future__ import annotations

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
