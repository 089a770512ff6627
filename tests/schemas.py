"""Holds what `--json` has printed against docs/schemas, in whatever test it is read."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import fastjsonschema

SCHEMAS = Path(__file__).parents[1] / "docs" / "schemas"


def check(words: Sequence[str], document: Any) -> Any:
    """Give the document, if it is as the task's schema has it."""
    names = [word for word in words if (SCHEMAS / f"{word}.json").exists()]
    if names and isinstance(document, dict) and "findings" in document:
        schema(names[-1])(document)
    return document


def check_lines(words: Sequence[str], text: str) -> list[Any]:
    """Give the documents of a task that prints one per line, if each is as its schema has it."""
    name = next(word for word in words if (SCHEMAS / f"{word}.json").exists())
    return [schema(name)(json.loads(line)) for line in text.splitlines()]


@cache
def schema(name: str) -> Callable[[Any], Any]:
    made: Callable[[Any], Any] = fastjsonschema.compile(
        json.loads((SCHEMAS / f"{name}.json").read_text())
    )
    return made
