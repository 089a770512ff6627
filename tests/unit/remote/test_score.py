"""What ranks add up of their parts, and what that is named in mlx-lm's classes."""

from __future__ import annotations

import ast
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import pytest
from conftest import ROOT

sys.path.insert(0, str(ROOT / "tasks" / "remote"))
import score

sys.path.pop(0)


def summed() -> Iterator[str]:
    """The last name of each matrix that a shard() of mlx-lm divides in that way."""
    found = importlib.util.find_spec("mlx_lm")
    assert found
    assert found.origin
    for file in (Path(found.origin).parent / "models").glob("*.py"):
        text = file.read_text(encoding="utf-8")
        for call in ast.walk(ast.parse(text)) if '"sharded-to-all"' in text else ():
            if isinstance(call, ast.Call) and any(
                isinstance(each, ast.Constant) and each.value == "sharded-to-all"
                for each in call.args
            ):
                assert isinstance(call.args[0], ast.Attribute), (file, call.lineno)
                yield call.args[0].attr


def test_names() -> None:
    """All that this mlx-lm has, and of one with all models no other: Python 3.10 has only 0.31."""
    names = set(summed())
    assert names
    assert names <= set(score.SUMMED)
    if importlib.util.find_spec("mlx_lm.models.deepseek_v41"):
        assert names == set(score.SUMMED)


class Two(nn.Module):  # type: ignore[misc]
    def __init__(self, bias: bool) -> None:
        self.up_proj = nn.Linear(16, 64, bias=bias)
        self.down_proj = nn.Linear(64, 16, bias=bias)

    def __call__(self, x: Any) -> Any:
        return self.down_proj(self.up_proj(x))


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("parts", [2, 3, 5])
def test_in_parts(parts: int, packed: bool, bias: bool) -> None:
    """The same but for rounding, which is not nothing, and nothing of it stays."""
    mx.random.seed(1)
    model = Two(bias)
    if packed:
        nn.quantize(model, group_size=32, class_predicate=lambda _, each: each is model.down_proj)
    x = mx.random.normal((7, 16))
    before = model(x)
    with score.in_parts(model, parts):
        other = model(x)
    assert mx.allclose(before, other, atol=1e-4).item()
    assert not mx.array_equal(before, other).item()
    assert mx.array_equal(before, model(x)).item()
    assert type(model.down_proj) is (nn.QuantizedLinear if packed else nn.Linear)
