"""patchwork, as far as it is used here: the one place that knows what it takes to import it.

patchwork 1.0.1 asks Invoke for its copy of six, which is gone since Invoke 2. Of six it wants only
`string_types`. When patchwork no longer asks for it, this module is `from patchwork.transfers
import rsync` and can go.

`rsync(c, source, target, ...)` puts what it is given into a shell command as it is: quote before.
Its `exclude` stands between double quotes there, where `$(...)` still runs: use `rsync_opts`.
"""

import sys
from types import ModuleType

_six = ModuleType("invoke.vendor.six")
vars(_six)["string_types"] = (str,)
sys.modules.setdefault("invoke.vendor.six", _six)

from patchwork.transfers import rsync  # noqa: E402

__all__ = ["rsync"]
