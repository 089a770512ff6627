"""The walk itself: steps, invariants after each, and what is told of them."""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from . import invariants, rules
from .rules import Model
from .world import BrokenError, World

Tell = Callable[[str], object]


def walk(steps: int, seed: int, tell: Tell, seconds: float = float("inf")) -> int:
    """Do so many steps, or as many as begin within so many seconds; raise what is found."""
    end = time.monotonic() + seconds
    with tempfile.TemporaryDirectory(prefix="chaos-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        world = World(Path(folder))
        try:
            world.up()
            model = Model(world, random.Random(seed))
            for number in range(1, steps + 1):
                if time.monotonic() > end:
                    return number - 1
                _one(model, number, tell)
            return steps
        finally:
            _end(world)


def _one(model: Model, number: int, tell: Tell) -> None:
    begun = time.monotonic()
    try:
        name, what = rules.step(model)
        tell(f"{number:4} {name:17} {what} ({time.monotonic() - begun:.1f} s)")
        invariants.hold(model)
    except BrokenError as broken:
        broken.args = (f"step {number}: {broken.args[0]}",)
        raise


def _end(world: World) -> None:
    for command in world.begun:
        command.send(9)
    world.down()
