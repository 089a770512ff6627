"""Where a rank finds its model: the cache of its own python and environment."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from conftest import read_here

from tasks.cluster.facts.models import model

# huggingface_hub's order: each of these goes over those before it.
ORDER = (
    ("HOME", "{}", ".cache/huggingface/hub"),
    ("XDG_CACHE_HOME", "{}/xdg", "xdg/huggingface/hub"),
    ("HF_HOME", "{}/hf", "hf/hub"),
    ("HUGGINGFACE_HUB_CACHE", "{}/old", "old"),
    ("HF_HUB_CACHE", "{}/hub", "hub"),
)


def put(cache: Path) -> Path:
    """A model in a cache, of a revision that is its main one."""
    at = cache / "models--org--tiny"
    (at / "refs").mkdir(parents=True)
    (at / "refs" / "main").write_text("0a1b")
    (at / "snapshots" / "0a1b").mkdir(parents=True)
    (at / "snapshots" / "0a1b" / "config.json").write_text("{}")
    return at / "snapshots" / "0a1b"


@pytest.mark.parametrize("python", [sys.executable, "/nowhere/python3"])
@pytest.mark.parametrize("count", range(1, len(ORDER) + 1))
def test_order_of_caches(tmp_path: Path, count: int, python: str) -> None:
    """By the rank's python; where that can't be asked by the same order."""
    env = {name: value.format(tmp_path) for name, value, _ in ORDER[:count]}
    folders = [put(tmp_path / at) for _, _, at in ORDER[:count]]
    asked = model.fact("org/tiny", None, python, {**env, "HF_TOKEN": "x", "A": "b"})
    assert "HF_TOKEN=" not in asked.command
    found = read_here(asked)[model.KEY]
    assert found.path == str(folders[-1])
    assert list(found.files) == ["config.json"]


def test_what_is_not_there(tmp_path: Path) -> None:
    """A revision that is not the main one does not count: no rank would take it."""
    folder = put(tmp_path)
    (folder.parents[1] / "refs" / "main").rename(folder.parents[1] / "refs" / "v1")
    env = {"HF_HUB_CACHE": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    for python in (sys.executable, ""):
        for name in ("org/tiny", "org/none", "no name"):
            read = read_here(model.fact(name, None, python, env))
            assert read.values[model.KEY] == model.Model(None)
    file = str(folder.parents[1] / "refs" / "v1")
    assert read_here(model.fact(file, None))[model.KEY] == model.Model(None, is_file=True)
