"""The server that runs, as its record on rank 0's node tells it."""

from ...cluster.cluster import Cluster
from ...cluster.config import engine
from ...cluster.errors import CheckFailed
from ...cluster.facts.server.state import RankState, Record
from ...cluster.facts.snapshot import Snapshot
from ...cluster.http.api import Api
from ...cluster.server import snapshots
from ..findings import unreachable


def leader(read: Snapshot) -> tuple[str, RankState, Record]:
    """Rank 0 of the recorded server, with its node; raise with what to do if none is recorded."""
    for node, rank in read.ranks:
        if rank.rank == 0 and rank.record:
            return node, rank, rank.record
    unreachable(read)
    raise CheckFailed("no server is recorded: inv tp.start")


def api_of(cluster: Cluster, node: str, record: Record) -> Api:
    """The HTTP side of a recorded server, wherever it was told to listen."""
    home = next(each for each in cluster.nodes if each.name == node)
    return Api(home, record.bind, record.port, engine.key(record.command) or cluster.api_key)


def recorded(cluster: Cluster) -> Api:
    """The HTTP side of the server that runs, wherever it was told to listen."""
    node, _, record = leader(snapshots.states(cluster))
    return api_of(cluster, node, record)
