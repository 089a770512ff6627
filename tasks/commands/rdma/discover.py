"""inv rdma.discover and rdma.topology: which cable is where, what it is for, and a picture."""

import json
import socket
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from ...cli import envelope, screen
from ...cluster.checks import FAIL, WARN, Finding
from ...cluster.config import hostfile as hostfiles
from ...cluster.config.hostfile import Host, HostfileData
from ...cluster.errors import BadInput, CheckFailed
from ...cluster.facts.snapshot import Snapshot
from ...cluster.rdma import cables as cabling
from ...cluster.rdma import diff as drift
from ...cluster.rdma import discover, links
from ...cluster.rdma.cables import Cable
from ...cluster.rdma.links import Link, LinkEnd
from ...cluster.server import snapshots
from ...cluster.ssh import nodes
from ...session import Session
from .. import output_file
from ..findings import lost, unreachable
from . import change


@dataclass(frozen=True)
class Discovered:
    """The cabling as it is now, and the hostfile that it comes to (as JSON)."""

    read: Snapshot
    cables: Sequence[Cable]
    findings: Sequence[Finding]
    links: Sequence[Link]
    hostfile: HostfileData
    why: str


def run(session: Session, hosts: Sequence[Host], path: str | None) -> None:
    """Tell the cables, the backend and the setup command; write the hostfile to `path`."""
    output_file.check(path, "--write")
    old = hostfiles.written(path) if path and Path(path).exists() else None
    found = _look(session, hosts, ends_of(path) if path and old else ())
    merged = drift.merged(old, found.hostfile) if old else found.hostfile
    if not envelope.given(_document(found, merged), found.findings):
        _tell(found, merged)
    refuse_faults(found.findings)
    if path and not session.dry:
        output_file.write(path, json.dumps(merged, indent=2) + "\n", "--write")
        screen.say(f"inv rdma.setup --hostfile {path} gives the links addresses;")
        screen.say(f"tp.hostfile: {path} in invoke.yaml makes it the cluster of every task")


def diff(session: Session, hosts: Sequence[Host], path: str) -> None:
    """Tell what has moved since the hostfile at `path` was written; raise if anything has."""
    old = hostfiles.written(path)
    found = _look(session, hosts, ends_of(path))
    moved = drift.diff(old, found.hostfile)
    if not envelope.given({"moved": moved}, found.findings):
        for line in moved:
            screen.out(line)
    refuse_faults(found.findings)
    if moved:
        raise CheckFailed(f"{path} is out of date: inv rdma.discover --write {path}")
    if not envelope.current():
        screen.out(f"nothing has moved since {path} was written")


def _look(session: Session, hosts: Sequence[Host], written: Iterable[LinkEnd]) -> Discovered:
    read = read_hosts(session, hosts)
    print_findings(lost(read))
    unreachable(read)
    cables, findings = cabling.cables(read.nodes)
    findings += cabling.machines(read.nodes)
    links = discover.subnets(cables, read.nodes, written)
    backend, why = discover.backend(links, read.nodes)
    reached = nodes.each(session.nodes(hosts), lambda node: _address(node.address))
    hostfile = discover.hostfile(backend, links, read.nodes, reached)
    return Discovered(read, cables, findings, links, hostfile, why)


def read_hosts(session: Session, hosts: Sequence[Host]) -> Snapshot:
    return snapshots.read(session.nodes(hosts), lambda node: discover.FACTS)


def _address(name: str) -> str:
    """The IPv4 address behind a name, as the control machine sees it; else the name."""
    with suppress(OSError, UnicodeError):
        return str(socket.getaddrinfo(name, None, socket.AF_INET)[0][4][0])
    return name


def _tell(found: Discovered, hostfile: HostfileData) -> None:
    print_findings(found.findings)
    rows = []
    for cable, (one, two) in zip(found.cables, found.links, strict=True):
        speed = f"{cable.speed} Gb/s" if cable.speed else "speed unknown"
        ends = (f"{one.host} {one.interface}", f"{two.host} {two.interface}")
        moved = [
            e.host for e in (one, two) if cabling.misplaced(e.interface, found.read.on(e.host))
        ]
        mark = f"must be moved on {' and '.join(moved)}" if moved else ""
        rows.append((*ends, speed, f"{one.address} - {two.address.ip}", mark))
    screen.table(rows)
    screen.sentence(f"backend {hostfile['backend']}: {found.why}")
    if command := discover.setup_command(found.hostfile):
        screen.out(command)


def _document(found: Discovered, hostfile: HostfileData) -> dict[str, object]:
    return {
        "cables": [asdict(cable) for cable in found.cables],
        "why": found.why,
        "setup": discover.setup_command(found.hostfile),
        "hostfile": _without_values(hostfile, known=found.hostfile["envs"]),
    }


def _without_values(hostfile: HostfileData, known: Sequence[str]) -> HostfileData:
    """The hostfile to be shown: what people wrote into its `envs` may be secret."""
    envs = hostfile.get("envs", [])
    hidden = [each if each in known else f"{each.partition('=')[0]}=***" for each in envs]
    return {**hostfile, "envs": hidden} if envs else hostfile


def refuse_faults(findings: Sequence[Finding]) -> None:
    if wrong := [finding for finding in findings if finding.level == FAIL]:
        raise CheckFailed(f"{wrong[0].node}: {wrong[0].what}: {wrong[0].fix}")


def ends_of(path: str) -> Sequence[LinkEnd]:
    """The ends of a hostfile's links; none where it names none."""
    try:
        return links.from_hostfile(hostfiles.load(path)).ends
    except BadInput:
        return ()


def print_findings(findings: Sequence[Finding]) -> None:
    if worse := [each for each in findings if each.level in (FAIL, WARN)]:
        change.print_findings(worse)
