"""A model is whole if all files, tensors and layers are there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
from model_facts import SAID, WHOLE, facts_of, told

from tasks.cluster.checks import FAIL
from tasks.cluster.checks.models import whole
from tasks.cluster.facts import Unknown
from tasks.cluster.facts.machine.files import DANGLING
from tasks.cluster.facts.models.model import Model
from tasks.cluster.facts.models.split import Split, Weights


def safetensors(*names: str, length: int = 100) -> dict[str, str]:
    return {name: str(length) for name in names}


FIVE = [f"model-{number:05d}-of-00005.safetensors" for number in range(1, 6)]


@pytest.mark.parametrize(
    ("listed", "named", "implied", "expected"),
    [
        (safetensors(*FIVE), FIVE, dict.fromkeys(FIVE, 100),
         "ok n: 5 files of weights, 500 B, 80 layers, as long as the headers say: "),
        (safetensors(*FIVE[1:]), None, dict.fromkeys(FIVE, 100), f"fail n: {FIVE[0]} is missing"),
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
        ({"model.safetensors": DANGLING}, None, {},
         "fail n: model.safetensors is a link that leads nowhere"),
        ({**safetensors("model.safetensors"), "tokenizer.json": DANGLING}, None,
         {"model.safetensors": 100}, "fail n: tokenizer.json is a link that leads nowhere"),
        ({**safetensors("model.safetensors"), "picture.png": DANGLING}, None,
         {"model.safetensors": 100}, "ok n: 1 file"),
        (safetensors("model.safetensors"), [], {"model.safetensors": 100},
         "fail n: model.safetensors.index.json names no weights"),
        ({}, None, {}, "fail n: there are no model*.safetensors: is it a model for MLX?"),
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
    values = facts_of(
        model=Model("/m", {"config.json": "9 1", **listed}), split=replace(SAID, weights=of)
    )
    (found,) = whole.complete({"n": values})
    assert told([found])[0].startswith(expected)
    assert found.check == "complete"
    assert bool(found.fix) == (found.level == FAIL)


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
    (found,) = whole.complete({"n": facts_of(split=said)})
    assert told([found])[0].startswith(expected)
    assert found.check == "complete"


def test_a_model_that_names_no_layers() -> None:
    (found,) = whole.complete({"n": facts_of(split=replace(SAID, layers=0))})
    assert found.what == "1 file of weights, 200.0 GiB, as long as the headers say"


def test_sizes_of_what_is_loaded() -> None:
    files = {"model.safetensors": DANGLING, "model-1.safetensors": "7 1", "other": "9"}
    assert whole.sizes(Model("/m", files)) == {"model-1.safetensors": 7, "model.safetensors": -1}


def test_complete_without_an_answer() -> None:
    """It is told once, by what is asked of the same program, or of the files."""
    assert whole.complete({"n": facts_of(split=Unknown("no answer"))}) == []
    assert whole.complete({"n": facts_of(model=Model("/m", {"model.safetensors": "9"}))}) == []


@pytest.mark.parametrize(
    ("files", "is_told"),
    [
        ({}, True),
        ({"tokenizer_config.json": "9 12"}, True),
        ({"tokenizer.json": "0 9"}, True),
        ({"tokenizer.json": DANGLING}, True),
        ({"tokenizer.json": "9 12"}, False),
        ({"tokenizer.model": "9 12"}, False),
        ({"vocab.json": "9 12", "merges.txt": "9 12"}, False),
        ({"tiktoken.model": "9 12", "tokenization_kimi.py": "9 12"}, False),
        ({"qwen.tiktoken": "9 12"}, False),
        ({"tekken.json": "12000000"}, False),
    ],
)
def test_a_tokenizer(files: dict[str, str], is_told: bool) -> None:
    of = Model("/m", {"config.json": "9 1", **safetensors("model.safetensors"), **files})
    found = told(whole.tokenizers({"n": facts_of(model=of)}))
    assert bool(found) == is_told
    assert not found or found[0].startswith("fail n: it has no tokenizer (tokenizer.json): copy")
