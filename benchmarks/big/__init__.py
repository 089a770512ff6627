"""inv maintain.big: a model of real size on what accelerators there are, from its start to its end.

GPUs of other makers are a means here: what is CUDA's (a rank to a GPU, nccl) is in
remote/big/sitecustomize.py and nowhere else.
"""

import os
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from tasks.cli import envelope, screen
from tasks.cluster.cluster import ROOT, Cluster
from tasks.cluster.errors import ActionFailed
from tasks.cluster.text import counted
from tasks.commands.version import commit_of

from .node import About, on_node
from .plan import plan
from .report import HEAD, page
from .steps import STEPS, read_speed
from .trial import Trial, TrialOptions, gpus

ASKING = ("one", "bench", "wrong")  # steps that want many tokens
SLOW = 1_000_000_000  # bytes of a model from which on they are too many for a CPU
NAME = "big"  # of its cluster, so that it leaves others alone


def run(
    cluster: Cluster,
    wanted: TrialOptions,
    folder: str,
    steps: Sequence[str],
    report: str | None,
    command: str,
    as_json: bool,
) -> None:
    """Make the model, do the steps, print the table; ActionFailed where a goal is not met."""
    end = time.time() + wanted.limit
    cluster = replace(cluster, name=NAME)
    about = on_node(cluster, folder, ["about"])
    trial = _begun(cluster, wanted, folder, about["kind"], end)
    try:
        _do(trial, steps)
    finally:
        trial.end = time.time() + 120
        trial.clear()
    _give(_told(about, trial, command), trial, report, as_json)


def _begun(cluster: Cluster, wanted: TrialOptions, folder: str, kind: str, end: float) -> Trial:
    """A trial until `end`, with its model."""
    made = _make(cluster, wanted, folder, kind)
    place, size = made["folder"], made["bytes"]
    env = _environment(wanted, kind, place)
    trial = Trial(cluster, wanted, kind, place, f"{place}/{made['name']}", size, env, end)
    trial.row("make", f"{size / 1e9:.1f} GB in {made['files']} files", _written(made))
    return trial


def _give(told: dict[str, str], trial: Trial, report: str | None, as_json: bool) -> None:
    """Tell all rows; raise ActionFailed where a goal is not met."""
    if report:
        Path(report).write_text(page(told, trial.rows), encoding="utf-8")
        screen.say(f"written: {report}")
    if as_json:
        envelope.give({"about": told, "rows": [asdict(row) for row in trial.rows]})
    else:
        screen.table([HEAD, *(row.cells for row in trial.rows)])
    if failed := [row for row in trial.rows if row.holds is False]:
        first = f"{failed[0].step}: {failed[0].what.strip()}: {failed[0].found}"
        raise ActionFailed(f"maintain.big: {len(failed)} of {len(trial.rows)} rows fail: {first}")


def _make(cluster: Cluster, wanted: TrialOptions, folder: str, kind: str) -> About:
    """The model, on all nodes at once. CPUs have no fast product of bf16 in MLX 0.32."""
    dtype = "float32" if kind == "cpu" else "bfloat16"
    name = f"model-{wanted.gigabytes:g}GB-{dtype}"
    document = plan(wanted.gigabytes, dtype).document(name, min(14, os.cpu_count() or 1))
    limit = 60 + wanted.gigabytes * 10
    made = on_node(cluster, folder, ["make", "plan.json"], limit, document, everywhere=True)
    made["name"] = name
    return made


def _written(made: About) -> str:
    if made.get("was_there"):
        return "was there"
    return f"{made['seconds']:.1f} s, {made['bytes'] / 1e9 / made['seconds']:.2f} GB/s"


def _environment(wanted: TrialOptions, kind: str, folder: str) -> dict[str, str]:
    """What the ranks get, by which their Python finds sitecustomize.py."""
    path = [f"{folder}/rank", *filter(None, [os.environ.get("PYTHONPATH")])]
    found = {"MLX_BIG": "1", "PYTHONPATH": ":".join(path)}
    if kind == "cuda":
        found["MLX_BIG_GPUS"] = str(gpus())
    if wanted.nccl:
        found["MLX_BIG_NCCL"] = f"127.0.0.1:{wanted.port + 20}"
    return found


def _do(trial: Trial, steps: Sequence[str]) -> None:
    """One step after the other; one that fails is a row, and the next one begins anew."""
    trial.clear()
    trial.empty = trial.used()
    trial.speed = read_speed(trial, "read")
    trial.row("make", "read by one reader", f"{trial.speed / 1e9:.2f} GB/s")
    for name in steps:
        if name in ASKING and trial.kind == "cpu" and trial.bytes > SLOW:
            trial.row(name, "", "not run: a CPU takes minutes for each answer")
            continue
        try:
            STEPS[name](trial)
        except Exception as error:
            trial.row(name, "", f"{type(error).__name__}: {error}", holds=False)
            trial.clear()


def _told(about: About, trial: Trial, command: str) -> dict[str, str]:
    """What it was measured on, with this command."""
    ranks = trial.wanted.ranks
    over = "nccl" if trial.wanted.nccl else trial.cluster.backend
    where = f"{ranks} ranks on {', '.join(node.name for node in trial.cluster.nodes)}"
    if about["kind"] == "cuda":
        where = f"{ranks} ranks on {counted(gpus(), 'GPU')}"
    return {
        "command": f"`{command}`",
        "date": envelope.now(),
        "size": f"{trial.bytes / 1e9:.1f} GB",
        "ranks": f"{where}, {about['kind']}, over {over}",
        "machine": f"{about['machine']}, {about['cores']} cores, {about['memory'] >> 30} GiB",
        "versions": f"mlx {about['mlx']}, mlx-lm {about['mlx_lm']}, Python {about['python']},"
        f" this project {_commit()}",
    }


def _commit() -> str:
    """The checkout's commit; `.commit` says it where a copy of the files alone went along."""
    copied = ROOT / ".commit"
    return commit_of(ROOT) or (copied.read_text().strip() if copied.exists() else "unknown")
