"""inv maintain.*: a run of the long tests, and of what mlx_lm says of known models."""

from __future__ import annotations

import copy
import json
from importlib import import_module
from pathlib import Path

import pytest
from conftest import Inv

from tasks.maintain.long import rows

REPORT = """<testsuites><testsuite>
<testcase classname="tests.test_lock" name="test_a" time="180.4" />
<testcase classname="tests.test_lock" name="test_b" time="2.0"><failure>x</failure></testcase>
<testcase classname="tests.test_x" name="test_c[1]" time="0.1"><skipped /></testcase>
</testsuite></testsuites>"""


def test_rows() -> None:
    assert rows(REPORT) == [
        ("passed", "180 s", "test_lock::test_a"),
        ("failure", "2 s", "test_lock::test_b"),
        ("skipped", "0 s", "test_x::test_c[1]"),
    ]


def test_wrong_use(inv: Inv) -> None:
    assert "--only is empty" in inv("maintain.long", "--only", " ", code=2).one_line()


@pytest.mark.long
def test_a_model_of_4_gb(inv: Inv, tmp_path: Path) -> None:
    """All that a CPU can do of `inv maintain.big`, whatever its own overhead is there."""
    words = ("--gb", "4", "--slow", "100", "--folder", str(tmp_path / "big"), "--json")
    run = inv.start("maintain.big", *words, "--port", str(inv.port))
    out, err = run.communicate(timeout=3600)
    failed = [row for row in json.loads(out)["rows"] if row["holds"] is False]
    assert [row for row in failed if not row["what"].startswith("own overhead")] == [], err


def test_known_models_are_asked_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An answer that is not mlx_lm's is mended and told, all else stays as it is."""
    models = import_module("tasks.maintain.models")  # the package has a task of that name
    known = json.loads(models.KNOWN.read_text())
    model = known["models"]["gpt-oss-20b"]
    for how in ("at_4bit_group_64", "as_published"):
        model[how] = {"2": model[how]["2"]}
    known["models"] = {"gpt-oss-20b": model}
    wrong = copy.deepcopy(known)
    wrong["models"]["gpt-oss-20b"]["as_published"]["2"]["bytes"] += 1
    path = tmp_path / "known.json"
    path.write_text(json.dumps(wrong))
    monkeypatch.setattr(models, "KNOWN", path)
    models.run()
    (row,) = capsys.readouterr().out.splitlines()
    assert row.startswith("gpt-oss-20b  as_published  -n 2  {'tp': 'yes', 'bytes': ")
    assert json.loads(path.read_text()) == known
