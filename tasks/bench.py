"""inv bench.*: measured against what people would use instead, and the page that is written of it.

The benchmarks themselves are in benchmarks/, which is no part of what users run.
"""

import sys
from pathlib import Path
from typing import cast

from invoke.collection import Collection
from invoke.context import Context
from invoke.tasks import Task, task

from .cluster import shell
from .cluster.errors import ActionFailed, BadInput
from .session import Body

ROOT = Path(__file__).parents[1]
BENCHMARKS = {
    "list": "inv --list and --help against an empty tasks file",
    "trips": "Round trips and connections per node, counted at sshd",
    "preflight": "The checks against plain Fabric, ssh, Ansible, pyinfra",
    "models": "What asking whether the model divides costs the checks",
    "server": "Start, stop, idle: against by hand and mlx.launch",
    "notice": "How fast readiness and a dead rank are told",
    "interrupts": "How fast Ctrl-C works, at each stage of a command",
    "logs": "tp.logs --follow against tail -f over ssh",
    "tail": "tp.logs --lines 5 of logs of 1 GB",
    "watch": "What tp.watch and tp.top cost",
    "growth": "Time, memory, threads and files from 2 to 256 nodes",
    "flood": "Memory on 64 nodes that talk without an end",
    "standins": "What a macOS command of a test host takes to start",
}


def _run(c: Context, *names: str) -> None:
    if not sys.platform.startswith("linux"):
        raise BadInput("bench needs Linux and root: its nodes are sshd in namespaces of their own")
    python = shell.quote(sys.executable)
    root = shell.quote(str(ROOT))
    done = c.run(f"cd {root} && {python} -m benchmarks {' '.join(names)}", warn=True)
    # The page says what was measured last, whichever benchmark that was.
    c.run(f"cd {root} && {python} docs/generate.py", warn=True)
    if done is None or not done.ok:
        raise ActionFailed(f"bench: {', '.join(names) or 'a benchmark'} has failed, see above")


@task(name="all", auto_shortflags=False)
def all_(c: Context) -> None:
    """Run every benchmark; write docs/performance.md.

    It takes some 15 minutes on 2 cores.

    Ansible and pyinfra are installed into benchmarks/.venv first: uv's group `benchmark`.
    """
    root = shell.quote(str(ROOT))
    environment = {"UV_PROJECT_ENVIRONMENT": str(ROOT / "benchmarks" / ".venv")}
    c.run(f"cd {root} && uv sync -q --only-group benchmark --locked", env=environment, warn=True)
    _run(c)


def _single(name: str, what: str) -> Task[Body]:
    def body(c: Context) -> None:
        _run(c, name)

    body.__name__ = name
    body.__doc__ = f"{what}."
    return cast("Task[Body]", task(body, name=name, auto_shortflags=False))


ns = Collection("bench", all_, *(_single(name, what) for name, what in BENCHMARKS.items()))
