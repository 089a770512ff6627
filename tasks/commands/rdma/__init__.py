"""What inv rdma.* does: a file per task, loaded when it is first asked for."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from . import addressed as addressed
    from . import change as change
    from . import discover as discover
    from . import persist as persist
    from . import ping as ping
    from . import setup as setup
    from . import status as status
    from . import topology as topology
    from . import undo as undo
    from . import verify as verify
else:
    from ...lazy import modules_of

    __getattr__ = modules_of(__name__)
