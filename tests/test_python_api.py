"""docs/python-api.md against the code: names, parameters, and its script run for real."""

from __future__ import annotations

import importlib
import inspect
import json
import re
import subprocess
import sys
from functools import reduce
from typing import Any

import pytest
from conftest import DEADLINE, ROOT, Inv

PAGE = (ROOT / "docs" / "python-api.md").read_text()
ROWS = [row.split(" | ", 1) for row in re.findall(r"^\| (`tasks\..*) \|$", PAGE, re.MULTILINE)]
NAMES = [name for first, _ in ROWS for name in re.findall(r"`([^`]+)`", first)]


def named(name: str) -> Any:
    """What a dotted name stands for: the longest module in it, and attributes of that."""
    words = name.split(".")
    for length in range(len(words), 0, -1):
        try:
            module = importlib.import_module(".".join(words[:length]))
        except ModuleNotFoundError:
            continue
        return reduce(getattr, words[length:], module)
    raise AssertionError(name)


@pytest.mark.parametrize("name", NAMES)
def test_name(name: str) -> None:
    dotted, _, parameters = name.rstrip(")").partition("(")
    found = named(dotted)
    if "(" in name:
        taken = inspect.signature(found).parameters
        explained = [each for each in parameters.split(", ") if each]
        assert [each for each in taken if each in explained] == explained
        more = [value for key, value in taken.items() if key not in explained]
        assert [each for each in more if each.default is each.empty] == []


@pytest.mark.parametrize(
    "name", ["Session", "Cluster", "Rank", "Engine", "Expected", "Snapshot", "Check"]
)
def test_attributes(name: str) -> None:
    first, second = next(row for row in ROWS if row[0].endswith(f".{name}`"))
    kind = named(first.strip("`"))
    attributes = {*getattr(kind, "__dataclass_fields__", ()), *kind.__annotations__, *dir(kind)}
    explained = set(re.findall(r"`(\w+)`", second))
    assert explained
    assert explained - attributes == set()


def test_there_are_names() -> None:
    assert len(NAMES) > 30


def test_script(served: Inv) -> None:
    """The page's script, with a cluster of the test's own in its one line of configuration."""
    assert served.config
    config = {
        **json.loads(served.config.read_text())["tp"],
        "hostfile": served.env["INVOKE_TP_HOSTFILE"],
        "starting_port": served.ring,
        "log_dir": str(served.home / "logs"),
    }
    script = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)[-1]
    script, count = re.subn(r"^config = .*$", f"config = {config!r}", script, flags=re.MULTILINE)
    assert count == 1
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env=served.environment(),
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"^\[\] \{\}$", done.stdout, re.MULTILINE)
    assert "'completion_tokens': 16" in done.stdout
    assert done.stdout.splitlines()[-1] == "['stopped']"
    assert served("tp.status").out.startswith("stopped")
