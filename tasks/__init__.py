"""The table of contents: every namespace of `inv --list`."""
# ruff: noqa: E402

from invoke.collection import Collection
from invoke.main import program

from . import moved
from .cli import startup
from .cli.program import Program

startup.begin()
moved.begin()

from . import bench, completion, demo, dev, hosts, local, rdma, testing, tp, version
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
ns.add_task(completion.completion)
ns.add_task(version.version)
# Invoke reads INVOKE_TP_*, INVOKE_DEV_* and INVOKE_LOCAL_* only for keys that it knows.
Executor.defaults = {**DEFAULTS, "hooks": {}}
ns.configure(Executor.defaults)
Program.first = {
    "tp.start": "inv tp.start -- --model M",
    "tp.status": "inv tp.status",
    "tp.chat": "inv tp.chat 'Hello'",
    "tp.logs": "inv tp.logs -f",
    "tp.stop": "inv tp.stop",
}
Program.values = staticmethod(completion.values)
# A namespace stands for what is left of it.
Program.groups = {
    "Daily": "tp.start tp.status tp.chat tp.logs tp.top tp.watch tp.restart tp.stop",
    "Set-up": "demo completion hosts.trust rdma.discover rdma.setup rdma.persist rdma.undo"
    " rdma.unpersist rdma.address rdma.devices rdma.unbridge hosts.clean",
    "Looking": "tp.preflight tp.health tp.memory tp.explain tp.audit tp.bench hosts rdma version",
    "Steps of tp.start alone, and its lock": "tp",
    "Development": "dev local",
}
Program.apart = ("bench", "test", "maintain")
# What was made before our tasks were loaded is ours from here on.
program.__class__ = Program
# What says nothing of one runs with ours too: a block of README pasted as the whole invoke.yaml.
program.executor_class = Executor
