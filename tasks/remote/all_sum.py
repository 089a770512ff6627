"""Run a real collective on every rank: its result, world size and time. argv: the backend.

It goes to the node's python with -c: it must need nothing but mlx.
"""

from __future__ import annotations

import json
import sys
import time

SIZES = (1, 1_024, 16_384, 262_144, 4_194_304)  # float32 elements: 4 bytes to 16 MiB


def measure(group: object, elements: int) -> dict[str, object]:
    """Sum over all ranks of their rank + 1; the time is the mean of some repetitions."""
    import mlx.core as mx

    rank, size = group.rank(), group.size()  # type: ignore[attr-defined]
    mine = mx.full((elements,), rank + 1.0)
    total = mx.distributed.all_sum(mine, group=group)
    right = bool(mx.all(total == size * (size + 1) / 2).item())
    times = 20 if elements <= 16_384 else 5
    start = time.perf_counter()
    for _ in range(times):
        mx.eval(mx.distributed.all_sum(mine, group=group))
    seconds = (time.perf_counter() - start) / times
    return {"bytes": elements * 4, "seconds": seconds, "right": right}


def main(backend: str) -> None:
    import mlx.core as mx

    # Not strict, a wrong configuration gives every rank a group of its own (mlx#4283).
    group = mx.distributed.init(strict=True, backend=backend)
    found = [measure(group, elements) for elements in SIZES]
    # What a login shell has said may have had no end of its line.
    print()
    print(json.dumps({"rank": group.rank(), "world": group.size(), "sums": found}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
