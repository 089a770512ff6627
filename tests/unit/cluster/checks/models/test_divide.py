"""Whether a model divides over so many ranks, what would do instead, and of which engines."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from model_facts import SAID, facts_of, told

from tasks.cluster import checks
from tasks.cluster.checks import Expected, Finding, model
from tasks.cluster.checks.models import divide
from tasks.cluster.config import ranks
from tasks.cluster.config.engine import MLX_LM, VLLM_MLX, Engine, is_pipeline
from tasks.cluster.config.hostfile import Host
from tasks.cluster.facts import NodeFacts, Unknown
from tasks.cluster.facts.machine.memory import GIB
from tasks.cluster.facts.models.model import Model
from tasks.cluster.facts.models.split import PIPELINE, TENSOR, Split, SplitRow
from tasks.cluster.facts.snapshot import Snapshot


def test_without_an_answer() -> None:
    unknown = {"n": facts_of(split=Unknown("no answer"))}
    assert told(divide.divides(unknown, 2, TENSOR))[0].startswith("fail n: unknown: no answer: try")
    assert told(divide.divides({"n": NodeFacts("n", {})}, 2, TENSOR))[0].startswith(
        "fail n: unknown: it was not asked"
    )
    nowhere = facts_of(model=Model(None))
    assert divide.divides({"n": nowhere}, 2, TENSOR) == []
    assert [
        each.node for each in divide.divides({"n": nowhere, "m": facts_of("m")}, 2, TENSOR)
    ] == ["m"]


def answers(mode: str, *good: int, bad: SplitRow) -> Split:
    rows = [SplitRow(n, mode, "yes", "", (GIB,) * n) for n in good]
    return replace(SAID, rows=(bad, *rows))


KV = "4 KV heads can't be divided by 8 ranks"
OTHER = SplitRow(8, PIPELINE, "yes", "", (GIB,) * 8)


@pytest.mark.parametrize(
    ("said", "hosts", "expected"),
    [
        (
            answers(TENSOR, 1, 2, 4, bad=SplitRow(8, TENSOR, "no", KV)),
            8,
            f"fail n: {KV}: -n 2 or 4",
        ),
        (answers(TENSOR, 1, 2, 3, 4, 6, bad=SplitRow(8, TENSOR, "no", KV)), 2, "-n 2, 4 or 6"),
        (answers(TENSOR, 1, 2, 4, bad=SplitRow(8, TENSOR, "no", KV)), 1, "-n 2 or 4"),
        (answers(TENSOR, 1, 3, 5, bad=SplitRow(8, TENSOR, "no", KV)), 3, "-n 3"),
        (answers(TENSOR, 3, 5, bad=SplitRow(8, TENSOR, "no", KV)), 2, ": -n 3"),
        (answers(TENSOR, 1, bad=SplitRow(8, TENSOR, "no", KV)), 8, ": -n 1"),
        (
            answers(TENSOR, bad=SplitRow(8, TENSOR, "no", KV)),
            8,
            ": another model, or another version",
        ),
        (answers(PIPELINE, 1, 3, bad=SplitRow(8, PIPELINE, "no", "why")), 8, "fail n: why: -n 3"),
        (replace(SAID, rows=(SplitRow(8, TENSOR, "no", KV), OTHER)), 8, f"{KV}: -- --pipeline"),
        (
            replace(SAID, rows=(SplitRow(8, PIPELINE, "no", "why"), replace(OTHER, mode=TENSOR))),
            8,
            "fail n: why: without --pipeline",
        ),
        (
            replace(SAID, rows=(SplitRow(8, TENSOR, "unknown", "it brings its own code (x.py)"),)),
            8,
            "warn n: unknown: it brings its own code (x.py): only a start",
        ),
    ],
)
def test_what_would_do_instead(said: Split, hosts: int, expected: str) -> None:
    mode = said.rows[0].mode
    (whole,) = divide.divides({"n": facts_of(split=said)}, 8, mode, hosts=hosts)
    (found,) = told([whole])
    assert whole.check == "divides"
    assert expected in found
    both = replace(
        said, rows=(*said.rows, OTHER if mode == TENSOR else replace(OTHER, mode=TENSOR))
    )
    (other,) = divide.divides({"n": facts_of(split=both)}, 8, mode, hosts=hosts)
    assert ("--pipeline" in other.fix) == (other.level != checks.WARN)
    if other.level == checks.FAIL and "-n" in whole.fix:
        way = "-- --pipeline" if mode == TENSOR else "without --pipeline"
        assert other.fix == f"{whole.fix}, or {way}"


def test_divided() -> None:
    good = {"n": facts_of()}
    ok = "ok n: by 2 ranks, each 107.37 GB of weights, 4 KV heads (mlx-lm 0.32.2): "
    assert told(divide.divides(good, 2, TENSOR)) == [ok]
    assert told(divide.divides(good, 4, TENSOR))[0].startswith("warn n: unknown: it was not asked")
    (other,) = divide.divides(good, 2, TENSOR, "vllm-mlx")
    assert other.level == checks.WARN
    assert other.what.startswith("unknown: vllm-mlx does not divide by mlx-lm, which says: by 2")
    (other,) = divide.divides({"n": facts_of(split=Unknown("no"))}, 2, TENSOR, "vllm-mlx")
    assert other.what == "unknown: vllm-mlx does not divide by mlx-lm, which says: no"


@pytest.mark.parametrize(
    ("mode", "count", "heads", "expected"),
    [
        (TENSOR, 1, (8,), "by 1 rank, 1.07 GB of weights, 8 KV heads"),
        (TENSOR, 2, (1,), "by 2 ranks, each 1.07 GB of weights, 1 KV head"),
        (TENSOR, 2, (4, 2), "by 2 ranks, each 1.07 GB of weights, 4 and 2 KV heads"),
        (PIPELINE, 2, (), "--pipeline over 2 ranks, each 1.07 GB of weights"),
        (PIPELINE, 1, (), "by 1 rank, 1.07 GB of weights"),
    ],
)
def test_shares_in_words(mode: str, count: int, heads: tuple[int, ...], expected: str) -> None:
    row = SplitRow(count, mode, "yes", "", (GIB,) * count, heads)
    facts = {"n": facts_of(split=replace(SAID, rows=(row,)))}
    (found,) = divide.divides(facts, count, mode, "other" if count == 1 else "")
    assert found == Finding("divides", checks.OK, "n", f"{expected} (mlx-lm 0.32.2)")


def test_what_took_long_is_told_once() -> None:
    kept, new = facts_of("a"), facts_of("b", split=replace(SAID, kept=False, seconds=2.31))
    slow = facts_of("c", split=replace(SAID, kept=False, seconds=4.0))
    assert divide.asked({"a": kept}) == []
    (found,) = divide.asked({"a": kept, "b": new, "c": slow})
    what = "mlx-lm 0.32.2 worked this out in 4.0 s, for the first time: the answer is kept there"
    assert found == Finding("asked", checks.OK, "c", what)
    fast = facts_of("d", split=replace(SAID, kept=False, seconds=1.0))
    assert divide.asked({"c": slow, "d": fast}) == [found]


def expected_of(engine: Engine, *args: str, count: int = 2) -> Expected:
    hosts = [Host(f"n{n}", ("10.0.0.1",)) for n in range(count)]
    planned = ranks.plan(hosts, "ring", engine, args=args)
    return Expected(planned, "ring", engine, 8000, "/m", 10**15, 30.0)


def shares(engine: Engine, *args: str, count: int = 2, **values: Any) -> list[tuple[str, str]]:
    facts = {f"n{n}": facts_of(f"n{n}", **values) for n in range(count)}
    found = model.shares(expected_of(engine, *args, count=count), Snapshot(facts, {}))
    return [(each.check, each.level) for each in found if each.node == "n0"]


LIGHT = Engine("light", ("/light.py",), "/", "")


def test_engines() -> None:
    """Whose division is not mlx-lm's is never ok, and never refused for it."""
    assert shares(MLX_LM) == [("complete", "ok"), ("divides", "ok"), ("fit", "ok")]
    assert shares(VLLM_MLX)[1] == ("divides", "warn")
    no = replace(SAID, rows=(SplitRow(2, TENSOR, "no", KV),))
    assert shares(MLX_LM, split=no)[1] == ("divides", "fail")
    assert shares(VLLM_MLX, split=no)[1] == ("divides", "warn")
    assert shares(LIGHT) == [("complete", "ok"), ("divides", "warn"), ("fit", "ok")]
    # In a preflight it is not asked.
    bare = Snapshot({"n0": NodeFacts("n0", {})}, {})
    assert model.shares(expected_of(LIGHT, count=1), bare) == []
    what = "unknown: light does not divide by mlx-lm"
    told = model.shares(expected_of(LIGHT), bare)
    assert told == [Finding("divides", checks.WARN, "n0", what)]
    assert ("divides", "fail") in shares(MLX_LM, split=Unknown("it gave no answer in time"))


def test_what_is_asked_of_a_share() -> None:
    """A cache for the tokens that were asked for; numbers of ranks that its two hosts can have."""
    hosts = [Host("n0", ("10.0.0.1",))] * 4 + [Host("n1", ("10.0.0.2",))] * 4
    made = replace(expected_of(MLX_LM), ranks=ranks.plan(hosts, "ring", MLX_LM))
    rows = (SplitRow(8, TENSOR, "yes", "", (GIB,) * 8, (4,), ((None, 1024),)),)
    facts = {n: facts_of(n, split=replace(SAID, rows=rows)) for n in ("n0", "n1")}
    found = model.shares(made, Snapshot(facts, {}), 4096)
    assert "4 ranks, together" in found[-1].what
    assert "16.0 MiB for 4096 tokens)" in found[-1].what
    no = answers(TENSOR, 1, 2, 3, 4, 6, bad=SplitRow(8, TENSOR, "no", KV))
    facts = {n: facts_of(n, split=no) for n in ("n0", "n1")}
    assert model.shares(made, Snapshot(facts, {}))[-1].fix == "-n 2, 4 or 6"


def test_the_mode_is_that_of_the_servers_arguments() -> None:
    assert expected_of(MLX_LM, "--model", "m").mode == TENSOR
    assert expected_of(MLX_LM, "--pipeline", "--port", "1").mode == PIPELINE
    assert is_pipeline(["--pipe"])  # argparse takes it
    assert not is_pipeline(["--pipelines", "--port", "--p", "pipeline"])
