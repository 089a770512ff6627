"""inv maintain.*: for work on this project; in this checkout's list only, in no user's."""

from __future__ import annotations

from invoke.collection import Collection
from invoke.context import Context
from invoke.tasks import task


@task(auto_shortflags=False, help={"only": "run tests that match, as pytest's -k"})
def long(c: Context, only: str | None = None) -> None:
    """Run the tests that take minutes, and print their times.

    Exit 4 if one fails or can't run; some need root and Linux. An issue is done once they have
    passed.
    """
    from .long import run

    run(c, only)


@task(auto_shortflags=False)
def models(c: Context) -> None:
    """Ask mlx_lm anew of all known models.

    By this Python; it says which answers changed. They are tests/data/models/known.json, of which
    docs/generate.py makes docs/models.md.
    """
    from .models import run

    run()


ns = Collection("maintain")
ns.add_task(long)
ns.add_task(models)
