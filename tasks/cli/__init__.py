"""Invoke's side: what a command line is made into, and how its results are shown."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from . import screen as screen
else:
    from ..lazy import modules_of

    __getattr__ = modules_of(__name__)
