"""What a node is and does: its system, memory, processes, ports, power and versions."""

from typing import TYPE_CHECKING

from .. import old

if not TYPE_CHECKING:

    def __getattr__(name):
        """What this was before it was a folder, for a version more."""
        if name not in ("KEY", "FACT"):
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from . import hardware

        old(f"tasks.cluster.facts.machine.{name}", f"hardware.{name}")
        return getattr(hardware, name)
