"""Facts -> findings. Pure: what a node said is judged here, and unknown is never ok.

These are the names for files of users (docs/python-api.md), with our own checks registered.
"""

from typing import TYPE_CHECKING

from ..facts import old
from .expected import Expected
from .finding import FAIL, OK, WARN, Finding
from .registry import CHECKS, Check, check, each

# isort: off
# They are told in this order.
from . import memory as memory
from . import processes as processes
from . import ports as ports
from . import rdma as rdma
from . import hosts as hosts
from . import model as model
from . import versions as versions
from . import cooldown as cooldown
# isort: on

__all__ = ["CHECKS", "FAIL", "OK", "WARN", "Check", "Expected", "Finding", "check", "each"]

if not TYPE_CHECKING:

    def __getattr__(name):
        if name != "Wanted":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        old("tasks.cluster.checks.Wanted", "Expected")
        return Expected
