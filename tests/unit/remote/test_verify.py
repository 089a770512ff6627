"""What a node says of a model's files: which source knows them, and where it goes on."""

from __future__ import annotations

import hashlib
import json
import os
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import DEADLINE, ROOT

PROGRAM = ROOT / "tasks" / "remote" / "verify.py"


def verify(folder: Path, state: Path) -> dict[str, Any]:
    line = [sys.executable, "-I", str(PROGRAM), str(folder), str(state)]
    done = subprocess.run(line, capture_output=True, text=True, check=True, timeout=DEADLINE)
    rows: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])["files"]
    return rows


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model's folder: weights, a configuration, notes that are hidden."""
    folder = tmp_path / "m ü"
    (folder / ".cache").mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    header = b'{"a":{"dtype":"U8","shape":[9],"data_offsets":[0,9]}}'
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + b"w" * 9)
    return folder


def sha(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def rot(path: Path) -> None:
    """One byte is another, and neither size nor time tell."""
    before = path.stat()
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_nobody_knows(folder: Path, tmp_path: Path) -> None:
    rows = verify(folder, tmp_path)
    assert rows.keys() == {"config.json", "model.safetensors"}
    assert rows["config.json"] == {
        "size": 2, "sha256": sha(folder / "config.json"), "source": "",
        "changed": False, "cut": False,
    }  # fmt: skip


def test_a_list_of_hashes(folder: Path, tmp_path: Path) -> None:
    lines = [f"{sha(folder / name)}  {name}" for name in ("config.json", "model.safetensors")]
    (folder / "SHA256SUMS").write_text("\n".join([*lines, "# no", "xx  y"]))
    assert [each["right"] for each in verify(folder, tmp_path).values()] == [True, True]
    (folder / "config.json").write_text("[]")
    rows = verify(folder, tmp_path)
    assert (rows["config.json"]["right"], rows["config.json"]["source"]) == (False, "SHA256SUMS")
    # It was written, and says so.
    assert rows["config.json"]["changed"] is False


def test_hugging_faces_cache(folder: Path, tmp_path: Path) -> None:
    """What is large is called by its sha256 there, what is small by git's hash."""
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "1"
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    git = hashlib.sha1(b"blob 2\0{}").hexdigest()
    for name, blob in (
        ("config.json", git),
        ("model.safetensors", sha(folder / "model.safetensors")),
    ):
        (blobs / blob).write_bytes((folder / name).read_bytes())
        (snapshot / name).symlink_to(Path("..", "..", "blobs", blob))
    rows = verify(snapshot, tmp_path)
    assert {(row["right"], row["source"]) for row in rows.values()} == {
        (True, "Hugging Face's cache")
    }
    rot(blobs / git)
    rows = verify(snapshot, tmp_path)
    assert (rows["config.json"]["right"], rows["config.json"]["changed"]) == (False, True)


def test_a_download_to_a_folder(folder: Path, tmp_path: Path) -> None:
    notes = folder / ".cache" / "huggingface" / "download"
    notes.mkdir(parents=True)
    (notes / "config.json.metadata").write_text(f"c0ffee\n{'a' * 64}\n1764.5\n")
    (notes / "model.safetensors.metadata").write_text("cut off")
    rows = verify(folder, tmp_path)
    assert (rows["config.json"]["right"], rows["config.json"]["source"]) == (False, "hf download")
    assert rows["model.safetensors"]["source"] == ""


@pytest.mark.parametrize("content", [b"", b"x" * 8, b"\xff" * 20, struct.pack("<Q", 2) + b"{}x"])
def test_what_is_cut_off(folder: Path, tmp_path: Path, content: bytes) -> None:
    (folder / "model.safetensors").write_bytes(content)
    assert verify(folder, tmp_path)["model.safetensors"]["cut"] is True


def test_it_goes_on_where_it_was_stopped(folder: Path, tmp_path: Path) -> None:
    """What was read is not read again, until the whole was: then all of it is."""
    first = verify(folder, tmp_path)["config.json"]["sha256"]
    (kept,) = (tmp_path / "verified").iterdir()
    stopped = {**json.loads(kept.read_text()), "whole": False}
    kept.write_text(json.dumps(stopped))
    rot(folder / "config.json")
    assert verify(folder, tmp_path)["config.json"]["sha256"] == first
    row = verify(folder, tmp_path)["config.json"]
    assert row["sha256"] == sha(folder / "config.json") != first
    assert row["changed"] is True
    kept.write_text("[")
    assert verify(folder, tmp_path)["config.json"]["changed"] is False
