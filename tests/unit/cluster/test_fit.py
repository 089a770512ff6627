"""Models as data: what is whole, what divides over ranks, and what fits into a node."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from tasks.cluster import checks, fit, ranks
from tasks.cluster.checks import Expected
from tasks.cluster.engine import MLX_LM, VLLM_MLX, Engine, is_pipeline
from tasks.cluster.facts import NodeFacts, Unknown, gpu, memory, split
from tasks.cluster.facts.files import DANGLING
from tasks.cluster.facts.memory import GIB, Memory, in_words
from tasks.cluster.facts.model import KEY as MODEL
from tasks.cluster.facts.model import Model
from tasks.cluster.facts.split import PIPELINE, TENSOR, Row, Split, Weights
from tasks.cluster.finding import Finding
from tasks.cluster.hostfile import Host
from tasks.cluster.snapshot import Snapshot

# 200 GiB over 2 ranks, and 160 KiB of cache per token on each.
HALF = Row(2, TENSOR, "yes", "", (100 * GIB,) * 2, (4,), ((None, 160 * 1024),))
WHOLE = Weights(None, {"model.safetensors": 200 * GIB})
SAID = Split("0.32.2", "llama", 80, (), 131072, (HALF,), WHOLE, kept=True)


def facts_of(node: str = "n", **values: Any) -> NodeFacts:
    """By the names of the facts."""
    whole = {
        "model": Model("/m", {"config.json": "9 1", "model.safetensors": str(200 * GIB)}),
        "split": SAID,
        "memory": Memory(512 * GIB, 9 * GIB, 16384),
        "gpu": 0,
    }
    given = {**whole, **values}
    return NodeFacts(node, {k: given[k.name] for k in (MODEL, split.KEY, memory.KEY, gpu.KEY)})


def told(findings: list[Finding]) -> list[str]:
    return [f"{each.level} {each.node}: {each.what}: {each.fix}" for each in findings]


def safetensors(*names: str, length: int = 100) -> dict[str, str]:
    return {name: str(length) for name in names}


FIVE = [f"model-{number:05d}-of-00005.safetensors" for number in range(1, 6)]


@pytest.mark.parametrize(
    ("listed", "named", "implied", "expected"),
    [
        (safetensors(*FIVE), FIVE, dict.fromkeys(FIVE, 100), "ok n: 5 files of weights, 500 B"),
        (safetensors(*FIVE), None, dict.fromkeys(FIVE, 100), "ok n: 5 files of weights"),
        (safetensors("model.safetensors"), None, {"model.safetensors": 100}, "ok n: 1 file"),
        (safetensors("model.safetensors", "consolidated.safetensors"), None,
         {"model.safetensors": 100, "consolidated.safetensors": 7}, "ok n: 1 file of weights"),
        (safetensors(*FIVE[:3]), FIVE, dict.fromkeys(FIVE, 100),
         f"fail n: {FIVE[3]} is missing (and 1 more)"),
        (safetensors(*FIVE[:4]), None, dict.fromkeys(FIVE, 100), f"fail n: {FIVE[4]} is missing"),
        (safetensors(*FIVE[:4]), [*FIVE[:4], "other.safetensors"], dict.fromkeys(FIVE, 100),
         "fail n: other.safetensors is missing"),
        (safetensors(*FIVE), FIVE, {**dict.fromkeys(FIVE, 100), FIVE[1]: 101},
         f"fail n: {FIVE[1]} has 100 bytes, by its header 101"),
        (safetensors(*FIVE), FIVE, {**dict.fromkeys(FIVE, 100), FIVE[1]: None},
         f"fail n: {FIVE[1]} has no header that can be read"),
        (safetensors(*FIVE), FIVE, {}, f"fail n: {FIVE[0]} has no header that can be read"),
        ({"model.safetensors": DANGLING}, None, {}, "fail n: model.safetensors has no header"),
        (safetensors("model.safetensors"), [], {"model.safetensors": 100},
         "fail n: model.safetensors.index.json names no weights"),
        ({"config.json": "9 1"}, None, {}, "fail n: there are no model*.safetensors"),
        ({"weights.npz": "9"}, None, {}, "fail n: there are no model*.safetensors"),
    ],
)  # fmt: skip
def test_complete(
    listed: dict[str, str],
    named: list[str] | None,
    implied: Mapping[str, int | None],
    expected: str,
) -> None:
    of = Weights(None if named is None else frozenset(named), implied)
    values = facts_of(model=Model("/m", listed), split=replace(SAID, weights=of))
    (found,) = told(fit.complete({"n": values}))
    assert found.startswith(expected)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (replace(SAID, bare=(4,)), "fail n: no weights for layer 4 of 80: take config.json and"),
        (replace(SAID, bare=(4, 5)), "fail n: no weights for layer 4 (and 1 more) of 80: "),
        (
            replace(SAID, weights=replace(WHOLE, lost=("a.b", FIVE[1]), lost_count=3)),
            f"fail n: {FIVE[1]} has no a.b, which the index names (and 2 more): copy or download",
        ),
    ],
)
def test_layers_and_tensors_that_are_missing(said: Split, expected: str) -> None:
    (found,) = told(fit.complete({"n": facts_of(split=said)}))
    assert found.startswith(expected)


def test_complete_without_an_answer() -> None:
    """It is told once, by what is asked of the same program."""
    unknown = {"n": facts_of(split=Unknown("no answer"))}
    assert fit.complete(unknown) == []
    assert told(fit.divides(unknown, 2, TENSOR))[0].startswith("fail n: unknown: no answer: try")
    assert told(fit.divides({"n": NodeFacts("n", {})}, 2, TENSOR))[0].startswith(
        "fail n: unknown: it was not asked"
    )
    assert fit.divides({"n": facts_of(model=Model(None))}, 2, TENSOR) == []


def answers(mode: str, *good: int, bad: Row) -> Split:
    rows = [Row(n, mode, "yes", "", (GIB,) * n) for n in good]
    return replace(SAID, rows=(bad, *rows))


KV = "4 KV heads can't be divided by 8 ranks"
OTHER = Row(8, PIPELINE, "yes", "", (GIB,) * 8)


@pytest.mark.parametrize(
    ("said", "hosts", "expected"),
    [
        (answers(TENSOR, 1, 2, 4, bad=Row(8, TENSOR, "no", KV)), 8, f"fail n: {KV}: -n 2 or 4"),
        (answers(TENSOR, 1, 2, 3, 4, 6, bad=Row(8, TENSOR, "no", KV)), 2, "-n 2, 4 or 6"),
        (answers(TENSOR, 1, 2, 4, bad=Row(8, TENSOR, "no", KV)), 1, "-n 2 or 4"),
        (answers(TENSOR, 1, bad=Row(8, TENSOR, "no", KV)), 8, ": -n 1"),
        (answers(TENSOR, bad=Row(8, TENSOR, "no", KV)), 8, ": another model, or another version"),
        (answers(PIPELINE, 1, 3, bad=Row(8, PIPELINE, "no", "why")), 8, "fail n: why: -n 3"),
        (replace(SAID, rows=(Row(8, TENSOR, "no", KV), OTHER)), 8, f"{KV}: -- --pipeline"),
        (
            replace(SAID, rows=(Row(8, PIPELINE, "no", "why"), replace(OTHER, mode=TENSOR))),
            8,
            "fail n: why: without --pipeline",
        ),
        (
            replace(SAID, rows=(Row(8, TENSOR, "unknown", "it brings its own code (x.py)"),)),
            8,
            "warn n: unknown: it brings its own code (x.py): only a start",
        ),
    ],
)
def test_what_would_do_instead(said: Split, hosts: int, expected: str) -> None:
    mode = said.rows[0].mode
    (found,) = told(fit.divides({"n": facts_of(split=said)}, 8, mode, hosts=hosts))
    assert expected in found
    both = replace(
        said, rows=(*said.rows, OTHER if mode == TENSOR else replace(OTHER, mode=TENSOR))
    )
    (found,) = told(fit.divides({"n": facts_of(split=both)}, 8, mode, hosts=hosts))
    assert ("--pipeline" in found) == (not found.startswith("warn"))


def test_divided() -> None:
    good = {"n": facts_of()}
    ok = "ok n: by 2 ranks, each 107.37 GB of weights, 4 KV heads (mlx-lm 0.32.2): "
    assert told(fit.divides(good, 2, TENSOR)) == [ok]
    assert told(fit.divides(good, 4, TENSOR))[0].startswith("warn n: unknown: it was not asked")
    (other,) = fit.divides(good, 2, TENSOR, "vllm-mlx")
    assert other.level == checks.WARN
    assert other.what.startswith("unknown: vllm-mlx does not divide by mlx-lm, which says: by 2")


def test_what_took_long_is_told_once() -> None:
    kept, new = facts_of("a"), facts_of("b", split=replace(SAID, kept=False, seconds=2.31))
    slow = facts_of("c", split=replace(SAID, kept=False, seconds=4.0))
    assert fit.asked({"a": kept}) == []
    (found,) = fit.asked({"a": kept, "b": new, "c": slow})
    assert (found.level, found.node) == (checks.OK, "c")
    assert "in 4.0 s, for the first time" in found.what


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
        ({"split": replace(SAID, rows=(Row(2, TENSOR, "unknown", "?"),))}, 1, 8192,
         "warn n: fits but for its cache: 100.0 GiB (100.0 GiB of weights, ? of cache)"),
        ({"memory": Unknown("vm_stat can't be read")}, 1, 8192, "fail n: unknown: vm_stat"),
        ({"gpu": Unknown("no")}, 1, 8192, "fail n: unknown: no"),
    ],
)  # fmt: skip
def test_fit(values: dict[str, Any], count: int, tokens: int | None, expected: str) -> None:
    numbers = {"n": [0, 1][:count], **({"m": [1]} if count == 1 else {})}
    (found,) = told(fit.fits({"n": facts_of(**values)}, numbers, TENSOR, tokens))
    assert found.startswith(expected)


def test_a_pipelines_ranks_hold_what_they_hold() -> None:
    row = Row(2, PIPELINE, "yes", "", (120 * GIB, 80 * GIB), (4,), ((None, 160 * 1024),))
    facts = {n: facts_of(n, split=replace(SAID, rows=(row,)), gpu=100 * GIB) for n in "ab"}
    found = fit.fits(facts, {"a": [0], "b": [1]}, PIPELINE, 8192)
    assert [each.level for each in found] == [checks.FAIL, checks.OK]


def test_what_can_not_be_divided_is_not_weighed() -> None:
    no = replace(SAID, rows=(Row(2, TENSOR, "no", KV),))
    assert fit.fits({"n": facts_of(split=no)}, {"n": [0, 1]}, TENSOR) == []
    assert fit.fits({"n": facts_of(split=Unknown("?"))}, {"n": [0, 1]}, TENSOR) == []


def test_a_cache_has_windows_and_a_state() -> None:
    row = Row(1, TENSOR, "yes", "", (GIB,), (8,), ((None, 100), (128, 10)), state=7)
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
    assert remedy(112, 90) == "more nodes, a smaller model, or a smaller --context"


def expected_of(engine: Engine, *args: str, count: int = 2) -> Expected:
    hosts = [Host(f"n{n}", ("10.0.0.1",)) for n in range(count)]
    planned = ranks.plan(hosts, "ring", engine, args=args)
    return Expected(planned, "ring", engine, 8000, "/m", 10**15, 30.0)


def shares(engine: Engine, *args: str, count: int = 2, **values: Any) -> list[tuple[str, str]]:
    facts = {f"n{n}": facts_of(f"n{n}", **values) for n in range(count)}
    found = checks.shares(expected_of(engine, *args, count=count), Snapshot(facts, {}))
    return [(each.check, each.level) for each in found if each.node == "n0"]


LIGHT = Engine("light", ("/light.py",), "/", "")


def test_engines() -> None:
    """Whose division is not mlx-lm's is never ok, and never refused for it."""
    assert shares(MLX_LM) == [("complete", "ok"), ("divides", "ok"), ("fit", "ok")]
    assert shares(VLLM_MLX)[1] == ("divides", "warn")
    no = replace(SAID, rows=(Row(2, TENSOR, "no", KV),))
    assert shares(MLX_LM, split=no)[1] == ("divides", "fail")
    assert shares(VLLM_MLX, split=no)[1] == ("divides", "warn")
    assert shares(LIGHT) == [("divides", "warn")]
    assert shares(LIGHT, count=1) == []
    assert ("divides", "fail") in shares(MLX_LM, split=Unknown("it gave no answer in time"))


def test_the_mode_is_that_of_the_servers_arguments() -> None:
    assert expected_of(MLX_LM, "--model", "m").mode == TENSOR
    assert expected_of(MLX_LM, "--pipeline", "--port", "1").mode == PIPELINE
    assert is_pipeline(["--pipe"])  # argparse takes it
    assert not is_pipeline(["--pipelines", "--port", "--p", "pipeline"])


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
    assert in_words(size) == words
