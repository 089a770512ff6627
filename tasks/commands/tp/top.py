"""inv tp.top: the nodes' vital signs, live on a terminal, a line per node else."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, TypedDict

from ...cli import envelope, screen
from ...cluster.cluster import Cluster
from ...cluster.facts.machine.memory import GIB, format_bytes
from ...cluster.server.monitor import Monitor, NodeMonitor, links
from ...cluster.text import one_line

if TYPE_CHECKING:
    from rich.console import Group

FIRST = 15.0  # seconds that a first look may take: to connect, and two intervals
SUDO = (
    "without sudo there is neither GPU use nor power; on a Mac:"
    " sudo powermetrics -i 1000 --samplers gpu_power,cpu_power"
)
# Where no link is named: Ethernet and Wi-Fi, not what the system makes up for itself.
_REAL = ("en", "eth", "wl")


class MemorySigns(TypedDict):
    """Bytes; `baseline` is what was wired before the start."""

    total: int | None
    used: int | None
    wired: int | None
    baseline: int | None


class LinkSigns(TypedDict):
    """`received` and `sent` are bytes/s."""

    name: str
    up: bool | None
    received: float | None
    sent: float | None


class RankSigns(TypedDict):
    rank: int
    pid: int | None
    state: str
    cpu: float | None
    memory: int | None


class NodeSigns(TypedDict, total=False):
    """A node's signs as JSON has them: `why` where there are none, else all but that."""

    time: str
    host: str
    state: str
    why: str
    cpu: float | None
    memory: MemorySigns
    links: list[LinkSigns]
    ranks: list[RankSigns]
    clients: int | None
    requests: int | None
    requests_per_second: float | None


def run(cluster: Cluster, interval: int, rounds: int | None) -> None:
    """Show until Ctrl-C, or so many times."""
    try:
        if envelope.current() or not screen.is_colourful(sys.stdout):
            _lines(cluster, interval, rounds)
        else:
            _live(cluster, interval, rounds)
    except KeyboardInterrupt:
        # How one leaves it: no word about it, and no failure.
        return


def _rounds(cluster: Cluster, interval: int, rounds: int | None) -> Iterator[list[NodeSigns]]:
    """All nodes' signs, once per interval."""
    watch = Monitor(cluster, interval)
    end = time.monotonic() + FIRST + 2 * interval
    while not watch.is_warm and time.monotonic() < end:
        time.sleep(0.1)
    due = time.monotonic()
    shown = 0
    while rounds is None or shown < rounds:
        yield [signs(cluster, pulse, interval) for pulse in watch.pulses.values()]
        shown += 1
        due = max(due + interval, time.monotonic())
        if rounds is None or shown < rounds:
            time.sleep(max(due - time.monotonic(), 0))


def _lines(cluster: Cluster, interval: int, rounds: int | None) -> None:
    as_json = envelope.current() is not None
    if not as_json:
        screen.say(SUDO)
    for nodes in _rounds(cluster, interval, rounds):
        for node in nodes:
            if as_json:
                envelope.line(node, error=node.get("why", ""))
            else:
                screen.fields(line(node).split("  "))


def _live(cluster: Cluster, interval: int, rounds: int | None) -> None:
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    waiting = Text(f"connecting to {', '.join(node.name for node in cluster.nodes)}")
    # It is drawn when there is something new, and not several times a second.
    with Live(waiting, console=Console(), auto_refresh=False) as live:
        live.refresh()
        for nodes in _rounds(cluster, interval, rounds):
            live.update(_grid(nodes), refresh=True)


def signs(cluster: Cluster, pulse: NodeMonitor, interval: int) -> NodeSigns:
    """A node's signs as a document: bytes, bytes/s, and shares (of all cores, of one for a rank).

    `state` is "ok", "silent" (it has said nothing for too long) or "unreachable"; null is unknown.
    """
    named = links(cluster, next(n for n in cluster.nodes if n.name == pulse.node))
    silence = pulse.stale(interval)
    found: NodeSigns = {"time": envelope.now(), "host": pulse.node}
    if pulse.why or pulse.vitals is None:
        found.update({"state": "unreachable", "why": one_line(pulse.why)})
        return found
    if silence is not None:
        found.update({"state": "silent", "why": f"no word for {silence:.0f} s"})
        return found
    seen, rates = pulse.vitals, pulse.rates
    baseline = pulse.state.baseline if pulse.state else None
    ok: NodeSigns = {
        "state": "ok",
        "cpu": rates.cpu if rates else seen.busy,
        "memory": {
            "total": seen.memory.total if seen.memory else None,
            "used": seen.used,
            "wired": seen.memory.wired if seen.memory else None,
            "baseline": baseline,
        },
        "links": _links(pulse, named),
        "ranks": [_rank(pulse, rank.rank, rank.pid) for rank in pulse.ranks],
        "clients": seen.clients,
        "requests": None if seen.posts is None else pulse.posts + seen.posts,
        "requests_per_second": rates.posts if rates else None,
    }
    found.update(ok)
    return found


def _links(pulse: NodeMonitor, named: Sequence[str]) -> list[LinkSigns]:
    """Those that the hostfile names; else the real ones that have carried something."""
    there = pulse.vitals.links if pulse.vitals else {}
    busy = [n for n, link in there.items() if link.received and n.startswith(_REAL)]
    rates = pulse.rates.links if pulse.rates else {}
    found: list[LinkSigns] = []
    for name in named or busy:
        link = there.get(name)
        received, sent = rates.get(name, (None, None))
        up = link.up if link else False
        found.append({"name": name, "up": up, "received": received, "sent": sent})
    return found


def _rank(pulse: NodeMonitor, number: int, pid: int | None) -> RankSigns:
    process = pulse.vitals.processes.get(pid) if pulse.vitals and pid else None
    cpu = pulse.rates.processes.get(pid) if pulse.rates and pid else None
    state = "running" if process else "dead"
    memory = process.rss if process else None
    return {"rank": number, "pid": pid, "state": state, "cpu": cpu, "memory": memory}


def line(node: NodeSigns) -> str:
    """A node's signs on one line."""
    if node["state"] != "ok":
        return f"{node['time']}  {node['host']}  {node['state']}: {node['why']}"
    parts = [node["time"][11:19], node["host"], *cells(node)]
    return "  ".join(part.replace("\n", "  ") for part in parts if part)


def cells(node: NodeSigns) -> list[str]:
    """CPU, memory, wired memory, links, ranks and requests of a node, in words."""
    memory = node["memory"]
    return [
        f"cpu {_share(node['cpu'])}",
        f"memory {_gib(memory['used'])} of {_gib(memory['total'])} GiB",
        _wired(memory["wired"], memory["baseline"]),
        "\n".join(_link(each) for each in node["links"]),
        "\n".join(_rank_words(each) for each in node["ranks"]) or "no ranks",
        _requests(node),
    ]


def _wired(wired: int | None, baseline: int | None) -> str:
    if wired is None:
        return "wired -"
    if baseline is None:
        return f"wired {format_bytes(wired)}"
    more = wired - baseline
    return f"wired {format_bytes(wired)} ({'+' if more >= 0 else '-'}{format_bytes(abs(more))})"


def _link(link: LinkSigns) -> str:
    state = {True: " up", False: " down", None: ""}[link["up"]]
    if link["received"] is None or link["sent"] is None:
        return f"{link['name']}{state}"
    received, sent = format_bytes(link["received"]), format_bytes(link["sent"])
    return f"{link['name']}{state} in {received}/s out {sent}/s"


def _rank_words(rank: RankSigns) -> str:
    if rank["state"] != "running":
        return f"rank {rank['rank']} dead"
    return f"rank {rank['rank']} cpu {_share(rank['cpu'])} {_gib(rank['memory'])} GiB"


def _requests(node: NodeSigns) -> str:
    if node["clients"] is None and node["requests"] is None:
        return ""  # no server here
    rate = node["requests_per_second"]
    asked = "-" if node["requests"] is None else str(node["requests"])
    clients = "-" if node["clients"] is None else node["clients"]
    return f"clients {clients}  requests {asked}" + ("" if rate is None else f" ({rate:.1f}/s)")


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value * 100:.0f} %"


def _gib(size: int | None) -> str:
    return "-" if size is None else f"{size / GIB:.2f}"


def _grid(nodes: Sequence[NodeSigns]) -> Group:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    clock = nodes[0]["time"][11:19] if nodes else ""
    head, foot = Text(f"{clock}  Ctrl-C ends", style="dim"), Text(SUDO, style="dim")
    if any(map(_is_too_wide, nodes)):
        return Group(head, *(Text(each) for node in nodes for each in _stacked(node)), foot)
    grid = Table.grid(padding=(0, 2))
    for node in nodes:
        if node["state"] == "ok":
            grid.add_row(Text(node["host"], style="bold"), *map(Text, cells(node)))
        else:
            grid.add_row(Text(node["host"], style="bold"), Text(node["state"], style="red"))
            grid.add_row("", Text(node["why"], style="red"))
    return Group(head, grid, foot)


def _is_too_wide(node: NodeSigns) -> bool:
    """Whether its row has no room on this terminal: numbers would be torn from their units."""
    words = cells(node) if node["state"] == "ok" else []
    widths = [max(map(len, cell.split("\n"))) + 2 for cell in [node["host"], *words]]
    return sum(widths) > screen.width()


def _stacked(node: NodeSigns) -> list[str]:
    """The same below one another, as many parts on a line as there is room for."""
    words = cells(node) if node["state"] == "ok" else [f"{node['state']}: {node['why']}"]
    parts = [part for cell in words for part in re.split(r"\n|  ", cell)]
    return screen.stacked([node["host"], *parts], screen.width())
