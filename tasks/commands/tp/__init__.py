"""What inv tp.* does: a file per task, loaded when it is first asked for."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from . import audit as audit
    from . import bench as bench
    from . import canary as canary
    from . import chat as chat
    from . import compare as compare
    from . import cooldown as cooldown
    from . import explain as explain
    from . import foreground as foreground
    from . import health as health
    from . import hold as hold
    from . import launch as launch
    from . import lock as lock
    from . import logs as logs
    from . import memory as memory
    from . import preflight as preflight
    from . import recorded as recorded
    from . import restart as restart
    from . import speed as speed
    from . import start as start
    from . import status as status
    from . import stop as stop
    from . import top as top
    from . import wait as wait
    from . import watch as watch
else:
    from ...lazy import modules_of

    __getattr__ = modules_of(__name__)
