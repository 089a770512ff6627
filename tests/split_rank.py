"""A rank that loads a small model alone, divides it and compares, told what to do on stdin.

The ranks go in step, so one that raises is seen before the others wait for it in a collective.
`make` writes a model's folder as mlx_lm.convert does; the rest is what sharded_load calls, the
canary's orders, and what harms a rank. Its arguments: rank and file of the ring (none: it is
alone), by none of which a check takes it for a server's rank.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import types
from pathlib import Path
from typing import Any

# As the product does, and for the same reason: tokenizers take 4 s to import.
package = types.ModuleType("mlx_lm")
found = importlib.util.find_spec("mlx_lm")
assert found
package.__path__ = list(found.submodule_search_locations or ())
sys.modules["mlx_lm"] = package
for name in ("transformers", "huggingface_hub", "mlx_lm.tokenizer_utils"):
    stand_in: Any = types.ModuleType(name)
    stand_in.__getattr__ = lambda attribute: type(attribute, (), {})
    sys.modules[name] = stand_in

import mlx.core as mx
import mlx_lm.utils as lm
from mlx.utils import tree_flatten, tree_map_with_path
from mlx_lm.models.cache import make_prompt_cache

sys.path.insert(0, str(Path(__file__).parents[1] / "tasks" / "remote"))
import score

VOCABULARY = 384
mx.disable_compile()  # on Linux each compiled function costs a run of the C++ compiler


def make(folder: str, config: dict[str, Any], bits: int, dtype: str = "float32") -> str:
    """Random weights, not too even: norms, biases and sinks are near what they were, not equal."""
    mx.random.seed(1)
    model_class, arguments = lm._get_classes(config)
    model = model_class(arguments.from_dict(config))

    def fill(path: str, value: mx.array) -> mx.array:
        if not mx.issubdtype(value.dtype, mx.floating):
            return value
        noise = mx.random.normal(value.shape)
        is_flat = value.ndim == 1 or value.size == max(value.shape)
        filled = value + 0.3 * noise if is_flat else noise * value.shape[-1] ** -0.5
        return filled.astype(getattr(mx, dtype))

    model.update(tree_map_with_path(fill, model.parameters()))
    if bits:
        model, config = lm.quantize_model(model, config, 32, bits)
    lm.save_model(folder, model)
    lm.save_config(config, Path(folder) / "config.json")
    return "ok"


class Rank:
    def __init__(self, number: str = "0", hosts: str = "") -> None:
        os.environ.update(MLX_RANK=number, MLX_HOSTFILE=hosts)
        self.group = mx.distributed.init(backend="ring", strict=True) if hosts else None

    def load(self, folder: str) -> str:
        self.model, _ = lm.load_model(Path(folder), lazy=True, strict=False)
        mx.eval(self.model.parameters())
        self.alone = self.answers()
        mx.eval(self.alone)
        return "ok"

    def open(self, folder: str, harm: str) -> str:
        """The model as a rank has it, with this kind of harm done to the last rank."""
        self.model, _ = lm.load_model(Path(folder), lazy=True, strict=False)
        if self.group:
            self.model.shard(self.group)
        if harm:
            assert self.group
            getattr(self, harm)(self.model.layers, self.group.rank() == self.group.size() - 1)
        mx.eval(self.model.parameters())
        return "ok"

    def obey(self, order: dict[str, Any]) -> Any:
        return score.obey(self.model, None, order)

    def one_matrix(self, layers: list[Any], harmed: bool) -> None:
        self.scale([layers[len(layers) // 2].self_attn.o_proj] if harmed else [])

    def all_matrices(self, layers: list[Any], harmed: bool) -> None:
        modules = [each for layer in layers for _, each in layer.named_modules()]
        self.scale([m for m in modules if harmed and "weight" in m and m.weight.ndim > 1])

    def down_projections(self, layers: list[Any], harmed: bool) -> None:
        self.scale([layer.mlp.down_proj for layer in layers] if harmed else [])

    def scale(self, modules: list[Any]) -> None:
        for each in modules:
            for name in ("scales", "biases") if "scales" in each else ("weight",):
                each[name] = each[name] * 1.05

    def dropped_head(self, layers: list[Any], harmed: bool) -> None:
        """A KV head whose values are nothing."""
        for each in (layer.self_attn for layer in layers if harmed):
            for name in ("scales", "biases") if "scales" in each.v_proj else ("weight",):
                rows = mx.arange(each.v_proj[name].shape[0]) * each.n_kv_heads
                kept = rows >= each.v_proj[name].shape[0]
                each.v_proj[name] = mx.where(kept[:, None], each.v_proj[name], 0)

    def exchanged(self, layers: list[Any], _: bool) -> None:
        """Ranks 0 and 1 have each other's shards of what sums up the heads."""
        assert self.group
        other = {0: 1, 1: 0}.get(self.group.rank(), self.group.rank())
        for module in (layer.self_attn.o_proj for layer in layers):
            for name in ("weight", "scales", "biases"):
                if name in module:
                    every = mx.distributed.all_gather(module[name][None], group=self.group)
                    module[name] = every[other]
                    mx.eval(module[name])

    def tensor(self) -> int:
        self.model.shard(self.group)
        return self.size()

    def pipeline(self) -> int:
        self.model.model.pipeline(self.group)
        return self.size()

    def size(self) -> int:
        mx.eval(self.model.parameters())
        return sum(each.nbytes for _, each in tree_flatten(self.model.parameters()))

    def build(self) -> str:
        self.together = self.answers()
        return "ok"

    def evaluate(self) -> float:
        if self.together.shape != self.alone.shape:
            return 1e9
        worst = mx.max(mx.abs(self.together - self.alone)) / mx.max(mx.abs(self.alone))
        return min(float(worst), 1e9)

    def steps(self) -> str:
        """Of a pipeline sends and receives are in order only within one evaluation."""
        self.together = self.answers(at_once=False)
        return "ok"

    def answers(self, at_once: bool = True) -> mx.array:
        cache, found = make_prompt_cache(self.model), []
        for tokens in ([(7 * i + 3) % VOCABULARY for i in range(9)], [11], [200]):
            found.append(self.model(mx.array([tokens]), cache=cache))
            if not at_once:
                mx.eval(found)
        return mx.concatenate(found, axis=1).astype(mx.float32)


if __name__ == "__main__":
    rank = Rank(*sys.argv[1:])
    for line in sys.stdin:
        order, *words = json.loads(line)
        try:
            said = make(*words) if order == "make" else getattr(rank, order)(*words)
        except Exception as error:
            said = f"{type(error).__name__}: {error}"
        print("said", json.dumps(said), flush=True)
