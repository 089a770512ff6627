"""What a stop leaves alone, and names: servers and holders of our ports that are not ours."""

import re
from dataclasses import dataclass

from ..checks.servers import servers, strange_ranks
from ..cluster import Cluster
from ..facts import known
from ..facts.machine import ports
from ..facts.machine import processes as listed_processes
from ..facts.machine.processes import Process
from ..facts.snapshot import Snapshot


@dataclass(frozen=True)
class Stranger:
    """What is not ours and was left: `port` is one of ours that it holds, or None."""

    node: str
    pid: int
    user: str
    since: str
    port: int | None
    command: str

    def __str__(self) -> str:
        who = ", ".join(
            filter(None, (f"pid {self.pid}" if self.pid else "", self.user, self.since))
        )
        port = f" holds port {self.port}:" if self.port else ""
        return f"{self.node}: {who}{port} {self.command}".rstrip()


_KEYS = re.compile(r"(--[\w-]*(?:key|token|secret|password)[ =])\S+", re.IGNORECASE)


def strangers(cluster: Cluster, read: Snapshot, after: Snapshot) -> list[Stranger]:
    """Who holds a port of ours, and which servers and ranks run, where all of ours are gone.

    Our ports are those of the ranks recorded in `read`, else those that the cluster would take.
    """
    found = []
    for node, values in after.nodes.items():
        processes = known(values, listed_processes.KEY) or {}
        here = [r.record for where, r in read.ranks if where == node and r.record]
        ours = {port for r in here for port in (*r.ports, *([r.port] if r.rank == 0 else []))}
        taken = known(values, ports.KEY) or {}
        held = {
            (holder.pid, holder.pid and holder.program): port
            for port in ours or cluster.expected.ports_on(node)
            for holder in taken.get(port, ())
        }
        others = {*servers(cluster.engine, values)} - {pid for pid, _ in held}
        others |= {each.pid for each in strange_ranks(processes, values)} - {p for p, _ in held}
        for (pid, program), port in held.items():
            found.append(_stranger(node, pid, processes.get(pid), port, str(program or "")))
        found += [_stranger(node, pid, processes.get(pid), None) for pid in sorted(others)]
    return found


def shown(process: Process) -> str:
    """Its command line, cut, without what its name says is a secret."""
    return _KEYS.sub(r"\1***", process.command)[:160]


def _stranger(
    node: str, pid: int, process: Process | None, port: int | None, program: str = ""
) -> Stranger:
    command = shown(process) if process else program
    user = process.user if process else "" if pid else "another user's process"
    since = f"since {process.since}" if process and process.since else ""
    return Stranger(node, pid, user, since, port, command)
