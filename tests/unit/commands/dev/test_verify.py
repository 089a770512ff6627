"""inv dev.model --verify on this machine, as people call it."""

from __future__ import annotations

import re
from pathlib import Path

from conftest import Inv


def test_verify(inv: Inv, home: Path) -> None:
    folder = home / "a model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    words = ("dev.model", str(folder), "--hosts", "127.0.0.1", "--verify")
    done = inv(*words)
    assert re.search(r"^warn  verify  127.0.0.1  1 files, 0.0 MB, read; whether", done.out, re.M)
    (folder / "SHA256SUMS").write_text(f"{'0' * 64}  config.json\n")
    said = inv(*words, "--json", code=3)
    assert said.json()["verify"]["127.0.0.1"]["config.json"]["right"] is False
    assert "config.json is not what its source says (SHA256SUMS)" in said.json()["error"]
    gone = inv("dev.model", "nowhere", *words[2:], code=3)
    assert "the model is not there" in gone.err
