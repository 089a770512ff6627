"""The table of contents: every namespace of `inv --list`."""

from invoke.collection import Collection

from . import bench, demo, dev, local, rdma, testing, tp
from .cluster.settings import DEFAULTS

ns = Collection()
ns.add_collection(bench.ns)
ns.add_collection(Collection.from_module(dev))
ns.add_collection(Collection.from_module(local))
ns.add_collection(Collection.from_module(rdma))
ns.add_collection(Collection.from_module(tp))
ns.add_collection(Collection.from_module(testing), name="test")
ns.add_task(demo.demo)
# Invoke reads INVOKE_TP_*, INVOKE_DEV_* and INVOKE_LOCAL_* only for keys that it knows.
ns.configure({"tp": DEFAULTS, "dev": dev.DEFAULTS, "local": local.DEFAULTS})
