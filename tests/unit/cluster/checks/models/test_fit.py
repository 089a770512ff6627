"""Whether the ranks of a node find room in it and in its GPU's limit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from model_facts import SAID, facts_of, told

from tasks.cluster import checks
from tasks.cluster.checks.models import fit
from tasks.cluster.facts import Unknown
from tasks.cluster.facts.machine import gpu
from tasks.cluster.facts.machine.memory import GIB, Memory, format_bytes, gigabytes
from tasks.cluster.facts.models.split import PIPELINE, TENSOR, SplitRow

KV = "4 KV heads can't be divided by 8 ranks"


@pytest.mark.parametrize(
    ("values", "count", "tokens", "expected"),
    [
        # 100 GiB and 160 KiB per token: 101.2 of 384 GiB.
        ({}, 1, 8192, "ok n: fits: 101.2 GiB (100.0 GiB of weights, 1.2 GiB for 8192 tokens) of"
                      " about 384.0 GiB (macOS's default, about 75 % of 512.0 GiB)"),
        ({}, 1, None, "ok n: fits: 100.0 GiB of weights, and a cache of 131072 tokens of about"),
        ({"memory": Memory(140 * GIB, 0, 16384)}, 1, None,
         "ok n: fits: 100.0 GiB of weights, and a cache of 32768 tokens of about 105.0 GiB"),
        ({}, 2, 8192, "ok n: fits: 2 ranks, together 202.5 GiB (200.0 GiB of weights, 2.5 GiB"),
        ({"gpu": 110 * GIB}, 1, 8192, "ok n: fits: 101.2 GiB (100.0 GiB of weights, 1.2 GiB for"
                                      " 8192 tokens) of 110.0 GiB (iogpu.wired_limit_mb;"),
        ({"gpu": 100 * GIB}, 1, 8192, "fail n: too much: 101.2 GiB"),
        ({"gpu": 99 * GIB}, 1, None, "fail n: too much: 100.0 GiB of weights, and a cache of 0"),
        ({"memory": Memory(128 * GIB, 0, 16384)}, 1, 8192, "warn n: perhaps too much: 101.2 GiB"),
        ({"memory": Memory(128 * GIB, 0, 16384), "gpu": 120 * GIB}, 1, 8192, "ok n: fits"),
        ({"memory": Memory(96 * GIB, 0, 16384)}, 1, 8192, "fail n: too much: 101.2 GiB"),
        ({"memory": Memory(96 * GIB, 0, 16384), "gpu": 500 * GIB}, 1, 8192, "fail n: too much"),
        ({"memory": Memory(128 * GIB, 0, 4096), "gpu": gpu.NO_LIMIT}, 1, 8192, "ok n: fits"),
        ({"memory": Memory(64 * GIB, 0, 4096), "gpu": gpu.NO_LIMIT}, 1, 8192, "fail n: too much"),
        ({"memory": Memory(512 * GIB, 420 * GIB, 16384)}, 1, 8192, "warn n: not now: 101.2 GiB"),
        ({"split": replace(SAID, rows=(SplitRow(2, TENSOR, "unknown", "?"),))}, 1, 8192,
         "warn n: fits but for its cache: 100.0 GiB (100.0 GiB of weights, ? of cache)"),
        ({"memory": Unknown("vm_stat can't be read")}, 1, 8192, "fail n: unknown: vm_stat"),
        ({"gpu": Unknown("no")}, 1, 8192, "fail n: unknown: no"),
    ],
)  # fmt: skip
def test_fit(values: dict[str, Any], count: int, tokens: int | None, expected: str) -> None:
    numbers = {"n": [0, 1][:count], **({"m": [1]} if count == 1 else {})}
    (found,) = fit.fits({"n": facts_of(**values)}, numbers, TENSOR, tokens)
    assert told([found])[0].startswith(expected)
    assert found.check == "fit"
    assert bool(found.fix) == (found.level != checks.OK)


def test_a_pipelines_ranks_hold_what_they_hold() -> None:
    row = SplitRow(2, PIPELINE, "yes", "", (120 * GIB, 80 * GIB), (4,), ((None, 160 * 1024),))
    facts = {n: facts_of(n, split=replace(SAID, rows=(row,)), gpu=100 * GIB) for n in "ab"}
    found = fit.fits(facts, {"a": [0], "b": [1]}, PIPELINE, 8192)
    assert [each.level for each in found] == [checks.FAIL, checks.OK]


def test_what_can_not_be_divided_is_not_weighed() -> None:
    no = replace(SAID, rows=(SplitRow(2, TENSOR, "no", KV),))
    assert fit.fits({"n": facts_of(split=no)}, {"n": [0, 1]}, TENSOR) == []
    unknown = replace(SAID, rows=(SplitRow(2, TENSOR, "unknown", "?"),))
    both = {"n": facts_of(split=no), "m": facts_of("m", split=unknown)}
    assert fit.fits(both, {"n": [0], "m": [1]}, TENSOR) == []
    assert fit.fits({"n": facts_of(split=Unknown("?"))}, {"n": [0, 1]}, TENSOR) == []


def test_a_cache_has_windows_and_a_state() -> None:
    row = SplitRow(1, TENSOR, "yes", "", (GIB,), (8,), ((None, 100), (128, 10)), state=7)
    assert [row.cached(tokens) for tokens in (0, 100, 8192)] == [7, 11007, 819200 + 1280 + 7]
    assert row.room(11007, 10**6) == 100
    assert row.room(6, 10**6) == 0
    assert row.room(10**9, 8192) == 8192


def test_the_remedy_is_a_limit_only_where_there_is_memory_for_it() -> None:
    def remedy(memory: int, limit: int) -> str:
        facts = {"n": facts_of(memory=Memory(memory * GIB, 0, 16384), gpu=limit * GIB)}
        return fit.fits(facts, {"n": [0], "m": [1]}, TENSOR, 8192)[0].fix

    # 101.25 GiB and a twentieth more, in whole GiB.
    assert (
        remedy(128, 90)
        == "on that node: sudo sysctl iogpu.wired_limit_mb=109568 (until it reboots)"
    )
    smaller = "more nodes, a smaller model, or a smaller --context"
    assert remedy(112, 90) == smaller
    # 107 GiB and 8 for the system.
    assert remedy(115, 90).endswith("=109568 (until it reboots)")
    assert remedy(114, 90) == smaller
    assert remedy(128, 0).startswith("on that node: sudo sysctl")


def test_what_to_do_where_it_does_not_fit() -> None:
    def fix(tokens: int | None = 8192, **values: Any) -> str:
        numbers = {"n": [0], "m": [1]}
        return fit.fits({"n": facts_of(**values)}, numbers, TENSOR, tokens)[0].fix

    # Where a machine has no such limit (Linux) none is told.
    small = Memory(64 * GIB, 0, 4096)
    assert (
        fix(memory=small, gpu=gpu.NO_LIMIT) == "more nodes, a smaller model, or a smaller --context"
    )
    assert fix(memory=Memory(128 * GIB, 0, 16384)).startswith("on that node: sudo sysctl iogpu.")
    wired = Memory(512 * GIB, 420 * GIB, 16384)
    assert fix(memory=wired) == "420.0 GiB are wired there now: inv tp.status, inv tp.memory"
    unknown = replace(SAID, rows=(SplitRow(2, TENSOR, "unknown", "?"),))
    assert fix(split=unknown) == "how much its cache needs is not known here"
    assert fix(gpu=Unknown("no")) == "try it there (gpu)"


def test_the_edge_still_fits() -> None:
    exact: dict[str, Any] = {"memory": Memory(512 * GIB, 0, 16384), "gpu": 100 * GIB}
    for values in (exact, {"memory": Memory(100 * GIB, 0, 4096), "gpu": gpu.NO_LIMIT}):
        (found,) = fit.fits({"n": facts_of(**values)}, {"n": [0], "m": [1]}, TENSOR, 0)
        assert found.level == checks.OK
    wired: dict[str, Any] = {"memory": Memory(512 * GIB, 412 * GIB, 16384)}
    (found,) = fit.fits({"n": facts_of(**wired)}, {"n": [0], "m": [1]}, TENSOR, 0)
    assert found.level == checks.OK


def test_a_node_that_tells_nothing_hides_no_other() -> None:
    facts = {"n": facts_of(gpu=Unknown("no")), "m": facts_of("m")}
    found = fit.fits(facts, {"n": [0], "m": [1]}, TENSOR, 8192)
    assert [(each.node, each.level) for each in found] == [("n", checks.FAIL), ("m", checks.OK)]


def test_a_cache_is_shared_by_the_ranks_of_a_node() -> None:
    """100 GiB are left for two ranks: 50 each, of 160 KiB a token."""
    said = replace(SAID, context=10**7)
    facts = {"n": facts_of(split=said, gpu=300 * GIB)}
    (found,) = fit.fits(facts, {"n": [0, 1]}, TENSOR)
    assert f"a cache of {50 * GIB // (160 * 1024)} tokens" in found.what


@pytest.mark.parametrize(
    ("text", "status", "expected"),
    [
        ("iogpu.wired_limit_mb: 0\n", 0, 0),
        ("iogpu.wired_limit_mb: 498000\n", 0, 498000 * 1024**2),
        ("no limit\n", 0, gpu.NO_LIMIT),
        ("sysctl: unknown oid 'iogpu.wired_limit_mb'\n", 1, None),
        ("iogpu.wired_limit_mb: 498000\n", 1, None),
        ("498000", 0, None),
        ("iogpu.wired_limit_mb: -1", 0, None),
        ("", 0, None),
    ],
)
def test_gpu_limit(text: str, status: int, expected: int | None) -> None:
    if expected is None:
        with pytest.raises(ValueError, match="can't be read"):
            gpu.parse(text, status)
    else:
        assert gpu.parse(text, status) == expected


@pytest.mark.parametrize(
    ("size", "words"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1.5 * GIB, "1.5 GiB"),
        (2**45, "32768.0 GiB"),
    ],
)
def test_sizes_in_words(size: float, words: str) -> None:
    assert format_bytes(size) == words


def test_sizes_as_makers_of_models_say_them() -> None:
    assert [gigabytes(size) for size in (10_810_572_800, 3_400_000)] == ["10.81 GB", "3.4 MB"]
