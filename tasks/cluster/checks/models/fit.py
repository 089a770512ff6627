"""Does each rank's share of a model fit into its node? Pure: facts -> findings."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ...facts import NodeFacts, known
from ...facts.machine import gpu, memory
from ...facts.machine.gpu import NO_LIMIT
from ...facts.machine.memory import GIB, Memory, format_bytes
from ...facts.models import model, split
from ...facts.models.model import Model
from ...facts.models.split import Split, SplitRow
from ..finding import FAIL, OK, WARN, Finding
from .whole import sizes

MIB = 1024**2
CONTEXT = 8192  # tokens, where config.json does not tell

# What macOS lets the GPU wire where iogpu.wired_limit_mb is 0, as a share of the memory. Apple does
# not say; Metal's recommendedMaxWorkingSetSize follows it. Measured: 74 % of 16 and 24 GB
# (AlexsJones/llmfit#754, sgl-project/sglang#29949), 75 % of 64 GB and more on older systems
# (gpustack/gpustack#1375), 84 % of 128 GB (antirez/ds4#890), 91 % of 512 GB (logs of llama.cpp).
DEFAULT_SHARE = 0.75
DEFAULT_SHARE_MOST = 0.91
SYSTEM = 8 * GIB  # what a limit should leave to the system


def fits(
    facts: Mapping[str, NodeFacts],
    ranks: Mapping[str, Sequence[int]],
    mode: str,
    tokens: int | None = None,
) -> list[Finding]:
    """Whether the ranks of each node (`ranks`: their numbers) find room in it.

    With a cache of so many `tokens`; without, it is told how many there is room for.
    """
    whole = _whole(facts, sum(map(len, ranks.values())), mode)
    if whole is None:
        return []  # why is told elsewhere
    said, row, listed = whole
    # Of what can't be asked at least the files' size is known.
    held = row.sizes or [-(-sum(sizes(listed).values()) // row.ranks)] * row.ranks
    findings = []
    for node, values in facts.items():
        if error := values.lacks(memory.KEY, gpu.KEY):
            fix = f"try it there ({error.name})"
            findings.append(Finding("fit", FAIL, node, f"unknown: {error.why}", fix))
            continue
        load = Footprint(row, len(ranks[node]), sum(held[n] for n in ranks[node]), tokens)
        most = said.context or CONTEXT
        findings.append(_fit(node, values[memory.KEY], values[gpu.KEY], load, most))
    return findings


def _whole(
    facts: Mapping[str, NodeFacts], ranks: int, mode: str
) -> tuple[Split, SplitRow, Model] | None:
    """What a node says that has the model and knows it best, for all: theirs must be the same."""
    told = [
        (said, said.row(ranks, mode), listed)
        for values in facts.values()
        if (said := known(values, split.KEY)) and (listed := known(values, model.KEY))
    ]
    found = {row.answer: (said, row, listed) for said, row, listed in reversed(told)}
    return found.get("yes") or (None if "no" in found else found.get("unknown"))


@dataclass(frozen=True)
class Footprint:
    """What the ranks of a node hold together: bytes of weights, and a cache for `tokens`."""

    row: SplitRow
    count: int
    weights: int
    tokens: int | None

    @property
    def total(self) -> int:
        return self.weights + self.count * self.row.cached(self.tokens or 0)

    def words(self, room: float, most: int) -> str:
        several = f"{self.count} ranks, together " if self.count > 1 else ""
        weights = f"{format_bytes(self.weights)} of weights"
        if self.row.answer == "yes" and self.tokens is None:
            left = self.row.room(max(room - self.weights, 0) / self.count, most)
            return f"{several}{weights}, and a cache of {left} tokens"
        cache = f"{format_bytes(self.total - self.weights)} for {self.tokens} tokens"
        cache = cache if self.row.answer == "yes" else "? of cache"
        return f"{several}{format_bytes(self.total)} ({weights}, {cache})"


def _fit(node: str, memory: Memory, gpu: int, load: Footprint, tokens: int) -> Finding:
    need = load.total
    most, room, of = _room(memory, gpu)
    what = f"{load.words(room, tokens)} of {of}"
    if need > most:
        return Finding("fit", FAIL, node, f"too much: {what}", _remedy(memory, gpu, need))
    if need > room:
        return Finding("fit", WARN, node, f"perhaps too much: {what}", _remedy(memory, gpu, need))
    if load.row.answer != "yes":
        fix = "how much its cache needs is not known here"
        return Finding("fit", WARN, node, f"fits but for its cache: {what}", fix)
    if need + memory.wired > memory.total:
        fix = f"{format_bytes(memory.wired)} are wired there now: inv tp.status, inv tp.memory"
        return Finding("fit", WARN, node, f"not now: {what}", fix)
    return Finding("fit", OK, node, f"fits: {what}")


def _room(memory: Memory, gpu: int) -> tuple[float, float, str]:
    """Bytes above which it is too much, above which it may be, and of what in words."""
    total = format_bytes(memory.total)
    if gpu == NO_LIMIT:
        return memory.total, memory.total, f"{total} of memory"
    if gpu:
        limit = min(gpu, memory.total)
        return limit, limit, f"{format_bytes(limit)} (iogpu.wired_limit_mb; memory {total})"
    room = memory.total * DEFAULT_SHARE
    words = f"about {format_bytes(room)} (macOS's default, about 75 % of {total})"
    return memory.total * DEFAULT_SHARE_MOST, room, words


def _remedy(memory: Memory, gpu: int, need: int) -> str:
    """The limit to set, where the memory is large enough for it."""
    wanted = -(-need * 21 // 20 // GIB) * 1024
    if gpu != NO_LIMIT and wanted * MIB <= memory.total - SYSTEM:
        return f"on that node: sudo sysctl iogpu.wired_limit_mb={wanted} (until it reboots)"
    return "more nodes, a smaller model, or a smaller --context"
