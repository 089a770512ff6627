"""What inv tp.cooldown does: wait until the kernel has RDMA's resources back."""

import time

from ...cli import envelope, screen
from ...cluster.checks import cooldown
from ...cluster.cluster import Cluster
from ...cluster.server import snapshots
from ...session import Session


def cooling(session: Session, cluster: Cluster) -> float:
    """Seconds that a start still has to wait, over all nodes: none without RDMA."""
    if not cluster.has_rdma:
        return 0.0
    begun = time.monotonic()
    begun, read = session.known(cluster).reading or (begun, snapshots.states(cluster))
    found = [read.state(node) for node in read.nodes]
    left = max((cooldown.cooling(each, cluster.cooldown) for each in found if each), default=0.0)
    return left - (time.monotonic() - begun) if left else 0.0


def run(session: Session, cluster: Cluster) -> None:
    """Wait out what is left of the cooldown, with a countdown."""
    left = cooling(session, cluster)
    envelope.given({"cooldown": max(left, 0.0)})
    if left <= 0:
        return
    if session.dry:
        screen.out(f"# would wait {left:.0f} s: a rank has ended without clean-up lately")
        return
    screen.say(f"cooldown: a rank has ended without clean-up lately, waiting {left:.0f} s")
    end = time.monotonic() + left
    while time.monotonic() < end:
        time.sleep(min(5.0, max(end - time.monotonic(), 0)))
        if time.monotonic() < end:
            screen.say(f"cooldown: {end - time.monotonic():.0f} s left")
