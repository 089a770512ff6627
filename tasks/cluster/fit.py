"""Is a model whole, does it divide over the ranks, and does each share fit? Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from .facts import NodeFacts, gpu, known, memory, model
from .facts.files import DANGLING, size
from .facts.gpu import NO_LIMIT
from .facts.memory import GIB, Memory, in_words
from .facts.model import Model
from .facts.split import KEY as SPLIT
from .facts.split import PIPELINE, TENSOR, Row, Split, Weights
from .finding import FAIL, OK, WARN, Finding

MIB = 1024**2
CONTEXT = 8192  # tokens, where config.json does not tell

# What macOS lets the GPU wire where iogpu.wired_limit_mb is 0, as a share of the memory. Apple does
# not say; Metal's recommendedMaxWorkingSetSize follows it. Measured: 74 % of 16 and 24 GB
# (AlexsJones/llmfit#754, sgl-project/sglang#29949), 75 % of 64 GB and more on older systems
# (gpustack/gpustack#1375), 84 % of 128 GB (antirez/ds4#890), 91 % of 512 GB (logs of llama.cpp).
DEFAULT_SHARE = 0.75
DEFAULT_SHARE_MOST = 0.91
SYSTEM = 8 * GIB  # what a limit should leave to the system
TRY = "try again when that node is idle, choose --python and --cwd, or --skip model"


def complete(facts: Mapping[str, NodeFacts]) -> list[Finding]:
    """All weights are there, for each layer, each file as long as its header says."""
    return [
        _complete(node, values[model.KEY], said)
        for node, values in facts.items()
        if (said := known(values, SPLIT)) and known(values, model.KEY)
    ]


def _complete(node: str, model: Model, said: Split) -> Finding:
    there = _weights(model)
    wrong = _incomplete(there, said.weights)
    if wrong:
        return Finding("complete", FAIL, node, wrong, "copy or download the model again")
    if not there:
        what, fix = "there are no model*.safetensors", "is it a model for MLX?"
        return Finding("complete", FAIL, node, what, fix)
    if said.bare:
        # mlx_lm loads a model to be divided with strict=False: such a layer is random numbers.
        what = f"no weights for layer {said.bare[0]}{_more(said.bare)} of {said.layers}"
        fix = "take config.json and weights from one source"
        return Finding("complete", FAIL, node, what, fix)
    files = f"{len(there)} file{'s' * (len(there) > 1)} of weights"
    layers = f", {said.layers} layers" if said.layers else ""
    what = f"{files}, {in_words(sum(there.values()))}{layers}, as long as the headers say"
    return Finding("complete", OK, node, what)


def _incomplete(there: Mapping[str, int], weights: Weights) -> str | None:
    """What is missing or cut off, in words."""
    if weights.named == frozenset():
        return "model.safetensors.index.json names no weights"
    absent = sorted((weights.named or _numbered(there)) - set(there))
    if absent:
        return f"{absent[0]} is missing{_more(absent)}"
    short = [name for name, length in there.items() if weights.implied.get(name) != length]
    if short:
        implied = weights.implied.get(short[0])
        says = "has no header that can be read"
        if implied is not None:
            says = f"has {there[short[0]]} bytes, by its header {implied}"
        return f"{short[0]} {says}{_more(short)}"
    if weights.lost:
        name, file = weights.lost
        return f"{file} has no {name}, which the index names{_more(range(weights.lost_count))}"
    return None


def _weights(model: Model) -> dict[str, int]:
    """Name -> bytes of the files that mlx-lm loads (mlx_lm/utils.py: glob "model*.safetensors")."""
    pattern = re.compile(r"model[^/]*\.safetensors")
    return {
        name: -1 if value == DANGLING else size(value)
        for name, value in sorted(model.files.items())
        if pattern.fullmatch(name)
    }


def _numbered(there: Mapping[str, int]) -> frozenset[str]:
    """Without an index the names tell how many there are: model-00002-of-00005.safetensors."""
    names = set()
    for name in there:
        found = re.fullmatch(r"(.*-)(\d{5})(-of-)(\d{5})(\.safetensors)", name)
        if found:
            head, _, of, count, tail = found.groups()
            numbers = range(1, min(int(count), 9999) + 1)
            names |= {f"{head}{number:05d}{of}{count}{tail}" for number in numbers}
    return frozenset(names)


def divides(
    facts: Mapping[str, NodeFacts], ranks: int, mode: str, foreign: str = "", hosts: int = 1
) -> list[Finding]:
    """Whether so many ranks can run it; `foreign` is an engine that does not divide by mlx-lm.

    Other numbers are told where so many `hosts` can have them.
    """
    findings = []
    for node, values in facts.items():
        if known(values, model.KEY) == Model(None):
            continue  # told by the check that compares the nodes
        said, error = known(values, SPLIT), values.lacks(SPLIT)
        if said:
            found = _divides(node, said, said.row(ranks, mode), hosts)
        else:
            why = f"unknown: {error.why if error else ''}"
            found = Finding("divides", FAIL, node, why, TRY)
        findings.append(_foreign(found, foreign) if foreign and ranks > 1 else found)
    return findings


def _divides(node: str, said: Split, row: Row, hosts: int) -> Finding:
    if row.answer == "no":
        return Finding("divides", FAIL, node, row.why, _instead(said, row, hosts))
    if row.answer == "unknown":
        fix = "only a start and tp.bench --canary will show"
        return Finding("divides", WARN, node, f"unknown: {row.why}", fix)
    heads = " and ".join(map(str, row.kv_heads))
    heads = heads and f", {heads} KV head{'s' * (heads != '1')}"
    each = f"{gigabytes(max(row.sizes))} of weights{heads}"
    by = "--pipeline over" if row.mode == PIPELINE and row.ranks > 1 else "by"
    count = f"{row.ranks} ranks, each" if row.ranks > 1 else "1 rank,"
    return Finding("divides", OK, node, f"{by} {count} {each} (mlx-lm {said.version})")


def _foreign(found: Finding, engine: str) -> Finding:
    what = found.what.removeprefix("unknown: ")
    what = f"unknown: {engine} does not divide by mlx-lm, which says: {what}"
    return Finding("divides", WARN, found.node, what, found.fix)


def _instead(said: Split, row: Row, hosts: int) -> str:
    """What would do in place of so many ranks: -n 2 or 4, or -- --pipeline."""
    good = [each for each in said.rows if each.answer == "yes"]
    numbers = [each.ranks for each in good if each.mode == row.mode]
    several = [n for n in numbers if 1 < n <= hosts or (n > 1 and n % hosts == 0)] or numbers[:1]
    ways = [f"-n {_or(several)}"] if several else []
    if any(each.ranks == row.ranks and each.mode != row.mode for each in good):
        ways.append("-- --pipeline" if row.mode == TENSOR else "without --pipeline")
    return ", or ".join(ways) or "another model, or another version of mlx-lm"


def _or(numbers: Sequence[int]) -> str:
    """2, 4 or 8."""
    return " or ".join(filter(None, (", ".join(map(str, numbers[:-1])), str(numbers[-1]))))


def asked(facts: Mapping[str, NodeFacts]) -> list[Finding]:
    """What took longer than it will the next time, as a line of its own."""
    new = {
        node: said
        for node, values in facts.items()
        if (said := known(values, SPLIT)) and said.version and not said.kept
    }
    if not new:
        return []
    node = max(new, key=lambda each: new[each].seconds)
    what = f"mlx-lm {new[node].version} worked this out in {new[node].seconds:.1f} s"
    return [Finding("asked", OK, node, f"{what}, for the first time: the answer is kept there")]


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
    findings = []
    for node, values in facts.items():
        error = values.lacks(memory.KEY, gpu.KEY)
        if error:
            fix = f"try it there ({error.name})"
            findings.append(Finding("fit", FAIL, node, f"unknown: {error.why}", fix))
            continue
        load = Load.of(*whole, ranks[node], tokens)
        findings.append(_fit(node, values[memory.KEY], values[gpu.KEY], load))
    return findings


def _whole(
    facts: Mapping[str, NodeFacts], ranks: int, mode: str
) -> tuple[Split, Row, Model] | None:
    """What a node says that has the model and knows it best, for all: theirs must be the same."""
    said = [
        (split, split.row(ranks, mode), listed)
        for values in facts.values()
        if (split := known(values, SPLIT)) and (listed := known(values, model.KEY))
    ]
    found = {row.answer: (split, row, listed) for split, row, listed in reversed(said)}
    return found.get("yes") or (None if "no" in found else found.get("unknown"))


class Load:
    """What the ranks of a node hold together: bytes of weights, and a cache for `tokens`."""

    def __init__(self, row: Row, count: int, weights: int, most: int, tokens: int | None) -> None:
        self.row, self.count, self.weights, self.most = row, count, weights, most
        self.tokens = tokens

    @classmethod
    def of(
        cls, said: Split, row: Row, model: Model, numbers: Iterable[int], tokens: int | None
    ) -> Load:
        # Of what can't be asked at least the files' size is known.
        total = sum(_weights(model).values())
        sizes = row.sizes or [-(-total // row.ranks)] * row.ranks
        held = [sizes[number] for number in numbers]
        return cls(row, len(held), sum(held), said.context or CONTEXT, tokens)

    @property
    def is_known(self) -> bool:
        return self.row.answer == "yes"

    @property
    def total(self) -> int:
        return self.weights + self.count * self.row.cached(self.tokens or 0)

    def words(self, room: float) -> str:
        several = f"{self.count} ranks, together " if self.count > 1 else ""
        weights = f"{in_words(self.weights)} of weights"
        if not self.is_known:
            return f"{several}{in_words(self.total)} ({weights}, ? of cache)"
        if self.tokens is None:
            left = self.row.room(max(room - self.weights, 0) / self.count, self.most)
            return f"{several}{weights}, and a cache of {left} tokens"
        cache = f"{in_words(self.total - self.weights)} for {self.tokens} tokens"
        return f"{several}{in_words(self.total)} ({weights}, {cache})"


def _fit(node: str, memory: Memory, gpu: int, load: Load) -> Finding:
    need = load.total
    most, room, of = _room(memory, gpu)
    what = f"{load.words(room)} of {of}"
    if need > most:
        return Finding("fit", FAIL, node, f"too much: {what}", _remedy(memory, gpu, need))
    if need > room:
        return Finding("fit", WARN, node, f"perhaps too much: {what}", _remedy(memory, gpu, need))
    if not load.is_known:
        fix = "how much its cache needs is not known here"
        return Finding("fit", WARN, node, f"fits but for its cache: {what}", fix)
    if need + memory.wired > memory.total:
        fix = f"{in_words(memory.wired)} are wired there now: inv tp.status, inv tp.memory"
        return Finding("fit", WARN, node, f"not now: {what}", fix)
    return Finding("fit", OK, node, f"fits: {what}")


def _room(memory: Memory, gpu: int) -> tuple[float, float, str]:
    """Bytes above which it is too much, above which it may be, and of what in words."""
    total = in_words(memory.total)
    if gpu == NO_LIMIT:
        return memory.total, memory.total, f"{total} of memory"
    if gpu:
        limit = min(gpu, memory.total)
        return limit, limit, f"{in_words(limit)} (iogpu.wired_limit_mb; memory {total})"
    room = memory.total * DEFAULT_SHARE
    words = f"about {in_words(room)} (macOS's default, about 75 % of {total})"
    return memory.total * DEFAULT_SHARE_MOST, room, words


def _remedy(memory: Memory, gpu: int, need: int) -> str:
    """The limit to set, where the memory is large enough for it."""
    wanted = -(-need * 21 // 20 // GIB) * 1024
    if gpu != NO_LIMIT and wanted * MIB <= memory.total - SYSTEM:
        return f"on that node: sudo sysctl iogpu.wired_limit_mb={wanted} (until it reboots)"
    return "more nodes, a smaller model, or a smaller --context"


def gigabytes(size: int) -> str:
    """Bytes as makers of models say them: 10.81 GB, 3.4 MB."""
    return f"{size / 1e9:.2f} GB" if size >= 10**8 else f"{size / 1e6:.1f} MB"


def _more(items: Sequence[object]) -> str:
    return f" (and {len(items) - 1} more)" if len(items) > 1 else ""
