"""The table of contents: every namespace of `inv --list`."""

from invoke.collection import Collection

from . import demo, tp

ns = Collection()
ns.add_collection(Collection.from_module(tp))
ns.add_task(demo.demo)
