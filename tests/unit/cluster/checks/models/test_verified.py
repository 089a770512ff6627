"""What hashes of all nodes' files come to."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tasks.cluster.checks.models.verified import HashedFile, judge

KNOWN = HashedFile(10**9, "aa", "SHA256SUMS", right=True)
UNKNOWN = HashedFile(1000, "bb")


def test_all_as_their_source_has_them() -> None:
    (found,) = judge({"mac1": {"a": KNOWN, "b": UNKNOWN}})
    assert (found.level, found.node) == ("ok", "mac1")
    expected = "2 files, 1.00 GB, as their source has them (SHA256SUMS); 1 of them nobody knows"
    assert found.what == expected


def test_without_a_source_nodes_are_held_against_each_other() -> None:
    found = judge({"mac1": {"b": UNKNOWN}, "mac2": {"b": UNKNOWN}})
    assert {each.level for each in found} == {"warn"}
    assert "the same on all nodes; whether they are right nobody says" in found[0].what
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
    assert (good.level, found.level) == ("ok", "fail")
    assert found.what.startswith(expected)
