"""The table of contents: every namespace of `inv --list`."""
# ruff: noqa: E402

import atexit
import gc
import io
import os
import sys
from collections.abc import Mapping
from traceback import walk_tb
from typing import Any

from invoke.collection import Collection
from invoke.main import program

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
from .executor import OURS, Executor


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
# What says nothing of one runs with ours too: a block of README pasted as the whole invoke.yaml.
program.executor_class = Executor


def _excepthook(kind: type[BaseException], error: BaseException, trace: Any) -> None:
    """Invoke would end with a traceback on a configuration file that is broken, or at `| head`."""
    if kind is BrokenPipeError:
        os._exit(141)
    frames = {frame.f_code.co_name: frame.f_locals for frame, _ in walk_tb(trace)}
    line = _of_invoke(error, frames)
    if not line:
        sys.__excepthook__(kind, error, trace)
        return
    print(one_line(line), file=sys.stderr)
    sys.exit(2)


def _of_invoke(error: BaseException, frames: Mapping[str, Mapping[str, Any]]) -> str:
    """What is wrong with a configuration that Invoke has stumbled over; "" for any other error."""
    if frames.keys() & {"load_project", "update_config"}:
        merging = frames.get("_merge_file", {}).get("path")
        file = merging or frames.get("_load_file", {}).get("filepath")
        return unreadable(error, file, frames.get("merge_dicts", {}).get("key"))
    named = frames.get("execute", {}).get("config_path")
    return f"tasks.executor_class {named}: {error}: {OURS}" if named else ""


sys.excepthook = _excepthook
