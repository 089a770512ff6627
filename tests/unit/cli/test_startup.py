"""How a command ends that can write no more: a line and a status, no traceback."""

from __future__ import annotations

import errno
import os

import pytest

from tasks.cli import startup


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO])
def test_what_a_disk_refuses_is_a_line(
    number: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def end(status: int) -> None:
        raise SystemExit(status)

    monkeypatch.setattr(os, "_exit", end)
    error = OSError(number, os.strerror(number), "/there")
    with pytest.raises(SystemExit) as ended:
        startup._tell(type(error), error, None)
    assert ended.value.code == 4
    assert capsys.readouterr().err == f"/there: {os.strerror(number)}\n"
