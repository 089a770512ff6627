"""`--json`: one document per task that was asked for it, whatever became of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import Inv
from invoke.exceptions import Exit

from tasks.cli import envelope
from tasks.cluster.checks import FAIL, Finding

BAD = Finding("memory", FAIL, "mac1", "much", "reboot it")


def run(*results: dict[str, object], error: BaseException | None = None) -> None:
    with envelope.opened(True):
        for result in results:
            envelope.begin(object())
            envelope.give(result, [BAD] if error else [])
        if error:
            raise error


def test_what_went_well(capsys: pytest.CaptureFixture[str]) -> None:
    run({"url": "x"})
    shown = json.loads(capsys.readouterr().out)
    assert shown == {"ok": True, "exit": 0, "error": None, "findings": [], "url": "x"}


def test_what_failed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(Exit):
        run({"url": "x"}, error=Exit("too much", code=3))
    shown = json.loads(capsys.readouterr().out)
    assert (shown["ok"], shown["exit"], shown["error"]) == (False, 3, "too much")
    assert shown["findings"][0]["fix"] == "reboot it"
    assert shown["url"] == "x"


def test_each_task_has_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(Exit):
        run({"first": 1}, {"second": 2}, error=Exit("no", code=4))
    text, decoder = capsys.readouterr().out, json.JSONDecoder()
    first, end = decoder.raw_decode(text)
    second, _ = decoder.raw_decode(text[end:].lstrip())
    assert (first["ok"], first["first"]) == (True, 1)
    assert (second["exit"], second["second"]) == (4, 2)


def test_lines_end_without_a_document(capsys: pytest.CaptureFixture[str]) -> None:
    with envelope.opened(True):
        envelope.begin(object())
        envelope.line({"host": "mac1"})
        envelope.line({"host": "mac2"}, error="gone")
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["ok"] for row in rows] == [True, False]
    assert rows[1]["error"] == "gone"


def test_code_that_calls_ours_gets_it_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    envelope.give({"url": "x"})
    assert json.loads(capsys.readouterr().out)["url"] == "x"


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("tp.status", "--json", "--hostfile", "none.json"), 2, "none.json"),
        (("tp.bench", "--json", "--timeout", "soon"), 2, "--timeout"),
        (("tp.preflight", "--json", "--skip", "nothing"), 2, "--skip nothing"),
        (("tp.memory", "--json", "--hosts", "127.0.0.9"), 5, "127.0.0.9"),
        (("tp.chat", "hello", "--json", "--hosts", "localhost"), 3, "no server"),
    ],
)
def test_failures_of_real_commands(inv: Inv, words: tuple[str, ...], code: int, says: str) -> None:
    done = inv(*words, code=code)
    shown = done.json()
    assert (shown["ok"], shown["exit"]) == (False, code)
    assert says in shown["error"]
    assert shown["error"] in done.err


def test_a_dry_run_is_still_one_document(inv: Inv) -> None:
    shown = inv("tp.stop", "--json", "--dry-run", "--hosts", "localhost").json()
    assert shown["ok"]
    assert shown["lines"] == ["# nothing runs"]


def test_a_hook_that_fails_afterwards_counts(inv: Inv, home: Path) -> None:
    inv.config = home / "config.json"
    hooks = {"tp.memory": {"post": ["exit 7"]}}
    inv.config.write_text(json.dumps({"hooks": hooks}))
    shown = inv("tp.memory", "--json", "--hosts", "localhost", code=4).json()
    assert (shown["ok"], shown["exit"]) == (False, 4)
    assert shown["nodes"]["localhost"]["total"] > 2**30
