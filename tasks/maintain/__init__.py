"""inv maintain.*: for work on this project; in this checkout's list only, in no user's."""

import shlex
import sys
from pathlib import Path
from typing import Annotated

from invoke.collection import Collection
from invoke.context import Context
from invoke.tasks import task

from ..cli.options import build, options_task
from ..cluster.config.values import File, Number, Seconds, Whole, Words
from ..cluster.errors import BadInput

Gigabytes = Annotated[float, Number("GB", 0.05, 2000)]
ServerPort = Annotated[int, Whole("PORT", 1024, 65000)]
Ranks = Annotated[int, Whole("COUNT", 1, 8)]
StepCount = Annotated[int, Whole("COUNT", 1, 1_000_000)]
Seed = Annotated[int, Whole("SEED", 0, 2**31)]
Steps = Annotated[tuple[str, ...], Words("STEPS", split=True)]


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


@options_task(
    help={
        "only": "modules below tasks/: cluster.server.stop,cluster.rdma.setup",
        "limit": "seconds for all of it; called again, it goes on",
    }
)
def mutants(c: Context, only: Steps = (), limit: Seconds = 3600.0) -> None:
    """Change one thing at a time, and tell what no unit test notices.

    In what can do harm: it tells each change for which none fails.

    By mutmut, over the modules that pyproject.toml names. `uv run mutmut show NAME` shows one.

    uv run --group mutation inv maintain.mutants --only cluster.server.stop
    """
    from .mutants import run

    run(only, limit)


@options_task(
    help={
        "gb": "bytes of the model, in 10^9 (bfloat16; float32 where MLX has only the CPU)",
        "ranks": "how many ranks",
        "steps": "only these: one, start, bench, idle, generating, loading, joining, stops,"
        " sigkill, wrong, cold, slow",
        "limit": "seconds for all of it: what does not fit in any more is a row that says so",
        "slow": "seconds of the slow load",
        "folder": "where the model is made, on each node; it stays there",
        "report": "a page to write (Markdown)",
        "nccl": "on CUDA, a GPU for each rank: over nccl, which the project does not run",
        "port": "the server's; the ring's begin at the next",
    }
)
def big(
    c: Context,
    gb: Gigabytes = 0.2,
    ranks: Ranks = 2,
    steps: Steps = (),
    limit: Seconds = 3600.0,
    slow: Seconds = 120.0,
    folder: File = "~/.cache/mlx-tp-big",
    hostfile: File | None = None,
    hosts: Steps = (),
    python: File | None = None,
    report: File | None = None,
    nccl: bool = False,
    port: ServerPort = 8790,
    json: bool = False,
) -> None:
    """Run a model of real size from its start to its end.

    Makes it, starts, asks, benches one rank against all, holds the canary against a right and two
    wrong servers, kills each rank at each point, stops and restarts; one table of what was found.
    Exit 4 where a goal is not met.

    inv maintain.big --gb 70 --ranks 2
    inv maintain.big --gb 4 --steps start,loading --report docs/reports/mine.md
    """
    from benchmarks.big import run
    from benchmarks.big.steps import STEPS
    from benchmarks.big.trial import TrialOptions

    if wrong := next((step for step in steps if step not in STEPS), None):
        raise BadInput(f"--steps {wrong}: choose from {', '.join(STEPS)}")
    if report and not Path(report).absolute().parent.is_dir():
        raise BadInput(f"--report {report}: there is no such folder: make it first")
    words = ["--hostfile", hostfile] if hostfile else []
    words += ["--hosts", ",".join(hosts)] if hosts else []
    cluster = build(
        c, hostfile=hostfile, hosts=hosts, python=python, engine="mlx-lm", num_ranks=ranks
    )
    wanted = TrialOptions(gb, ranks, limit, slow, nccl, port, words)
    command = shlex.join(["inv", *sys.argv[1:]])
    run(cluster, wanted, folder, steps or [*STEPS], report, command, json)


@options_task(
    help={
        "steps": "how many things are done",
        "seed": "what is drawn: the same seed says the same steps",
        "bug": "a bug to be found, seeded into a copy of this checkout (tests/chaos/bugs.py); all",
    }
)
def chaos(c: Context, steps: StepCount = 1000, seed: Seed = 1, bug: str | None = None) -> None:
    """Do at random what people and faults do, on test hosts.

    After each step all invariants are looked up: bystanders live, each rank is known, one command
    acts at a time, no lock stays, no file is torn, a stop stays, tp.status tells what is there. It
    ends with the first that does not hold (exit 4); needs Linux and root.

    inv maintain.chaos --steps 150 --seed 7
    inv maintain.chaos --steps 500 --bug no-fence
    """
    from .chaos import run

    run(steps, seed, bug)


ns = Collection("maintain")
ns.add_task(big)
ns.add_task(chaos)
ns.add_task(long)
ns.add_task(models)
ns.add_task(mutants)
