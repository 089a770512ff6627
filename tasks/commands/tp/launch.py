"""What inv tp.launch does: all ranks are started, rank 0 first."""

from ...cli import envelope, screen
from ...cluster.cluster import Cluster
from ...cluster.config import engine
from ...cluster.config.ranks import FAST_SYNCH, fast_synch_of
from ...cluster.errors import ActionFailed, CheckFailed, Unreachable
from ...cluster.facts.snapshot import Snapshot
from ...cluster.http.api import Api
from ...cluster.http.failure import Why
from ...cluster.server import launch as launching
from ...cluster.server.launch import Run
from ...cluster.ssh import nodes
from ...cluster.text import counted
from ...session import Session
from .stop import end, left_on, stop_quietly


def run(session: Session, cluster: Cluster) -> str:
    """Start all ranks, give the run's id; if one can't be started, the others are stopped."""
    run = Run.new()
    if session.dry:
        _print_scripts(cluster, run)
        return run.id
    check_way(cluster)
    count, synch = counted(len(cluster.ranks), "rank"), _fast_synch(cluster)
    screen.say(f"starting {count} of {cluster.engine.name} over {cluster.backend}{synch}")
    session.note(run=run.id)
    point_out(cluster)
    known = session.known(cluster)
    _tell_stale_cache(cluster, known.reading)
    known.last = known.reading and known.reading[1]
    known.forget()
    try:
        with session.phase("launch"):
            launching.launch(cluster, run)
        known.started = run.id
        ranks = len(cluster.ranks)
        envelope.given({"run": run.id, "ranks": ranks, "backend": cluster.backend})
    except (ActionFailed, CheckFailed, Unreachable) as error:
        left = stop_quietly(session, cluster, run.id)
        raise type(error)(
            f"{error.message}; {left_on(left) or 'nothing of this start is left'}"
        ) from None
    except KeyboardInterrupt:
        _undo(session, cluster, run.id)
        raise
    return run.id


def _tell_stale_cache(cluster: Cluster, reading: tuple[float, Snapshot] | None) -> None:
    state = reading and reading[1].state(cluster.leader.name)
    before = state.last.get(0) if state else None
    if before and before.engine == cluster.engine.name:
        size = len(cluster.ranks)
        if told := engine.stale_cache(cluster.engine, cluster.args, before.size, size):
            screen.say(told)


def _fast_synch(cluster: Cluster) -> str:
    """What MLX_METAL_FAST_SYNCH is, where RDMA makes it matter or somebody has set it."""
    value = fast_synch_of(cluster.ranks[0].env)
    matters = value != "unset" or cluster.backend.startswith("jaccl")
    return f", {FAST_SYNCH} {value}" if matters else ""


def check_way(cluster: Cluster) -> None:
    """Raise CheckFailed where no request could ever reach the server, before a rank is started."""
    if cluster.leader.host.is_local:
        return
    found = Api.of(cluster).page(cluster.engine.ready)
    if found and found.why is Why.NO_WAY:
        raise CheckFailed(f"{cluster.leader.name}: {found}; nothing was started")


def point_out(cluster: Cluster) -> None:
    """Say who else can use the server, if anybody can."""
    if said := engine.exposure(cluster.args, cluster.bind, cluster.http_port, cluster.leader.name):
        screen.say(said)


def _undo(session: Session, cluster: Cluster, run: str) -> None:
    """Stop what an interrupted launch has started."""
    screen.say("\nstopping what was started")
    # Rank 0 gone, the scripts that are under way come to their end; one may have started a rank.
    end(session, cluster, run=run)
    if not nodes.idle(cluster.nodes):
        screen.say("warn: a node has not answered yet: look with inv tp.status")
    stop_quietly(session, cluster, run)


def _print_scripts(cluster: Cluster, run: Run) -> None:
    screen.out(f"# on {cluster.leader.name}, rank 0\n{launching.first_script(cluster, run, True)}")
    for name, script in launching.other_scripts(cluster, run, True).items():
        ranks = [str(rank.rank) for rank in cluster.ranks if rank.host.ssh == name and rank.rank]
        screen.out(f"# on {name}, rank {', '.join(ranks)}\n{script}")
