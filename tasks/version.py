"""inv version: which version of these tasks this is, and of what they stand on."""

from invoke.context import Context

from . import commands
from .cli.options import options_task


@options_task(help={"json": "print a JSON document"})
def version(c: Context, json: bool = False) -> None:
    """This checkout's version and commit, and its libraries'.

    For a bug report, beside inv hosts.selftest.
    """
    commands.version.run(json)
