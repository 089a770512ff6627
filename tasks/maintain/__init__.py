"""inv maintain.*: for work on this project; in this checkout's list only, in no user's."""

from __future__ import annotations

from invoke.collection import Collection
from invoke.context import Context
from invoke.tasks import task


@task(auto_shortflags=False, help={"only": "run tests that match, as pytest's -k"})
def long(c: Context, only: str | None = None) -> None:
    """Run the tests that CI has no time for; print how long each took.

    For minutes, with real ranks, as root on Linux (exit 4 if one fails or can't run). An issue is
    done once they have passed.
    """
    from .long import run

    run(c, only)


ns = Collection("maintain")
ns.add_task(long)
