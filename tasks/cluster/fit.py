"""Is a model whole, and does a rank's share of it fit into its node? Pure: facts -> findings."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from .checks import FAIL, OK, WARN, Finding
from .facts import Key, NodeFacts, gpu, known, memory, model, weights
from .facts.files import DANGLING, size
from .facts.gpu import NO_LIMIT
from .facts.memory import GIB, Memory, in_words
from .facts.model import Model
from .facts.weights import Weights

MIB = 1024**2
CONTEXT = 8192  # tokens, where config.json does not tell

# What macOS lets the GPU wire where iogpu.wired_limit_mb is 0, as a share of the memory. Apple does
# not say; Metal's recommendedMaxWorkingSetSize follows it. Measured: 74 % of 16 and 24 GB
# (AlexsJones/llmfit#754, sgl-project/sglang#29949), 75 % of 64 GB and more on older systems
# (gpustack/gpustack#1375), 84 % of 128 GB (antirez/ds4#890), 91 % of 512 GB (logs of llama.cpp).
DEFAULT_SHARE = 0.75
DEFAULT_SHARE_MOST = 0.91
SYSTEM = 8 * GIB  # what a limit should leave to the system


def complete(facts: Mapping[str, NodeFacts]) -> list[Finding]:
    """All weights are there, each as long as its header says."""
    findings = []
    for node, values in facts.items():
        if values.get(model.KEY) == Model(None):
            continue  # told by the check that compares the nodes
        unknown = _unknown("complete", values, model.KEY, weights.KEY)
        findings.append(unknown or _complete(node, values[model.KEY], values[weights.KEY]))
    return findings


def _unknown(check: str, values: NodeFacts, *keys: Key[object]) -> Finding | None:
    """The finding for a node of which one of these facts is not known."""
    error = values.lacks(*keys)
    if error is None:
        return None
    fix = f"try it there ({error.name})"
    return Finding(check, FAIL, values.node, f"unknown: {error.why}", fix)


def _complete(node: str, model: Model, weights: Weights) -> Finding:
    there = _weights(model)
    wrong = _incomplete(there, weights)
    if wrong:
        return Finding("complete", FAIL, node, wrong, "copy or download the model again")
    if not there:
        what, fix = "there are no model*.safetensors", "is it a model for MLX?"
        return Finding("complete", FAIL, node, what, fix)
    files = f"{len(there)} file{'s' * (len(there) > 1)} of weights"
    total = in_words(sum(there.values()))
    return Finding("complete", OK, node, f"{files}, {total}, as long as the headers say")


def _incomplete(there: Mapping[str, int], weights: Weights) -> str | None:
    """What is missing or cut off, in words."""
    if weights.named == frozenset():
        return "model.safetensors.index.json names no weights"
    absent = sorted((weights.named or _numbered(there)) - set(there))
    if absent:
        return f"{absent[0]} is missing{_more(absent)}"
    short = [name for name, length in there.items() if weights.implied.get(name) != length]
    if not short:
        return None
    implied = weights.implied.get(short[0])
    says = "has no header that can be read"
    if implied is not None:
        says = f"has {there[short[0]]} bytes, by its header {implied}"
    return f"{short[0]} {says}{_more(short)}"


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


@dataclass(frozen=True)
class Load:
    """What one rank holds, in bytes; `cache` is None where its size is not known."""

    weights: int
    cache: int | None
    tokens: int
    kind: str

    @property
    def total(self) -> int:
        return self.weights + (self.cache or 0)


def load(facts: Mapping[str, NodeFacts], ranks: int, tokens: int | None) -> Load | None:
    """A rank's load, by the first node that has the whole model; None if there is none.

    Weights are divided evenly, which is a little too little: mlx-lm's ranks each hold the whole
    embeddings and norms.
    """
    whole = {finding.node for finding in complete(facts) if finding.level == OK}
    for values in (values for node, values in facts.items() if node in whole):
        config = known(values, weights.CONFIG)
        if config is not None:
            text = _text(config)
            limit = tokens or _number(text, "max_position_embeddings") or CONTEXT
            total = sum(_weights(values[model.KEY]).values())
            kind = str(config.get("model_type", "a model of no type"))
            return Load(-(-total // ranks), cache(config, limit, ranks), limit, kind)
    return None


# Models that cache what all heads share (MLA), and those that look like it and cache each head's
# keys and values: mlx-lm 0.32.2, mlx_lm/models/*.py, what is given to `update_and_fetch`.
_LATENT = ("deepseek_v3", "kimi_k2", "kimi_k25", "glm4_moe_lite", "mistral4")
_INDEXED = ("deepseek_v32", "glm_moe_dsa")
_PER_HEAD = ("deepseek_v2", "minicpm3", "youtu_llm")
# Layers that keep a state instead of keys and values, or heads of several sizes: not told here.
_OTHER = re.compile(
    r"ssm|mamba|conv|rwkv|recurrent|linear_|hybrid|block_types|layers_block|global_head_dim"
)


def cache(config: Mapping[str, object], tokens: int, ranks: int) -> int | None:
    """Bytes of a rank's cache for `tokens`, or None for a kind of model not known here.

    Keys and values: 2 x layers x KV heads x head size x tokens x bytes of a number; the heads are
    divided between the ranks (`n_kv_heads //= N` in mlx-lm's `shard`). With MLA a token has one
    latent vector and one key for all heads, which every rank keeps whole.
    """
    text = _text(config)
    layers = _number(text, "num_hidden_layers")
    per_token = _per_token(str(text.get("model_type")), text, ranks)
    if layers is None or per_token is None or any(map(_OTHER.search, text)):
        return None
    kinds = text.get("layer_types") or ["full_attention"] * layers
    window = _number(text, "sliding_window")
    lengths = {"full_attention": tokens}
    if window:
        lengths["sliding_attention"] = min(tokens, window)
    if not isinstance(kinds, list) or len(kinds) != layers or not {*map(str, kinds)} <= {*lengths}:
        return None
    width = 4 if text.get("torch_dtype", text.get("dtype")) == "float32" else 2
    return per_token * width * sum(lengths[kind] for kind in kinds)


def _per_token(kind: str, text: Mapping[str, object], ranks: int) -> int | None:
    """Numbers that a layer of a rank keeps of each token."""
    heads = _number(text, "num_attention_heads")
    rope, latent = _number(text, "qk_rope_head_dim"), _number(text, "kv_lora_rank")
    index, nope = _number(text, "index_head_dim"), _number(text, "qk_nope_head_dim")
    value = _number(text, "v_head_dim")
    if kind in _PER_HEAD and heads and rope and nope and value:
        return -(-heads // ranks) * (nope + rope + value)
    if kind in _LATENT and latent and rope:
        return latent + rope
    if kind in _INDEXED and latent and rope and index:
        return latent + rope + 2 * index
    if "kv_lora_rank" in text or not heads:
        return None
    size = _number(text, "head_dim") or (_number(text, "hidden_size") or 0) // heads
    given = text.get("num_key_value_heads") is not None
    pairs = _number(text, "num_key_value_heads") if given else heads
    return -(-pairs // ranks) * (size + (value or size)) if pairs and size else None


def _text(config: Mapping[str, object]) -> Mapping[str, object]:
    """The language model's part of a configuration that has several."""
    inner = config.get("text_config")
    return {"model_type": config.get("model_type"), **inner} if isinstance(inner, dict) else config


def _number(text: Mapping[str, object], key: str) -> int | None:
    value = text.get(key)
    return value if type(value) is int and 0 < value < 10**9 else None


def fits(facts: Mapping[str, NodeFacts], load: Load, ranks: Mapping[str, int]) -> list[Finding]:
    """Whether the ranks of each node (`ranks`: how many) find room in it and in its GPU's limit."""
    findings = []
    for node, values in facts.items():
        unknown = _unknown("fit", values, memory.KEY, gpu.KEY)
        findings.append(
            unknown or _fit(node, values[memory.KEY], values[gpu.KEY], load, ranks[node])
        )
    return findings


def _fit(node: str, memory: Memory, gpu: int, load: Load, ranks: int) -> Finding:
    need = load.total * ranks
    most, room, of = _room(memory, gpu)
    what = f"{_words(load, ranks)} of {of}"
    if need > most:
        return Finding("fit", FAIL, node, f"too much: {what}", _remedy(memory, gpu, need))
    if need > room:
        return Finding("fit", WARN, node, f"perhaps too much: {what}", _remedy(memory, gpu, need))
    if load.cache is None:
        fix = f"how much its cache needs is not known here ({load.kind})"
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


def _words(load: Load, ranks: int) -> str:
    each = f"{ranks} ranks, each " if ranks > 1 else ""
    cached = "?" if load.cache is None else in_words(load.cache)
    parts = f"{in_words(load.weights)} of weights, {cached} for {load.tokens} tokens"
    return f"{each}{in_words(load.total)} ({parts})"


def _more(items: list[str]) -> str:
    return f" (and {len(items) - 1} more)" if len(items) > 1 else ""
