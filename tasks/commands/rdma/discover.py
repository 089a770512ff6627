"""inv rdma.discover and rdma.topology: which cable is where, what it is for, and a picture."""

from __future__ import annotations

import json
import socket
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ... import drawing
from ...cli import envelope, screen
from ...cluster.checks import FAIL, WARN, Finding
from ...cluster.config import hostfile as hostfiles
from ...cluster.config.hostfile import Host
from ...cluster.errors import ActionFailed, BadInput, CheckFailed
from ...cluster.facts import known
from ...cluster.facts.links import rdma
from ...cluster.facts.links.rdma import Interface
from ...cluster.facts.snapshot import Snapshot
from ...cluster.rdma import cables as cabling
from ...cluster.rdma import diff as drift
from ...cluster.rdma import discover, links
from ...cluster.rdma.cables import Cable
from ...cluster.rdma.links import End, Link
from ...cluster.server import snapshots
from ...cluster.ssh import nodes
from ...drawing import svg, terminal
from ...session import Session
from ..tp import show
from . import linking


@dataclass(frozen=True)
class Found:
    """The cabling as it is now, and the hostfile that it comes to (as JSON)."""

    read: Snapshot
    cables: Sequence[Cable]
    findings: Sequence[Finding]
    links: Sequence[Link]
    hostfile: Mapping[str, Any]
    why: str


def discover_links(
    session: Session, hosts: Sequence[Host], path: str | None, as_json: bool
) -> None:
    """Tell the cables, the backend and the setup command; write the hostfile to `path`."""
    old = _json(path) if path and Path(path).exists() else None
    found = _look(session, hosts, _written(path) if path and old else ())
    merged = drift.merged(old, dict(found.hostfile)) if old else dict(found.hostfile)
    if as_json:
        envelope.give(_document(found, merged), found.findings)
    else:
        _tell(found, merged)
    _judge(found.findings)
    if path and not session.dry:
        _write(Path(path), json.dumps(merged, indent=2) + "\n")
        screen.say(f"wrote {path}: inv rdma.setup --hostfile {path} gives the links addresses;")
        screen.say(f"tp.hostfile: {path} in invoke.yaml makes it the cluster of every task")


def diff(session: Session, hosts: Sequence[Host], path: str, as_json: bool) -> None:
    """Tell what has moved since the hostfile at `path` was written; raise if anything has."""
    old = _json(path)
    found = _look(session, hosts, _written(path))
    moved = drift.diff(old, dict(found.hostfile))
    if as_json:
        envelope.give({"moved": moved}, found.findings)
    else:
        for line in moved:
            screen.out(line)
    _judge(found.findings)
    if moved:
        raise CheckFailed(f"{path} is out of date: inv rdma.discover --write {path}")
    if not as_json:
        screen.out(f"nothing has moved since {path} was written")


def draw(session: Session, hosts: Sequence[Host], path: str | None, hostfile: str | None) -> None:
    """Draw the cables as they are, and those of the hostfile that are missing."""
    wanted = _written(hostfile) if hostfile else ()
    read = _read(session, hosts)
    cables, findings = cabling.cables(read.nodes)
    _print([*show.lost(read), *findings])
    show.unreachable(read)
    picture = drawing.Picture(
        tuple(host.ssh for host in hosts), tuple(_lines(cables, read, wanted))
    )
    lines, segments = terminal.terminal(picture, width=max(screen.width(), 40))
    for row, line in enumerate(lines):
        screen.coloured(_coloured(line, [each for each in segments if each.row == row]))
    if path:
        _write(Path(path), svg.svg(picture))
        screen.say(f"wrote {path}")
    _judge(findings)


def _look(session: Session, hosts: Sequence[Host], written: Iterable[End]) -> Found:
    read = _read(session, hosts)
    if read.unreachable:
        _print(show.lost(read))
    show.unreachable(read)
    cables, findings = cabling.cables(read.nodes)
    findings += cabling.machines(read.nodes)
    links = discover.subnets(cables, read.nodes, written)
    backend, why = discover.backend(links, read.nodes)
    reached = nodes.each(session.nodes(hosts), lambda node: _address(node.address))
    hostfile = discover.hostfile(backend, links, read.nodes, reached)
    return Found(read, cables, findings, links, hostfile, why)


def _read(session: Session, hosts: Sequence[Host]) -> Snapshot:
    return snapshots.read(session.nodes(hosts), lambda node: discover.FACTS)


def _address(name: str) -> str:
    """The IPv4 address behind a name, as the control machine sees it; else the name."""
    with suppress(OSError, UnicodeError):
        return str(socket.getaddrinfo(name, None, socket.AF_INET)[0][4][0])
    return name


def _tell(found: Found, hostfile: Mapping[str, Any]) -> None:
    _print(found.findings)
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
    screen.out(f"backend {hostfile['backend']}: {found.why}")
    command = discover.setup_command(dict(found.hostfile))
    if command:
        screen.out(command)


def _document(found: Found, hostfile: Mapping[str, Any]) -> Mapping[str, Any]:
    return {
        "cables": [asdict(cable) for cable in found.cables],
        "why": found.why,
        "setup": discover.setup_command(dict(found.hostfile)),
        "hostfile": _without_values(hostfile, known=found.hostfile["envs"]),
    }


def _without_values(hostfile: Mapping[str, Any], known: Sequence[str]) -> Mapping[str, Any]:
    """The hostfile to be shown: what people wrote into its `envs` may be secret."""
    envs: Sequence[str] = hostfile.get("envs", [])
    hidden = [each if each in known else f"{each.partition('=')[0]}=***" for each in envs]
    return {**hostfile, "envs": hidden} if envs else hostfile


def _judge(findings: Sequence[Finding]) -> None:
    wrong = [finding for finding in findings if finding.level == FAIL]
    if wrong:
        raise CheckFailed(f"{wrong[0].node}: {wrong[0].what}: {wrong[0].fix}")


def _json(path: str) -> Any:
    """A hostfile as JSON, after it was found to be a right one: what people wrote is kept."""
    hostfiles.load(path)
    return json.loads(Path(path).expanduser().read_text(encoding="utf-8"))


def _written(path: str) -> Sequence[End]:
    """The ends of a hostfile's links; none where it names none."""
    try:
        return links.from_hostfile(hostfiles.load(path)).ends
    except BadInput:
        return ()


def _write(path: Path, text: str) -> None:
    """Write beside the file and move it there: no reader sees half of it, no failure loses it.

    One that was there keeps who may read it: a hostfile may hold secrets.
    """
    try:
        mode = path.stat().st_mode & 0o777 if path.exists() else 0o644
        with tempfile.NamedTemporaryFile("wb", dir=path.parent, delete=False) as new:
            new.write(text.encode())
        Path(new.name).chmod(mode)
        Path(new.name).replace(path)
    except OSError as error:
        raise ActionFailed(f"{path}: can't be written ({error.strerror})") from None


def _lines(cables: Sequence[Cable], read: Snapshot, wanted: Sequence[End]) -> list[drawing.Line]:
    """The cables as they are, then the links that are wanted and have none."""
    seen = set()
    lines = []
    for cable in cables:
        a, b = (_port(read, plug.host, plug.interface) for plug in (cable.a, cable.b))
        seen |= {(port.host, port.interface) for port in (a, b)}
        states = {_state(read, port.host, port.interface) for port in (a, b)}
        state = next((each for each in _WORST if each in states), "good")
        lines.append(drawing.Line(a, b, cable.speed, state))
    for link in links.pairs(wanted):
        if not {(end.host, end.interface) for end in link} & seen:
            a, b = (drawing.Port(end.host, end.interface, str(end.address)) for end in link)
            lines.append(drawing.Line(a, b, None, "missing"))
    return lines


_WORST = ("unknown", "must be moved", "port down", "in a bridge", "no address")


def _port(read: Snapshot, host: str, name: str) -> drawing.Port:
    interface = _interfaces(read, host).get(name)
    addresses = [str(each) for each in interface.addresses] if interface else []
    return drawing.Port(host, name, addresses[0] if addresses else None)


def _interfaces(read: Snapshot, host: str) -> Mapping[str, Interface]:
    return known(read.on(host), rdma.INTERFACES_KEY) or {}


def _state(read: Snapshot, host: str, name: str) -> str:
    interfaces = _interfaces(read, host)
    if name not in interfaces:
        return "unknown"
    if cabling.misplaced(name, read.on(host)):
        return "must be moved"
    devices = known(read.on(host), rdma.DEVINFO_KEY) or {}
    device = devices.get(f"rdma_{name}")
    if interfaces[name].status != "active" or (device and not device.is_active):
        return "port down"
    if any(name in each.members for each in interfaces.values()):
        return "in a bridge"
    return "good" if interfaces[name].addresses else "no address"


def _coloured(line: str, segments: Sequence[terminal.Segment]) -> str:
    for each in reversed(segments):
        code = drawing.STATES[each.state].code
        end = each.column + len(each.text)
        painted = screen.paint(line[each.column : end], sys.stdout, colour=code)
        line = line[: each.column] + painted + line[end:]
    return line


def _print(findings: Sequence[Finding]) -> None:
    linking.print_findings([each for each in findings if each.level in (FAIL, WARN)])
