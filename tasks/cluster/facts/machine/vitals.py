"""A node's vital signs, printed by a loop on it without sudo: remote/facts/vitals.sh."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from ...ssh import scripts
from . import memory

K = TypeVar("K")
V = TypeVar("V")

BLOCKS = 600  # after so many the loop ends, so that what we keep of its output stays small


@dataclass(frozen=True)
class LinkRate:
    """An interface: its carrier (None: not told), bytes in and out so far, of IP, not RDMA."""

    up: bool | None
    received: int
    sent: int


@dataclass(frozen=True)
class ProcessUse:
    """CPU time so far in seconds, memory in bytes."""

    cpu: float
    rss: int


@dataclass(frozen=True)
class Vitals:
    """One block; what the node did not tell is None or not there.

    `at` are seconds by the node's clock. CPU is `ticks` (busy, all) so far, or the `busy` share of
    the last pause. `clients` are open connections to the server's port, `posts` the requests that
    its log tells of since the loop began (None where it has never told of any, or of a page).
    """

    at: float | None = None
    ticks: tuple[int, int] | None = None
    busy: float | None = None
    memory: memory.Memory | None = None
    used: int | None = None
    links: Mapping[str, LinkRate] = field(default_factory=dict)
    processes: Mapping[int, ProcessUse] = field(default_factory=dict)
    clients: int | None = None
    posts: int | None = None


@dataclass(frozen=True)
class MonitorOptions:
    """What the loop of a node looks at; `port` and `log` are rank 0's, where it runs there."""

    state_dir: str
    cluster: str
    links: Sequence[str] = ()
    pids: Sequence[int] = ()
    port: int | None = None
    log: str | None = None


def loop(wanted: MonitorOptions, interval: int, nonce: str) -> str:
    """/bin/sh text that prints a block per interval, until ranks come or go, or nobody reads."""
    return scripts.script(
        "facts/vitals.sh",
        wanted.links,
        state_dir=wanted.state_dir,
        cluster=wanted.cluster,
        log=wanted.log or "",
        port=wanted.port or "",
        hex=f"{wanted.port or 0:04X}",
        pids=" ".join(map(str, wanted.pids)),
        interval=interval,
        blocks=BLOCKS,
        nonce=nonce,
    )


def blocks(text: str, nonce: str) -> tuple[list[str], str]:
    """The whole blocks in what a loop has printed, and the rest, which is still to be completed."""
    *whole, rest = text.split(f"\n{nonce} end\n")
    return [each.partition(f"{nonce} begin\n")[2] for each in whole], rest


def parse(block: str) -> Vitals:
    """A block of `loop`; what can't be read of it is unknown, whatever else is there."""
    head, _, rest = block.partition("== more\n")
    head = head.partition("== memory\n")[2]
    busy, ticks = _cpu(rest)
    uptime = re.search(r"^(\d+\.\d+) \d+\.\d+$", rest, re.MULTILINE)
    clients = re.findall(r"^(?:clients |/proc/net/tcp6?:)(\d+)$", rest, re.MULTILINE)
    posts = re.search(r"^posts (\d+)$", rest, re.MULTILINE)
    return Vitals(
        at=float(uptime.group(1)) if uptime else None,
        ticks=ticks,
        busy=busy,
        memory=_memory(head),
        used=used(head),
        links=_links(rest),
        processes=_processes(rest),
        clients=sum(map(int, clients)) if clients else None,
        posts=int(posts.group(1)) if posts else None,
    )


def _memory(text: str) -> memory.Memory | None:
    try:
        return memory.parse(text, 0)
    except ValueError:
        return None


def used(text: str) -> int | None:
    """Bytes in use: all but Linux's available; macOS's app memory, wired and compressed."""
    kilobytes = dict(re.findall(r"^(MemTotal|MemAvailable): +(\d+) kB$", text, re.MULTILINE))
    if len(kilobytes) == 2:
        return (int(kilobytes["MemTotal"]) - int(kilobytes["MemAvailable"])) * 1024
    page = re.search(r"page size of (\d{1,9}) bytes", text)
    rows = dict(re.findall(r'^"?(\w[^:"]*)"?: +(\d{1,15})\.\s*$', text, re.MULTILINE))
    names = ("Anonymous pages", "Pages wired down", "Pages occupied by compressor")
    if not page or not {*names, "Pages purgeable"} <= set(rows):
        return None
    pages = sum(int(rows[name]) for name in names) - int(rows["Pages purgeable"])
    return max(pages, 0) * int(page.group(1))


def _cpu(text: str) -> tuple[float | None, tuple[int, int] | None]:
    """iostat's "us sy id ..." as (busy share of the last pause, None), Linux's as (None, ticks)."""
    if row := re.search(r"^iostat +(\d{1,3}) +(\d{1,3}) +(\d{1,3})( |$)", text, re.MULTILINE):
        return min(int(row.group(1)) + int(row.group(2)), 100) / 100, None
    if not (found := re.search(r"^cpu +(\d+(?: \d+){4,9})$", text, re.MULTILINE)):
        return None, None
    # user nice system idle iowait irq softirq steal; a guest's time is in user's already
    numbers = [int(each) for each in found.group(1).split()][:8]
    return None, (sum(numbers) - numbers[3] - numbers[4], sum(numbers))


def _links(text: str) -> dict[str, LinkRate]:
    carriers = dict(re.findall(r"^carrier (\S+) ([01])$", text, re.MULTILINE))
    linux = re.findall(
        r"^ *([^\s:]+): *(\d+)(?: +\d+){7} +(\d+)(?: +\d+){7} *$", text, re.MULTILINE
    )
    if linux:
        return {
            name: LinkRate(carriers[name] == "1" if name in carriers else None, int(a), int(b))
            for name, a, b in linux
        }
    return _mac_links(text)


def _mac_links(text: str) -> dict[str, LinkRate]:
    """`netstat -ibn` has a row per address: the one of the link counts it all.

    An interface may have no address there, so the columns are told from the end (Ibytes, Opkts,
    Oerrs, Obytes, Coll).
    """
    states = {
        name: state == "active"
        for name, state in re.findall(
            r"^ifconfig (\S+)\n(?:(?!ifconfig ).*\n)*?\s+status: (\w+)", text, re.MULTILINE
        )
    }
    found = {}
    for row in re.findall(r"^\S+ +\d+ +<Link#\d+>.*$", text, re.MULTILINE):
        words = row.split()
        name, numbers = words[0].rstrip("*"), words[-5:]
        if numbers[0].isdigit() and numbers[3].isdigit():
            up = False if words[0].endswith("*") else states.get(name)
            found[name] = LinkRate(up, int(numbers[0]), int(numbers[3]))
    return found


def _processes(text: str) -> dict[int, ProcessUse]:
    hz = re.search(r"^hz (\d+)$", text, re.MULTILINE)
    found = {}
    for pid, rest in re.findall(r"^(\d+) \(.*\) (\S .*)$", text, re.MULTILINE):
        words = rest.split()
        if hz and len(words) > 21 and words[0] != "Z":
            ticks = int(words[11]) + int(words[12])
            found[int(pid)] = ProcessUse(ticks / int(hz.group(1)), int(words[21]) * 4096)
    for pid, clock, rss in re.findall(r"^ps +(\d+) +([\d:.-]+) +(\d+)$", text, re.MULTILINE):
        found[int(pid)] = ProcessUse(_seconds(clock), int(rss) * 1024)
    return found


def _seconds(clock: str) -> float:
    """`ps -o time`: 0:01.23 or 123:45.67 on macOS, 1-02:03:04 on others."""
    days, _, rest = clock.rpartition("-")
    total = 0.0
    for part in rest.split(":"):
        total = total * 60 + float(part or 0)
    return total + 86400 * int(days or 0)


@dataclass(frozen=True)
class Rates:
    """What two blocks tell together: shares of all cores (CPU) or of one (a process), bytes/s."""

    cpu: float | None
    links: Mapping[str, tuple[float, float]]
    processes: Mapping[int, float]
    posts: float | None


def rates(before: Vitals, after: Vitals, seconds: float) -> Rates:
    """`seconds` are those between the blocks; the node's own clock wins, where it is told."""
    if before.at is not None and after.at is not None and after.at > before.at:
        seconds = after.at - before.at
    links = {
        name: (link.received - old.received, link.sent - old.sent)
        for name, link, old in _both(before.links, after.links)
    }
    return Rates(
        cpu=_busy(before, after),
        # A counter that has gone back was reset: nothing is known of the time between.
        links={n: (a / seconds, b / seconds) for n, (a, b) in links.items() if min(a, b) >= 0},
        processes={
            pid: (new.cpu - old.cpu) / seconds
            for pid, new, old in _both(before.processes, after.processes)
            if new.cpu >= old.cpu
        },
        posts=_per_second(before.posts, after.posts, seconds),
    )


def _busy(before: Vitals, after: Vitals) -> float | None:
    """The share of all cores that was busy: as the node tells it, or between two counts."""
    if before.ticks and after.ticks and after.ticks[1] > before.ticks[1]:
        busy, every = (new - old for old, new in zip(before.ticks, after.ticks, strict=True))
        return busy / every
    return after.busy


def _both(before: Mapping[K, V], after: Mapping[K, V]) -> Iterable[tuple[K, V, V]]:
    return ((key, after[key], before[key]) for key in after if key in before)


def _per_second(before: int | None, after: int | None, seconds: float) -> float | None:
    if before is None or after is None or after < before:
        return None
    return (after - before) / seconds
