"""python -m chaos: as `inv maintain.chaos` runs it."""

from __future__ import annotations

import argparse
import sys
import time

from . import bugs
from .walk import walk
from .world import BrokenError


def main() -> int:
    parser = argparse.ArgumentParser(prog="chaos", description=__doc__)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=float("inf"))
    parser.add_argument("--bug", choices=sorted(bugs.BUGS))
    asked = parser.parse_args()
    if asked.bug:
        return bugs.run(asked.bug, asked.steps, asked.seed, asked.seconds)
    print(f"seed {asked.seed}", flush=True)
    begun = time.monotonic()
    try:
        done = walk(asked.steps, asked.seed, lambda line: print(line, flush=True), asked.seconds)
    except BrokenError as broken:
        print(f"found, seed {asked.seed}, {broken}", flush=True)
        return 4
    print(f"{done} steps, seed {asked.seed}, {time.monotonic() - begun:.0f} s: all holds")
    return 0


if __name__ == "__main__":
    sys.exit(main())
