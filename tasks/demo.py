"""inv demo: the whole life of a server on this machine, with a tiny model made on the spot."""

from invoke.context import Context
from invoke.tasks import task

from . import commands, tp


@task(auto_shortflags=False)
def demo(c: Context) -> None:
    """Two ranks on this machine: start, ask, status, stop.

    The tiny model is made on the spot, and kept for the next time.
    """
    commands.demo.run(c, tp.start, tp.status, tp.stop)
