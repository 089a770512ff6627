"""inv maintain.*: what it makes of a run of the long tests."""

from __future__ import annotations

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
