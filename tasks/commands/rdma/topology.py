"""What inv rdma.topology does: a picture of the cables, on the terminal or as SVG."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from ... import drawing
from ...cli import envelope, screen
from ...cluster.config.hostfile import Host
from ...cluster.facts import known
from ...cluster.facts.links import rdma
from ...cluster.facts.links.rdma import Interface
from ...cluster.facts.snapshot import Snapshot
from ...cluster.rdma import cables as cabling
from ...cluster.rdma import links
from ...cluster.rdma.cables import Cable
from ...cluster.rdma.links import LinkEnd
from ...drawing import svg, terminal
from ...session import Session
from .. import output_file
from ..findings import lost, unreachable
from .discover import ends_of, print_findings, read_hosts, refuse_faults

_WORST = ("unknown", "must be moved", "port down", "in a bridge", "no address")


def run(
    session: Session,
    hosts: Sequence[Host],
    path: str | None,
    hostfile: str | None,
) -> None:
    """Draw the cables as they are, and those of the hostfile that are missing."""
    output_file.check(path, "--svg")
    wanted = ends_of(hostfile) if hostfile else ()
    read = read_hosts(session, hosts)
    cables, findings = cabling.cables(read.nodes)
    print_findings([*lost(read), *findings])
    unreachable(read)
    picture = drawing.Picture(
        tuple(host.ssh for host in hosts), tuple(_lines(cables, read, wanted))
    )
    told = {"hosts": list(picture.hosts), "cables": [asdict(each) for each in picture.lines]}
    if not envelope.given(told):
        _draw(picture)
    if path:
        output_file.write(path, svg.svg(picture), "--svg")
    refuse_faults(findings)


def _draw(picture: drawing.Picture) -> None:
    lines, segments = terminal.terminal(picture, width=max(screen.width(), 40))
    for row, line in enumerate(lines):
        screen.coloured(_coloured(line, [each for each in segments if each.row == row]))


def _lines(
    cables: Sequence[Cable], read: Snapshot, wanted: Sequence[LinkEnd]
) -> list[drawing.Line]:
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
            a, b = (drawing.DrawnPort(end.host, end.interface, str(end.address)) for end in link)
            lines.append(drawing.Line(a, b, None, "missing"))
    return lines


def _port(read: Snapshot, host: str, name: str) -> drawing.DrawnPort:
    interface = _interfaces(read, host).get(name)
    addresses = [str(each) for each in interface.addresses] if interface else []
    return drawing.DrawnPort(host, name, addresses[0] if addresses else None)


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
