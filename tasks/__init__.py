"""The table of contents: every namespace of `inv --list`."""
# ruff: noqa: E402

from invoke.collection import Collection
from invoke.main import program

from . import moved
from .cli import startup

startup.begin()
moved.begin()

from . import bench, demo, dev, hosts, local, rdma, testing, tp
from .cli.executor import Executor
from .cluster.config.settings import DEFAULTS


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
