"""The table of contents: every namespace of `inv --list`."""
# ruff: noqa: E402

import atexit
import gc
import io
import os
import sys
from traceback import walk_tb
from typing import Any

from invoke.collection import Collection

# Invoke keeps no compiled modules (--write-pyc), and each run would compile all of ours anew.
sys.dont_write_bytecode = bool(sys.flags.dont_write_bytecode)

# At its end Python would look for garbage in all that was imported, once more.
atexit.register(gc.freeze)

# What a terminal without UTF-8 can't show is written out (\u2026) and ends nothing.
for _stream in (sys.stdout, sys.stderr):
    if isinstance(_stream, io.TextIOWrapper) and _stream.errors in ("strict", "surrogateescape"):
        _stream.reconfigure(errors="backslashreplace")

from . import bench, demo, dev, hosts, local, rdma, testing, tp
from .cluster.config.settings import DEFAULTS, unreadable
from .cluster.text import one_line
from .executor import Executor


class _Namespace(Collection):
    """Invoke copies what it loads, task by task; ours do not change, and are many."""

    def __deepcopy__(self, memo: object) -> "_Namespace":
        return self


ns = Collection()
ns.add_collection(bench.ns)
ns.add_collection(_Namespace.from_module(dev))
ns.add_collection(_Namespace.from_module(hosts))
ns.add_collection(_Namespace.from_module(local))
ns.add_collection(_Namespace.from_module(rdma))
ns.add_collection(_Namespace.from_module(tp))
ns.add_collection(_Namespace.from_module(testing), name="test")
ns.add_task(demo.demo)
# Invoke reads INVOKE_TP_*, INVOKE_DEV_* and INVOKE_LOCAL_* only for keys that it knows.
Executor.defaults = {**DEFAULTS, "hooks": {}}
ns.configure(Executor.defaults)


def _excepthook(kind: type[BaseException], error: BaseException, trace: Any) -> None:
    """Invoke would end with a traceback on a configuration file that is broken, or at `| head`."""
    if kind is BrokenPipeError:
        os._exit(141)
    names = {frame.f_code.co_name for frame, _ in walk_tb(trace)}
    if names & {"load_project", "update_config"}:
        print(one_line(unreadable(error)), file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


sys.excepthook = _excepthook
