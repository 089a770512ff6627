"""What tasks do, told to people: read, judge, act, tell.

A folder for each namespace, and in it a file for each task; loaded when it is first asked for.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from . import completion as completion
    from . import demo as demo
    from . import dev as dev
    from . import hosts as hosts
    from . import rdma as rdma
    from . import tp as tp
    from . import version as version
else:
    from ..lazy import modules_of

    __getattr__ = modules_of(__name__)
