"""`python -m benchmarks NAME...`: run benchmarks, keep their samples, print their tables."""

from __future__ import annotations

import importlib
import os
import sys
import time

from . import NAMES, measure, page

# Cold is without a process, not without compiled modules: a user has these.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


def main(names: list[str]) -> None:
    for name in names or NAMES:
        start = time.monotonic()
        print(f"{name} ...", file=sys.stderr, flush=True)
        result = importlib.import_module(f"benchmarks.{NAMES[name]}").run()
        spent = time.monotonic() - start
        measure.save(name, result, spent)
        print(page.table(measure.load()["benchmarks"][name]["rows"]))
        print(f"{name}: {spent:.0f} s", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
