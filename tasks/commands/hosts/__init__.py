"""What inv hosts.* does: a file per task, loaded when it is first asked for."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from . import check as check
    from . import clean as clean
    from . import list as list
    from . import selftest as selftest
    from . import trust as trust
else:
    from ...lazy import modules_of

    __getattr__ = modules_of(__name__)
