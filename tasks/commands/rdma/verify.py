"""inv rdma.verify: the collective that a server lives on, measured over the cluster's backend."""

import json
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TypedDict

from ...cli import envelope, screen
from ...cluster.checks import FAIL, ports, processes
from ...cluster.cluster import Cluster
from ...cluster.errors import ActionFailed, CheckFailed
from ...cluster.facts import known
from ...cluster.facts.links import ping
from ...cluster.known_errors import hints
from ...cluster.server import fence, snapshots
from ...cluster.server.launch import Run
from ...cluster.ssh import scripts
from ...cluster.ssh.node import CommandResult
from ...session import Session
from .. import findings
from ..tp import foreground, lock

NEXT = "inv rdma.ping tells which link does not work, inv rdma.status what it is set to"
TIMEOUT = 60  # seconds, for the ranks to meet and for all sizes


class SizeSum(TypedDict):
    bytes: int
    seconds: float
    right: bool


class Report(TypedDict):
    """What remote/all_sum.py prints on a rank."""

    rank: int
    world: int
    sums: list[SizeSum]


def run(session: Session, cluster: Cluster, seconds: float) -> None:
    """Run it on all ranks and tell; raise unless every rank saw all ranks and right sums."""
    with lock.locked(session, cluster, "rdma.verify"):
        _verify(session, cluster, seconds)


def _verify(session: Session, cluster: Cluster, seconds: float) -> None:
    _check_free(cluster)
    pings = _pings(cluster)
    ended: dict[int, CommandResult] = {}
    started = time.monotonic()

    def attend() -> None:
        while len(ended) < len(cluster.ranks) and not _failed(ended):
            if time.monotonic() - started > seconds:
                why = f"verify: the ranks did not finish within {seconds:g} s"
                raise ActionFailed(f"{why}: {NEXT} (or --timeout {2 * seconds:g})")
            time.sleep(0.05)

    collective = _with_collective(cluster)
    fence.lend(cluster, collective)
    foreground.attached(session, collective, Run.new(), ended, attend)
    if failed := _failed(ended):
        raise ActionFailed(_why(failed[0], ended))
    reports = [_report(answer.out) for answer in ended.values()]
    _tell(cluster, reports, pings)
    _judge(reports, len(cluster.ranks))


def _with_collective(cluster: Cluster) -> Cluster:
    """The cluster with the collective in place of the server; all else is as tp.start has it."""
    # jaccl-ring is the backend jaccl with MLX_JACCL_RING set (mlx.launch).
    backend = cluster.backend.removesuffix("-ring")
    text = scripts.text("all_sum.py")
    ranks = [
        replace(rank, command=(rank.command[0], "-c", text, backend)) for rank in cluster.ranks
    ]
    engine = replace(cluster.engine, prepare="", entry="none")
    # A name of its own: what the server was started with stays what a restart starts.
    return replace(cluster, ranks=ranks, engine=engine, name=f"{cluster.name}-verify")


def _check_free(cluster: Cluster) -> None:
    read = snapshots.running(cluster)
    findings.unreachable(read)
    found = [
        *processes.processes(cluster.expected, read),
        *ports.ports(replace(cluster.expected, http_port=0), read),
    ]
    if failed := [finding for finding in found if finding.level == FAIL]:
        raise CheckFailed(f"{failed[0].node}: {findings.with_fix(failed[0])}")


def _pings(cluster: Cluster) -> Mapping[str, float]:
    """ "host -> address" and the mean round trip in ms, from every host to the next one's."""
    ranks = cluster.ranks
    after = {
        rank.host.ssh: ranks[(index + 1) % len(ranks)].host for index, rank in enumerate(ranks)
    }
    ips = {name: list(host.ips[:1]) for name, host in after.items()}
    read = snapshots.read(cluster.nodes, lambda node: [ping.fact(ips[node.name])])
    return {
        f"{node} -> {ip}": found.mean
        for node, values in read.nodes.items()
        for ip, found in (known(values, ping.KEY) or {}).items()
        if found.mean is not None
    }


def _failed(ended: Mapping[int, CommandResult]) -> list[int]:
    return [rank for rank, answer in ended.items() if not answer.ok]


def _why(rank: int, ended: Mapping[int, CommandResult]) -> str:
    rows = ended[rank].out.splitlines()
    first = hints.first_error(rows) or (rows[-1:] or ["it said nothing"])[0]
    hint = hints.hint([first, *rows])
    more = f" ({hint.cause}: {hint.remedy})" if hint else f": {NEXT}"
    return f"verify: rank {rank}: {foreground.how_it_ended(ended[rank])}: {first}{more}"


def _report(text: str) -> Report:
    """What a rank printed; other lines (warnings of libraries) are passed over."""
    if not (rows := re.findall(r'^\{"rank": .*\}$', text, re.MULTILINE)):
        raise ActionFailed(f"verify: a rank gave no result: {text.strip()[-200:]!r}: {NEXT}")
    report: Report = json.loads(rows[-1])
    return report


def _judge(reports: Sequence[Report], size: int) -> None:
    for report in sorted(reports, key=lambda each: each["rank"]):
        if report["world"] != size:
            raise CheckFailed(
                f"verify: rank {report['rank']} was in a group of {report['world']}, not {size}:"
                f" the backend's configuration did not reach it: {NEXT}"
            )
        if wrong := [each["bytes"] for each in report["sums"] if not each["right"]]:
            what = f"verify: rank {report['rank']}: wrong sum of {wrong[0]} bytes"
            raise CheckFailed(f"{what}: start no server over these links: {NEXT}")
    screen.say(f"right sums on all {size} ranks")


def _tell(cluster: Cluster, reports: Sequence[Report], pings: Mapping[str, float]) -> None:
    """Per size the slowest rank's time, as latency and as bandwidth."""
    slowest = [
        max(each, key=lambda one: one["seconds"])
        for each in zip(*(report["sums"] for report in reports), strict=True)
    ]
    if envelope.given({"backend": cluster.backend, "ranks": list(reports), "ping_ms": pings}):
        return
    rows = [("all_sum", "latency", "bandwidth")]
    for each in slowest:
        speed = each["bytes"] / each["seconds"] / 1e9
        rows.append((_size(each["bytes"]), f"{each['seconds'] * 1e6:.0f} us", f"{speed:.3f} GB/s"))
    screen.table(rows)
    for where, mean in pings.items():
        screen.out(f"ping {where}: {mean * 1e3:.0f} us")


def _size(count: int) -> str:
    for unit, size in (("MiB", 1024**2), ("KiB", 1024)):
        if count >= size:
            return f"{count // size} {unit}"
    return f"{count} B"
