"""A node's memory: total, wired and swapped out, in bytes."""

import re
from dataclasses import dataclass

from ...ssh import scripts
from .. import Fact, Key

GIB = 1024**3


def format_bytes(size: float) -> str:
    """Bytes as people say them: 512 B, 1.5 MiB, 384.0 GiB."""
    if size < 1024:
        return f"{size:.0f} B"
    for unit in ("KiB", "MiB", "GiB"):
        size /= 1024
        if size < 1024 or unit == "GiB":
            break
    return f"{size:.1f} {unit}"


def gigabytes(size: int) -> str:
    """Bytes as makers of models say them: 10.81 GB, 3.4 MB."""
    return f"{size / 1e9:.2f} GB" if size >= 10**8 else f"{size / 1e6:.1f} MB"


@dataclass(frozen=True)
class Memory:
    """`wired` can't be paged out; on Linux it is what can't be reclaimed (unevictable, kernel).

    `swap` is what is swapped out; None where that is not asked (Linux) or not told.
    """

    total: int
    wired: int
    page_size: int
    swap: int | None = None


def parse(text: str, status: int) -> Memory:
    """`sysctl -n hw.memsize` and `vm_stat` (macOS), or /proc/meminfo (Linux)."""
    if status != 0:
        raise ValueError("the memory can't be read")
    if "MemTotal:" in text:
        return _linux(text)
    total = re.search(r"^(?:hw\.memsize: )?(\d+)\s*$", text, re.MULTILINE)
    pages, size = vm_stat(text)
    if not total or not int(total.group(1)):
        raise ValueError("hw.memsize can't be read")
    return Memory(int(total.group(1)), pages * size, size, _swap(text))


def _swap(text: str) -> int | None:
    """`sysctl vm.swapusage`, whose sizes are in MiB (sysctl.c of Apple's system_cmds)."""
    used = re.search(r"^vm\.swapusage: .*\bused = (\d{1,9}\.\d{2})M\b", text, re.MULTILINE)
    return int(float(used[1]) * 1024**2) if used else None


def read_size(text: str) -> int | None:
    """The bytes of a size as macOS's footprint says it (`5154 MB`, `199.2 GB`), units of 1024."""
    found = re.fullmatch(r"(\d{1,20}(?:\.\d{1,3})?) ([KMGT]?)B", text)
    return int(float(found[1]) * 1024 ** " KMGT".index(found[2] or " ")) if found else None


def vm_stat(text: str) -> tuple[int, int]:
    """(wired pages, bytes per page): the page size is 16384 on Apple silicon, 4096 on Intel."""
    page = re.search(r"page size of (\d{1,9}) bytes", text)
    # The dot ends a value: without it the number may be cut off.
    wired = re.search(r'^"?Pages wired down"?:\s+(\d{1,15})\.\s*$', text, re.MULTILINE)
    if not page or not wired or not int(page.group(1)):
        raise ValueError("vm_stat can't be read")
    return int(wired.group(1)), int(page.group(1))


def _linux(text: str) -> Memory:
    rows = dict(re.findall(r"^(\w+):\s+(\d+) kB\s*$", text, re.MULTILINE))
    if not {"MemTotal", "Unevictable", "SUnreclaim"} <= set(rows):
        raise ValueError("/proc/meminfo can't be read")
    wired = sum(int(rows[name]) for name in ("Unevictable", "SUnreclaim"))
    return Memory(int(rows["MemTotal"]) * 1024, wired * 1024, 4096)


KEY = Key[Memory]("memory")
FACT = Fact(KEY, scripts.script("facts/memory.sh"), parse)
