"""inv dev.*: the loop of changing a server's code or model and trying it on the cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import commands, tp
from .cli import options
from .cli.options import MACHINE_OPTIONS, SERVER_OPTIONS, TARGET_OPTIONS, cluster_task
from .cluster.config.values import Count, Path, Patterns, Seconds
from .cluster.errors import BadInput, CheckFailed

if TYPE_CHECKING:
    from .cli.options import Machines
    from .cluster.cluster import Cluster
    from .session import Session


@cluster_task(
    *MACHINE_OPTIONS,
    of=options.machines,
    help={
        "delete": "delete what is in the target and not in the source",
        "yes": "do not ask before --delete deletes more than 100 files or 1 GB of a node",
    },
)
def sync(
    session: Session,
    machines: Machines,
    source: Path | None = None,
    target: Path | None = None,
    exclude: Patterns = (),
    delete: bool = False,
    yes: bool = False,
    dry_run: bool = False,
) -> None:
    """Copy a folder to all nodes at once by rsync, then compare.

    For a checkout or a model.

    Nodes then hold the same files, sizes and (below 1 MiB) contents as here, or it exits with 4.
    A second run sends only what has changed.

    inv dev.sync --source ~/src/vllm-mlx --target vllm-mlx
    inv dev.sync --source ~/models/M --target models/M --hosts mac1,mac2 --dry-run
    """
    config, state_dir = session.context.config.get("dev", {}), session.state_dir
    copy = commands.dev.sync.wanted(config, source, target, exclude, delete, state_dir)
    if session.dry:
        commands.dev.sync.run(session, machines.hosts, copy)
        return
    what = f"dev.sync to {copy.target}{' --delete' if delete else ''}"
    targets, refusals = session.nodes(machines.hosts), (BadInput, CheckFailed)
    with session.audit.recorded(targets, state_dir, what, refusals):
        commands.dev.sync.run(session, machines.hosts, copy, yes)


@cluster_task(
    *SERVER_OPTIONS,
    "with_",
    "keep_logs",
    "lock_wait",
    of=tp.last,
    help={"json": "a JSON document per cycle, each on a line"},
    streams=True,
)
def loop(session: Session, cluster: Cluster, timeout: Seconds | None = None) -> None:
    """On each save: copy dev.source, restart; a line each time.

    As tp.restart --sync, at once and then again whenever something is saved in dev.source; the
    line has the seconds of each part. Where a start fails, why, and what is left; the next save
    tries again. Ctrl-C ends it, and leaves the server as it is.

    inv dev.loop
    """
    commands.dev.loop.run(session, cluster, timeout)


@cluster_task(
    *TARGET_OPTIONS,
    "num_ranks",
    "python",
    "cwd",
    help={
        "path": "the model: a folder as the ranks see it, or its name at Hugging Face",
        "context": "tokens in the cache, of all requests together (default: config.json's most)",
        "verify": "in place of the rest: read every byte on all nodes, and hold it against the"
        " hashes of its source",
    },
)
def model(
    session: Session,
    cluster: Cluster,
    path: str,
    context: Count | None = None,
    verify: bool = False,
) -> None:
    """Will a model run on these ranks?

    It must be on all nodes, the same, whole, divisible by the ranks, and each share must fit.

    Divisible: by the node's own mlx-lm, for -n ranks; without -n a table tells which numbers of
    ranks would do, with GB for each rank. Fits: weights and cache of a node's ranks against its
    memory and iogpu.wired_limit_mb. Exit 3 if not.

    --verify finds what no answer shows. Hashes are those of Hugging Face's cache or download, or
    of a SHA256SUMS in the folder. It tells how far it is; one that was interrupted goes on there.

    inv dev.model models/Llama-3.3-70B-Instruct-4bit --context 32768
    inv dev.model models/Llama-3.3-70B-Instruct-4bit --verify
    inv dev.model models/Llama-3.3-70B-Instruct-4bit -n 4 -- --pipeline
    """
    if verify:
        commands.dev.verify.run(cluster, path)
        return
    asked = session.call.passed.get("num_ranks") if session.call else None
    commands.dev.model.run(cluster, path, context, is_one=asked is not None)
