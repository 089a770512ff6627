"""Test hosts that are like Macs: see `Rig`, and docs/rig.md for how to use one."""

from .faults import FAULTS
from .rig import Rig, discard, sweep
from .strict import LESS
from .topology import PORTS, Cable, addresses, mesh, names, ring, two_cables, two_nodes

__all__ = [
    "FAULTS",
    "LESS",
    "PORTS",
    "Cable",
    "Rig",
    "addresses",
    "discard",
    "mesh",
    "names",
    "ring",
    "sweep",
    "two_cables",
    "two_nodes",
]
