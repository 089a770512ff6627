"""Starting ranks: the script that a node runs, and the order in which nodes run theirs."""

from __future__ import annotations

import getpass
import json
import os
import secrets
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass

from ..cluster import Cluster
from ..config.engine import name_of
from ..config.ranks import Rank, fast_synch_of
from ..config.settings import DEFAULT
from ..errors import ActionFailed, CheckFailed, Unreachable
from ..facts.machine.processes import MARK, mark
from ..facts.server import state
from ..facts.server.state import Record
from ..ssh import nodes, scripts
from ..ssh.node import CommandResult
from ..text import said
from ..version import WRITER
from . import fence, snapshots

ALREADY = 75  # a script's exit status where a rank of an earlier start still lives
ENTRY = "MLX_TP_ENTRY_"  # how the names of what an entry is told begin
HEADER = "# mlx-tp run="  # how a log begins
LINKS = "/tmp"  # where the known names of logs are
HEAD_START = 0.2  # seconds for rank 0 of a ring: see first_script
COORDINATOR_TIMEOUT = 60  # seconds for rank 0 to listen, before the others are started


@dataclass(frozen=True)
class Run:
    """One start: its id (it begins with the time, so ids sort by age), who started it, and when."""

    id: str
    by: str
    started: float

    @classmethod
    def new(cls) -> Run:
        now = time.time()
        begun = time.strftime("%Y%m%dT%H%M%S", time.gmtime(now))
        return cls(f"{begun}{secrets.token_hex(4)}", who(), now)


def who() -> str:
    """Who acts, and from which control machine."""
    return f"{getpass.getuser()}@{socket.gethostname()}"


def launch(cluster: Cluster, run: Run) -> None:
    """Start rank 0, then the others all at once; raise what keeps a rank from being started."""
    snapshots.align(cluster)
    _check(nodes.sh(cluster.nodes[:1], {cluster.leader.name: first_script(cluster, run)}, 90))
    _check(nodes.sh(cluster.nodes, other_scripts(cluster, run)))


def first_script(cluster: Cluster, run: Run, mask: bool = False) -> str:
    """Starts rank 0; with jaccl it ends once rank 0 listens for the others.

    In a ring rank 0 must only be the first to have loaded MLX: the last rank connects to it, and
    where that is refused tries again after a whole second (seen with strace, mlx 0.32).
    """
    script = background(cluster, cluster.ranks[:1], run, mask)
    if len(cluster.ranks) == 1:
        return script
    if cluster.backend.startswith("jaccl"):
        port, looks = cluster.ranks[0].ports[0], COORDINATOR_TIMEOUT * 5
        return script + scripts.script(
            "launch/listening.sh", after="launch/node.sh", port=port, looks=looks
        )
    return f"{script}sleep {HEAD_START}\n"


def other_scripts(cluster: Cluster, run: Run, mask: bool = False) -> dict[str, str]:
    """Each node's script that starts its ranks other than rank 0."""
    others = {
        node.name: [rank for rank in cluster.on(node) if rank.rank > 0] for node in cluster.nodes
    }
    return {name: background(cluster, ranks, run, mask) for name, ranks in others.items() if ranks}


def background(cluster: Cluster, ranks: Sequence[Rank], run: Run, mask: bool = False) -> str:
    """Starts `ranks` of one node, detached, each with its log; `mask` hides values of env."""
    parts = [_node(cluster, ranks[0].host.ssh, run)]
    for rank in ranks:
        parts.append(
            scripts.script(
                "launch/background.sh",
                _words(cluster, rank, run, mask),
                after="launch/node.sh",
                **_values(cluster, rank),
                log=log_path(cluster, rank, run.id) if cluster.log_dir else "",
                link="" if cluster.log_dir else f"{LINKS}/{link(cluster, rank.rank)}",
                begins=HEADER,
                header=header(run, rank),
                rotate=scripts.text("launch/rotate.py"),
                keep=cluster.keep_logs,
                cap=scripts.text("launch/cap.py"),
                limit=cluster.log_limit,
            )
        )
    return "".join(parts)


def foreground(cluster: Cluster, rank: Rank, run: Run, mask: bool = False) -> str:
    """Starts one rank whose output is the script's own; it ends as the rank does."""
    return _node(cluster, rank.host.ssh, run, has_log=False) + scripts.script(
        "launch/foreground.sh",
        _words(cluster, rank, run, mask),
        after="launch/node.sh",
        **_values(cluster, rank),
    )


def link(cluster: Cluster, rank: int | None = None) -> str:
    """The known name of a rank's log, or of the combined one, that leads to it."""
    name = "" if cluster.name == DEFAULT else f".{cluster.name}"
    return f"tp_server{name}.log" if rank is None else f"tp_server{name}.rank{rank}.log"


def log_path(cluster: Cluster, rank: Rank, run: str) -> str:
    """A rank's log on its node; on this machine a relative folder counts from where we are."""
    folder = cluster.log_dir
    if folder is None:
        return f"{cluster.folder}/runs/{run}/rank-{rank.rank}.log"
    if rank.host.is_local:
        folder = os.path.abspath(os.path.expanduser(folder))
    return f"{folder.rstrip('/')}/tp_server.rank{rank.rank}.log"


def header(run: Run, rank: Rank) -> str:
    """The first line of a rank's log; it tells one run's log from the next."""
    return f"{HEADER}{run.id} rank={rank.rank} host={rank.host.ssh} by={run.by}"


def record(cluster: Cluster, rank: Rank, run: Run, log: str | None) -> Record:
    return Record(
        run=run.id,
        rank=rank.rank,
        size=len(cluster.ranks),
        host=rank.host.ssh,
        backend=cluster.backend,
        engine=cluster.engine.name,
        ready=cluster.engine.ready,
        model=cluster.model or "",
        command=list(rank.command),
        env=list(cluster.env_names),
        bind=cluster.bind,
        port=cluster.http_port,
        ports=list(rank.ports),
        log=log,
        started=run.started,
        by=run.by,
        hosts=[each.host.ssh for each in cluster.ranks],
        cwd=rank.cwd,
        log_dir=cluster.log_dir,
        entry=cluster.engine.has_entry,
        fast_synch=fast_synch_of(rank.env),
        keeps_env=cluster.keep_env,
        served=cluster.served,
    )


def _node(cluster: Cluster, name: str, run: Run, has_log: bool = True) -> str:
    """What comes before ranks on a node: all that the run has there are recorded."""
    here = [rank for rank in cluster.ranks if rank.host.ssh == name]
    logs = {rank.rank: log_path(cluster, rank, run.id) if has_log else None for rank in here}
    return scripts.script(
        "launch/node.sh",
        **cluster.where,
        **fence.values(cluster),
        run=run.id,
        record=state.dump(run.id, [record(cluster, r, run, logs[r.rank]) for r in here]),
        who=run.by,
        already=ALREADY,
        keep_runs=cluster.keep_logs,
        spare=cluster.recalled[0],
        entry=f"# {WRITER}\n{scripts.text('entry.py')}" if cluster.engine.has_entry else "",
        served=scripts.text("served.py") if cluster.engine.keeps_to_model else "",
        score=scripts.text("score.py") if cluster.engine.has_entry else "",
    )


def _values(cluster: Cluster, rank: Rank) -> dict[str, str | float]:
    return {
        "rank": rank.rank,
        "python": rank.command[0],
        "cwd": rank.cwd or "",
        "prepare": cluster.engine.prepare,
        "detach": scripts.text("launch/detach.py"),
        "rdma": "1" if cluster.has_rdma else "",
        "keep_env": " ".join(cluster.env_names) if cluster.keep_env else "",
        "env_of": cluster.recalled[0],
        "recalled": " ".join(cluster.recalled[1]),
    }


def _words(cluster: Cluster, rank: Rank, run: Run, mask: bool) -> list[str]:
    """The rank's files, environment and arguments; `mask` hides values of the environment."""
    files = [word for pair in rank.files.items() for word in pair]
    pairs = []
    for name, value in rank.env.items():
        if name not in rank.files:
            hidden = mask and (name in cluster.env_names or not name.startswith("MLX_"))
            pairs.append(f"{name}={'***' if hidden else value}")
    pairs.append(f"{MARK}={mark(run.id, rank.rank)}")
    if cluster.engine.has_entry:
        # In its environment, where it takes it out again: the server's words are the user's.
        pairs += [f"{ENTRY}{name}={value}" for name, value in _entry(cluster).items()]
    return [*files, "--", *pairs, "--", *rank.command[1:]]


def _entry(cluster: Cluster) -> dict[str, str]:
    """What a rank's entry (remote/entry.py) is told."""
    told = {
        "BACKEND": cluster.backend,
        "SIZE": str(len(cluster.ranks)),
        "LIMIT": f"{cluster.join_timeout:g}",
        "MODEL": cluster.model or "",
    }
    if cluster.model and cluster.engine.keeps_to_model:
        names = name_of(cluster.args, cluster.model), cluster.engine.model
        told["NAMES"] = json.dumps([name for name in names if name])
        told |= {"OTHERS": "1"} if cluster.other_models else {}
    return told


def _check(answers: dict[str, CommandResult]) -> None:
    fence.check(answers)
    for name, answer in answers.items():
        if answer.failure:
            remedy = f": {answer.remedy}" if answer.remedy else ""
            raise Unreachable(f"{name}: {answer.failure}{remedy}")
        if answer.status == ALREADY:
            raise CheckFailed(f"{name}: {answer.err.strip()}")
        if not answer.ok:
            words = said(answer.err.strip() or answer.out) or "no reason given"
            status = f"exit status {answer.status}"
            raise ActionFailed(f"{name}: no rank started there ({status}): {words}")
