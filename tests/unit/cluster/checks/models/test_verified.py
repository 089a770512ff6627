"""What hashes of all nodes' files come to."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tasks.cluster.checks import FAIL, OK, WARN, Finding
from tasks.cluster.checks.models.verified import HashedFile, judge

KNOWN = HashedFile(10**9, "aa", "SHA256SUMS", right=True)
UNKNOWN = HashedFile(1000, "bb")


def test_all_as_their_source_has_them() -> None:
    (found,) = judge({"mac1": {"a": KNOWN, "b": UNKNOWN}})
    expected = "2 files, 1.00 GB, as their source has them (SHA256SUMS); 1 of them nobody knows"
    assert found == Finding("verify", OK, "mac1", expected)
    (found,) = judge({"mac1": {"a": KNOWN, "b": replace(KNOWN, source="hub")}})
    assert found.what == "2 files, 2.00 GB, as their source has them (SHA256SUMS, hub)"


def test_without_a_source_nodes_are_held_against_each_other() -> None:
    found = judge({"mac1": {"b": UNKNOWN}, "mac2": {"b": UNKNOWN}})
    fix = "a SHA256SUMS of their source in the folder would tell (shasum -a 256 *)"
    what = "1 files, 0.0 MB, the same on all nodes; whether they are right nobody says"
    assert found == [Finding("verify", WARN, node, what, fix) for node in ("mac1", "mac2")]
    (found_alone,) = judge({"mac1": {"b": UNKNOWN}})
    assert "MB, read; whether they are right" in found_alone.what
    found = judge({"mac1": {"b": UNKNOWN}, "mac2": {"b": replace(UNKNOWN, sha256="x")}})
    assert [each.level for each in found] == ["fail", "fail"]
    assert "b is not that of mac1" in found[1].what


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        (replace(KNOWN, right=False), "a is not what its source says (SHA256SUMS)"),
        (replace(KNOWN, cut=True), "a is not as long as its header says"),
        (replace(KNOWN, changed=True), "a is not what it was the last time"),
        (None, "a is missing"),
    ],
)
def test_what_is_wrong(file: HashedFile | None, expected: str) -> None:
    bad = {"a": file} if file else {}
    good, found = judge({"mac1": {"a": KNOWN}, "mac2": bad})
    assert good.level == OK
    assert found.what.startswith(expected)
    again = "copy or download it again"
    assert found == Finding("verify", FAIL, "mac2", found.what, again)
