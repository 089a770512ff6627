"""What an option's file is after a write that went well, and after one that did not."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from tasks.cluster.errors import ActionFailed, BadInput
from tasks.commands import output_file


@pytest.mark.parametrize("name", ["os.fsync", "pathlib.Path.replace", "pathlib.Path.chmod"])
def test_a_full_disk_leaves_the_old_file_and_nothing_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    file = tmp_path / "hosts.json"
    file.write_text("old")
    monkeypatch.setattr(name, full)
    with pytest.raises(ActionFailed, match=r"^--write .*: can't be written") as failed:
        output_file.write(str(file), "new", "--write")
    assert os.strerror(errno.EDQUOT) in str(failed.value)
    assert file.read_text() == "old"
    assert [*tmp_path.iterdir()] == [file]


def test_a_link_leads_to_the_file_and_stays_one(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    real, link = tmp_path / "kept" / "hosts.json", tmp_path / "hosts.json"
    real.write_text("old")
    real.chmod(0o600)
    link.symlink_to(real)
    output_file.check(str(link))
    output_file.write(str(link), "new")
    assert link.is_symlink()
    assert real.read_text() == "new"
    assert real.stat().st_mode & 0o777 == 0o600


def test_a_device_is_no_file_to_replace(tmp_path: Path) -> None:
    pipe, circle = tmp_path / "pipe", tmp_path / "circle"
    os.mkfifo(pipe)
    circle.symlink_to(circle)
    (tmp_path / "lost").symlink_to(tmp_path / "none" / "file")
    for name in (str(pipe), str(circle), "/dev/null", str(tmp_path / "lost"), "a\0b"):
        with pytest.raises(BadInput):
            output_file.check(name)
