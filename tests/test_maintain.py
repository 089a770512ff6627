"""inv maintain.*: a run of the long tests, and of what mlx_lm says of known models."""

from __future__ import annotations

import copy
import json
import sys
from importlib import import_module
from pathlib import Path

import pytest
from conftest import ROOT, Inv

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

from tasks.maintain.long import rows

mutants = import_module("tasks.maintain.mutants")  # the package has a task of that name

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


RESULTS = """
    tasks.cluster.server.stop.x_stop__mutmut_1: killed
    tasks.cluster.server.stop.xǁHeldǁparse__mutmut_12: survived
    tasks.cluster.server.stop.x__end__mutmut_3: no tests
    tasks.cluster.server.stop.x__end__mutmut_4: timeout
    tasks.cluster.config.hostfile.x_load__mutmut_1: not checked
"""


def test_the_score_of_mutants() -> None:
    """Of those that tests reach; what was not asked for counts for nothing."""
    assert mutants.rows(RESULTS) == [
        ("-", "cluster.config.hostfile", "0 of 0 killed, 0 without a test, 1 others"),
        ("50%", "cluster.server.stop", "1 of 2 killed, 1 without a test, 1 others"),
    ]


def test_modules_of_mutants_are_there() -> None:
    """Those that pyproject names."""
    named = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["mutmut"]["only_mutate"]
    assert [each for each in named if not [*ROOT.glob(each)]] == []


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
