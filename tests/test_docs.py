"""The docs say what the code does: generated pages are current, links lead somewhere."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

from tasks.cluster.settings import DEFAULTS

PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_generated_pages_are_current() -> None:
    # A process of its own: other tests have loaded the tasks, and Invoke changes them.
    line = [sys.executable, str(ROOT / "docs" / "generate.py"), "--check"]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stderr}run: uv run python docs/generate.py"


@pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])
def test_links(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)", page.read_text()):
        assert "://" in target or (page.parent / target).exists(), target


def test_every_configuration_key_is_explained() -> None:
    text = (ROOT / "docs" / "configuration.md").read_text()
    explained = set(re.findall(r"`(\w+)`", text))
    assert set(DEFAULTS) <= explained


def test_every_dependency_has_its_reason() -> None:
    project = (ROOT / "pyproject.toml").read_text()
    names = set(re.findall(r'^    "([a-z-]+)[>=]', project, re.MULTILINE))
    names |= set(re.findall(r'"([a-z-]+)>=', project))
    explained = (ROOT / "docs" / "dependencies.md").read_text()
    assert names
    assert [name for name in names if name not in explained] == []
