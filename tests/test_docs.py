"""The docs say what the code does: generated pages are current, links lead somewhere."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest
from conftest import ROOT

from tasks.cluster.settings import DEFAULTS

PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_generated_pages_are_current() -> None:
    generate = runpy.run_path(str(ROOT / "docs" / "generate.py"))
    for path, text in generate["pages"]().items():
        assert path.read_text() == text, "run: uv run python docs/generate.py"


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
