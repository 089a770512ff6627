"""Ranks of MLX's own ring, driven in step: they hold a model without a server around it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import waits
from conftest import DEADLINE, ROOT, free_ports

from tasks.cluster.facts.models.split import TENSOR


class Ranks:
    """Processes of split_rank.py, driven in step; one that dies or hangs takes the others along."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.start()

    def start(self) -> None:
        port = free_ports(max(self.count, 1))
        hosts = [[f"127.0.0.1:{port + number}"] for number in range(self.count)]
        self.file = tempfile.NamedTemporaryFile("w", suffix=".json")  # noqa: SIM115
        json.dump(hosts, self.file)
        self.file.flush()
        numbers = [[str(number), self.file.name] for number in range(self.count)]
        self.all = [self._process(*words) for words in numbers or [[]]]

    def _process(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, str(ROOT / "tests" / "split_rank.py"), *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", **waits.environment()},
        )

    def stop(self) -> None:
        for each in self.all:
            each.kill()
            each.wait(DEADLINE)
            for pipe in filter(None, (each.stdin, each.stdout)):
                with suppress(OSError):
                    pipe.close()
        self.file.close()

    def order(self, *words: Any, seconds: float = 60) -> list[Any]:
        """What each said; None of one that died, or gave no answer in time."""
        said: list[Any] = [None] * len(self.all)

        def ask_one(number: int) -> None:
            pipes = self.all[number]
            assert pipes.stdin
            assert pipes.stdout
            try:
                pipes.stdin.write(json.dumps(words) + "\n")
                pipes.stdin.flush()
                line = next((each for each in pipes.stdout if each.startswith("said ")), None)
                said[number] = line and json.loads(line[5:])
            except (OSError, ValueError):
                return

        threads = [
            threading.Thread(target=ask_one, args=[n], daemon=True) for n in range(len(said))
        ]
        for each in threads:
            each.start()
        for each in threads:
            each.join(seconds)
        if None in said:
            self.stop()
            self.start()
        return said

    def outcome(self, folder: Path, mode: str) -> tuple[str, Any]:
        """("same", each rank's bytes), or ("wrong" or "raised", why)."""
        sizes: Sequence[Any] = ()
        compared = "build" if mode == TENSOR else "steps"
        for order in (["load", str(folder)], [mode], [compared], ["evaluate"]):
            said = self.order(*order, seconds=30 if compared == "steps" else 60)
            bad = [each for each in said if not isinstance(each, (int, float)) and each != "ok"]
            if bad:
                return "raised", (order, bad[0])
            sizes = said if order == [mode] else sizes
        # Of right answers the worst seen was 1.6e-5, of wrong ones the best 0.69.
        return ("same", tuple(sizes)) if max(said) < 2e-3 else ("wrong", said)


GetRanks = Callable[..., Ranks]


@pytest.fixture(scope="module")
def ranks() -> Iterator[Callable[..., Ranks]]:
    """`ranks(3)`: three of them, kept for the module; `ranks(0)` is one that writes models."""
    made: dict[int, Ranks] = {}

    def get(count: int) -> Ranks:
        return made[count] if count in made else made.setdefault(count, Ranks(count))

    yield get
    for each in made.values():
        each.stop()
