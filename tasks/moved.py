"""Names of version 0.1 that have moved: each works for this version still, with a warning."""

import sys
import warnings
from importlib import import_module
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from importlib.abc import Loader
else:
    Loader = object  # its module imports twenty others, which `inv --list` would wait for

_FACTS = {
    "machine": "clock files firewall gpu memory ports power processes restarts sudo versions"
    " vitals",
    "links": "ping rdma reach routes thunderbolt",
    "models": "model rates split",
}
MOVED = {
    "tasks.cluster.api": "tasks.cluster.http.api",
    "tasks.cluster.checks.host": "tasks.cluster.checks.machine",
    "tasks.cluster.checks.meeting": "tasks.cluster.checks.hosts",
    "tasks.cluster.engine": "tasks.cluster.config.engine",
    "tasks.cluster.hostfile": "tasks.cluster.config.hostfile",
    "tasks.cluster.launch": "tasks.cluster.server.launch",
    "tasks.cluster.lock": "tasks.cluster.server.lock",
    "tasks.cluster.nodes": "tasks.cluster.ssh.nodes",
    "tasks.cluster.ranks": "tasks.cluster.config.ranks",
    "tasks.cluster.reading": "tasks.cluster.server.snapshots",
    "tasks.cluster.snapshot": "tasks.cluster.facts.snapshot",
    "tasks.cluster.stop": "tasks.cluster.server.stop",
    "tasks.cluster.wait": "tasks.cluster.server.wait",
    "tasks.options": "tasks.cli.options",
    "tasks.screen": "tasks.cli.screen",
    "tasks.steps": "tasks.commands.tp.recorded",
    **{
        f"tasks.cluster.facts.{name}": f"tasks.cluster.facts.{folder}.{name}"
        for folder, names in _FACTS.items()
        for name in names.split()
    },
}


RENAMED = {"tasks.cli.options.WHAT": "SERVER_OPTIONS", "tasks.cli.options.WHERE": "TARGET_OPTIONS"}


class _Finder(Loader):
    """An import of an old name gives the module that has its contents now."""

    def find_spec(
        self, name: str, path: object = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return ModuleSpec(name, self) if name in MOVED else None

    def create_module(self, spec: ModuleSpec) -> None:
        """Nothing of our own: importlib makes an empty one."""

    def exec_module(self, module: ModuleType) -> None:
        old = module.__name__
        warnings.warn(f"{old}: use {MOVED[old]}", DeprecationWarning, stacklevel=2)
        sys.modules[old] = import_module(MOVED[old])


def renamed(module: str, name: str) -> object:
    """What a module's old name stands for; raise AttributeError where it has none."""
    new = RENAMED.get(f"{module}.{name}")
    if new is None:
        raise AttributeError(f"module {module!r} has no attribute {name!r}")
    warnings.warn(f"{module}.{name}: use {new}", DeprecationWarning, stacklevel=3)
    return getattr(sys.modules[module], new)


def begin() -> None:
    """From here on the old names are found."""
    sys.meta_path.append(_Finder())
