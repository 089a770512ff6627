"""Where fewer ranks were faster, by what inv tp.bench has measured."""

from ...cli import screen
from ...cluster.cluster import Cluster
from ...cluster.facts import known
from ...cluster.facts.models import rates
from ...cluster.facts.snapshot import Snapshot


def tell_fewer(cluster: Cluster, read: Snapshot, model: str | None) -> None:
    """Say where fewer ranks were faster with this model, by what tp.bench has measured."""
    kept = known(read.on(cluster.leader.name), rates.KEY) or ()
    if said := rates.fewer(kept, model or "", len(cluster.ranks), cluster.backend):
        screen.say(said)
