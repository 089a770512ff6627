"""inv tp.explain: what is told of files and of what is pasted, and how it ends."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from tasks.cluster.errors import BadInput, CheckFailed
from tasks.commands.tp import explain

RECV = "RuntimeError: [jaccl] Recv failed with errno=2"
RTR = "ValueError: [jaccl] Changing queue pair to RTR failed with errno 60"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "rank1.log"
    path.write_text(f"Starting httpd\n{RECV}\nlater\n")
    return path


def pasted(monkeypatch: pytest.MonkeyPatch, text: bytes) -> None:
    class Stdin:
        buffer = io.BytesIO(text)

        def isatty(self) -> bool:
            return False

    monkeypatch.setattr("sys.stdin", Stdin())


def test_a_file(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    explain.run([str(log)], [], False)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{log}:2: {RECV}"
    assert [line.split()[0] for line in lines[1:]] == ["means", "first", "then", "source"]
    assert "another rank died first" in lines[1]


def test_each_file_is_told(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clean = log.with_name("clean.log")
    clean.write_text("all is well\n")
    explain.run([str(log), str(clean)], [], False)
    assert capsys.readouterr().out.splitlines()[-1] == f"{clean}: no error found"


def test_a_pasted_line_and_a_fact(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pasted(monkeypatch, RTR.encode())
    explain.run([], ["rdma.ping=ok"], False)
    assert "first    reboot both Macs" in capsys.readouterr().out


def test_json(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    explain.run([str(log)], [], True)
    row: dict[str, Any] = json.loads(capsys.readouterr().out)["files"][0]
    assert row["file"] == str(log)
    assert row["line"] == row["first_error"] == {"number": 2, "text": RECV}
    assert row["known"]["id"] == "another-rank-failed"
    assert set(row["known"]) == {"id", "means", "first", "then", "versions", "source"}


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize("text", [b"", b"hello\n", b"\x00\xff\x1b[", b"ValueError: who knows\n"])
def test_nothing_known(
    text: bytes, as_json: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pasted(monkeypatch, text)
    with pytest.raises(CheckFailed) as ended:
        explain.run([], [], as_json)
    assert ended.value.code == 3
    assert ("ValueError" in capsys.readouterr().out) == (b"ValueError" in text)


def test_an_unknown_error_before_the_known_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pasted(monkeypatch, f"ValueError: who knows\n{RECV}\n".encode())
    explain.run([], [], False)
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == ["stdin:1: ValueError: who knows", "  not known", f"stdin:2: {RECV}"]


@pytest.mark.parametrize("name", ["missing.log", "."])
def test_what_cannot_be_read_is_one_line(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(BadInput) as ended:
        explain.run([str(tmp_path / name)], [], False)
    assert (ended.value.code, len(str(ended.value.message).splitlines())) == (2, 1)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("fact", ["mlx=1", "mlx-lm", "mlx-lm=", "=1"])
def test_a_fact_that_is_none(fact: str, log: Path) -> None:
    with pytest.raises(BadInput, match="--fact"):
        explain.run([str(log)], [fact], False)
