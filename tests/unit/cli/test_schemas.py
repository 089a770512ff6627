"""Every task that reports has `--json` and a schema; docs/schemas are right JSON Schemas."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import schemas
from conftest import Inv
from fastjsonschema import JsonSchemaValueException

from tasks import ns

# They report nothing that a program reads: test hosts, this project's own chores, a show.
WITHOUT = r"demo|completion|local\.(up|down|fault|reboot)|bench\..*|test\..*|maintain\..*"
PATHS = sorted(schemas.SCHEMAS.glob("*.json"))
WITH_JSON = [
    name
    for name in ns.task_names
    if any(each.name == "json" for each in ns[name].get_arguments()) and "maintain" not in name
]


def test_each_task_has_one() -> None:
    assert sorted(path.stem for path in PATHS) == sorted(WITH_JSON)
    without = set(ns.task_names) - set(WITH_JSON)
    assert [name for name in sorted(without) if not re.fullmatch(WITHOUT, name)] == []


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_it_is_a_schema(path: Any) -> None:
    """A failure before anything was found fits, a key that nobody has described does not."""
    whole = json.loads(path.read_text())
    check = schemas.schema(path.stem)
    failed = {"ok": False, "exit": 2, "error": "why", "findings": []}
    check(failed)
    with pytest.raises(JsonSchemaValueException):
        check({**failed, "surprise": 1})
    if whole.get("then", {}).get("required"):
        with pytest.raises(JsonSchemaValueException):
            check({**failed, "ok": True, "exit": 0, "error": None})


@pytest.mark.parametrize("task", sorted(set(WITH_JSON) - {"tp.explain", "version"}))
def test_a_failure_is_one_too(inv: Inv, task: str) -> None:
    """With the exit status, and the error, that it has without --json."""
    words = [task, *{"tp.chat": ["hi"], "dev.model": ["x"]}.get(task, [])]
    words += ["--hostfile", "nowhere.json"]
    plain = inv.run(*words)
    done = inv.run(*words, "--json")
    assert done.json()["exit"] == done.code == plain.code == 2
    assert done.json()["error"] in plain.err
