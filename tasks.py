"""Invoke's entry: hands the name `tasks` over to the package beside this file.

Invoke finds `tasks.py` before `tasks/` and registers it as module `tasks`, so that an import of
the package would find this file again. Once it is out of `sys.modules`, Python prefers the package.
"""

import sys
from traceback import walk_tb

sys.modules.pop("tasks", None)

from tasks import ns  # noqa: E402
from tasks.cluster.settings import unreadable  # noqa: E402
from tasks.cluster.text import one_line  # noqa: E402

__all__ = ["ns"]


def _excepthook(kind, error, trace):  # type: ignore[no-untyped-def]
    """Invoke would end with a traceback on a configuration file that is broken."""
    names = {frame.f_code.co_name for frame, _ in walk_tb(trace)}
    if names & {"load_project", "update_config"}:
        print(one_line(unreadable(error)), file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


sys.excepthook = _excepthook
