"""What each rank of `inv maintain.big` does beside serving; its Python takes it in as it begins.

Found by PYTHONPATH, so it is no part of what is measured. By its environment:

    MLX_BIG_GPUS=N           on CUDA: see one GPU alone, number MLX_RANK % N, and take of its memory
                             no more than a share; no PyTorch beside it
    MLX_BIG_NCCL=HOST:PORT   MLX's backend nccl where ring is asked for (ranks on GPUs of their own)
    MLX_BIG_HOLD=RANK:SEC    that rank comes so much later to meet the others
    MLX_BIG_SLOW=SEC         its load takes at least so long
    MLX_BIG_WRONG=scale      the last rank's matrices are 5 % too large
    MLX_BIG_WRONG=exchange   ranks 0 and 1 have each other's shards of o_proj, in all layers
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import os
import sys
import time
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

RANK = int(os.environ.get("MLX_RANK", "0"))
SIZE = int(os.environ.get("MLX_TP_ENTRY_SIZE", "1"))  # the entry takes it out of the environment


class Mender(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Lets a module be as it is, and then changes something of it."""

    def __init__(self, name: str, mend: Callable[[Any], None]) -> None:
        self.name, self.mend = name, mend
        self.loader: Any = None

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != self.name:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec:
            self.loader, spec.loader = spec.loader, self
        return spec

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> Any:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self.loader.exec_module(module)
        self.mend(module)


def core(mx: Any) -> None:
    """MLX itself: a rank that comes late, and nccl in ring's place."""
    rank, _, seconds = os.environ.get("MLX_BIG_HOLD", "").partition(":")
    if rank == str(RANK):
        time.sleep(float(seconds))
    share(mx)
    if "NCCL_HOST_IP" in os.environ:
        nccl(mx.distributed, mx.DeviceType)


def share(mx: Any) -> None:
    """Leave the GPU's other ranks their part: MLX keeps what it frees as if it were alone there.

    One of two ranks that keep 35 GB each ran out of memory in a load, on a GPU of 150 GB.
    """
    gpus = int(os.environ.get("MLX_BIG_GPUS") or 0)
    if gpus:
        ranks = -(-SIZE // gpus)
        whole = mx.set_memory_limit(1 << 40)
        mx.set_memory_limit(whole // ranks)
        mx.set_cache_limit(whole // ranks // 8)


def nccl(distributed: Any, device: type) -> None:
    given, is_available, all_sum = (
        distributed.init, distributed.is_available, distributed.all_sum
    )  # fmt: skip

    def init(strict: bool = False, backend: str = "any") -> Any:
        return given(strict=strict, backend="nccl" if backend == "ring" else backend)

    def summed(x: Any, *, group: Any = None, stream: Any = None) -> Any:
        # mlx-lm ends a load with a sum on the CPU's stream, which nccl has not got.
        return all_sum(x, group=group, stream=None if isinstance(stream, device) else stream)

    distributed.init, distributed.all_sum = init, summed
    distributed.is_available = lambda name="any": is_available("nccl" if name == "ring" else name)


def utils(mlx_lm: Any) -> None:
    """mlx-lm's loading: slowed down, or with a rank that is wrong afterwards."""
    given = mlx_lm.sharded_load

    def sharded_load(*words: Any, **more: Any) -> Any:
        found = slowly(mlx_lm.mx, lambda: given(*words, **more))
        wrong = os.environ.get("MLX_BIG_WRONG")
        if wrong:
            spoil(mlx_lm.mx, found[0], wrong)
        return found

    mlx_lm.sharded_load = sharded_load


def slowly(mx: Any, load: Callable[[], Any]) -> Any:
    """Evaluate one array at a time with pauses between them, so that reading takes its time."""
    seconds = float(os.environ.get("MLX_BIG_SLOW") or 0)
    if not seconds:
        return load()
    given = mx.eval

    def evaluated(*trees: Any) -> None:
        arrays = leaves(trees)
        size, begun, done = sum(each.nbytes for each in arrays) or 1, time.monotonic(), 0
        pause = seconds if size > 1_000_000 else 0  # a load ends with a sum of a single number
        for each in arrays:
            given(each)
            done += each.nbytes
            time.sleep(max(0.0, begun + pause * done / size - time.monotonic()))

    mx.eval = evaluated
    try:
        return load()
    finally:
        mx.eval = given


def leaves(tree: Any) -> list[Any]:
    if isinstance(tree, dict):
        tree = tree.values()
    elif not isinstance(tree, (list, tuple)):
        return [tree] if hasattr(tree, "nbytes") else []
    return [leaf for each in tree for leaf in leaves(each)]


def spoil(mx: Any, model: Any, how: str) -> None:
    group = mx.distributed.init()
    for layer in model.model.layers:
        attention, mlp = layer.self_attn, layer.mlp
        if how == "exchange":
            exchange(mx, group, attention.o_proj)
        elif group.rank() == group.size() - 1:
            named = [attention[f"{name}_proj"] for name in "qkvo"]
            for each in [*named, *(mlp[f"{name}_proj"] for name in ("gate", "up", "down"))]:
                each.weight = each.weight * 1.05
                mx.eval(each.weight)


def exchange(mx: Any, group: Any, layer: Any) -> None:
    """Give ranks 0 and 1 what the other one has."""
    rows = layer.weight.shape[0]
    everybody = mx.distributed.all_gather(layer.weight, group=group)
    mine = 1 - group.rank() if group.rank() < 2 else group.rank()
    layer.weight = mx.contiguous(everybody[mine * rows : (mine + 1) * rows])
    mx.eval(layer.weight)


def main() -> None:
    gpus = int(os.environ.get("MLX_BIG_GPUS") or 0)
    if gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = str(RANK % gpus)
        # The image's PyTorch takes longer to import than all else; a node of ours has none.
        sys.modules["torch"] = None  # type: ignore[assignment]
    address = os.environ.get("MLX_BIG_NCCL")
    if address and "MLX_TP_ENTRY_SIZE" in os.environ:
        host, _, port = address.partition(":")
        os.environ.update(NCCL_HOST_IP=host, NCCL_PORT=port, MLX_WORLD_SIZE=str(SIZE))
        os.environ["NCCL_NVLS_ENABLE"] = "0"
    sys.meta_path.insert(0, Mender("mlx.core", core))
    sys.meta_path.insert(0, Mender("mlx_lm.utils", utils))


if "MLX_BIG" in os.environ:  # in nobody else's Python
    main()
