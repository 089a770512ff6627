"""Ranks of tests import transformers without reading all of its models' sources each time.

It looks through some 1,600 files for what each offers, which is half of what a rank's import of
mlx_lm costs. What it has found is kept beside the interpreter, and all else is as it was.
"""

from __future__ import annotations

import importlib.util
import os
import pickle
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

NAME = "transformers.utils.import_utils"


class Finder:
    """Finds that one module as Python does, and has `keep` change it once it is there, once."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        if name != NAME:
            return None
        sys.meta_path.remove(Finder)
        spec = importlib.util.find_spec(name)
        loader: Any = spec and spec.loader
        if loader:
            loader.exec_module = partial(changed, loader.exec_module)
        return spec


def changed(load: Callable[[ModuleType], None], module: ModuleType) -> None:
    load(module)
    keep(module)


def keep(module: ModuleType) -> None:
    look = module.create_import_structure_from_path
    models = Path(str(module.__file__)).parents[1] / "models"
    state = models.stat()
    kept = Path(sys.prefix, "lib", f"transformers.{state.st_ino}.{state.st_mtime_ns}")

    def looked(path: str | Path) -> Any:
        # A file stands for its folder.
        folder = Path(path) if Path(path).is_dir() else Path(path).parent
        if folder != models:
            return look(path)
        with suppress(OSError, EOFError, pickle.UnpicklingError):
            return pickle.loads(kept.read_bytes())
        found = look(path)
        with suppress(OSError):  # where it is read-only, each rank looks for itself
            new = kept.with_suffix(f".{os.getpid()}")
            new.write_bytes(pickle.dumps(found))
            new.replace(kept)
        return found

    module.create_import_structure_from_path = looked  # type: ignore[attr-defined]


sys.meta_path.insert(0, Finder)
