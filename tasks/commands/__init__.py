"""What tasks do, told to people: read, judge, act, tell; a file per task, loaded by its use."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from . import completion as completion
    from . import demo as demo
    from . import dev as dev
    from . import hosts as hosts
    from . import output_file as output_file
    from . import rdma as rdma
    from . import tp as tp
    from . import version as version
else:
    from ..lazy import modules_of

    __getattr__ = modules_of(__name__)
