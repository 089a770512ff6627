"""Invoke's entry: hands the name `tasks` over to the package beside this file.

Invoke finds `tasks.py` before `tasks/` and registers it as module `tasks`, so that an import of
the package would find this file again. Once it is out of `sys.modules`, Python prefers the package.
"""

import sys

sys.modules.pop("tasks", None)

from tasks import maintain, ns  # noqa: E402

ns.add_collection(maintain.ns)

__all__ = ["ns"]
