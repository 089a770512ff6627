"""Is a model whole: all files, tensors and layers? Pure: facts -> findings."""

import re
from collections.abc import Mapping

from ...facts import NodeFacts, known
from ...facts.machine.files import DANGLING, size
from ...facts.machine.memory import format_bytes
from ...facts.models import model, split
from ...facts.models.model import Model
from ...facts.models.split import Split, Weights
from ...text import counted
from ..finding import FAIL, OK, Finding, more


def complete(facts: Mapping[str, NodeFacts]) -> list[Finding]:
    """All weights are there, for each layer, each file as long as its header says."""
    return [
        _complete(node, listed, said)
        for node, values in facts.items()
        if (said := known(values, split.KEY))
        and (listed := known(values, model.KEY))
        and listed.is_model
    ]


def _complete(node: str, model: Model, said: Split) -> Finding:
    there = sizes(model)
    if wrong := _dead(model) or _incomplete(there, said.weights):
        return Finding("complete", FAIL, node, wrong, "copy or download the model again")
    if not there:
        what, fix = "there are no model*.safetensors", "is it a model for MLX?"
        return Finding("complete", FAIL, node, what, fix)
    if said.bare:
        # mlx_lm loads a model to be divided with strict=False: such a layer is random numbers.
        what = f"no weights for layer {said.bare[0]}{more(said.bare)} of {said.layers}"
        fix = "take config.json and weights from one source"
        return Finding("complete", FAIL, node, what, fix)
    files = f"{counted(len(there), 'file')} of weights"
    layers = f", {said.layers} layers" if said.layers else ""
    what = f"{files}, {format_bytes(sum(there.values()))}{layers}, as long as the headers say"
    return Finding("complete", OK, node, what)


# By these names transformers' tokenizers find what they are made of (vocab_files_names there), or
# their own code.
_TOKENIZER = re.compile(
    r"tokenizer\.(json|model)|tokenization_\w+\.py|tekken\.json|(vocab|merges|bpe|spiece|spm"
    r"|source|sentencepiece|tiktoken)\b.*|.*\.tiktoken"
)


def tokenizers(facts: Mapping[str, NodeFacts]) -> list[Finding]:
    """A finding where a model has nothing to make its tokenizer of: it is loaded after weights."""
    models = {node: known(values, model.KEY) for node, values in facts.items()}
    what, fix = "it has no tokenizer (tokenizer.json)", "copy it from where the model comes from"
    return [
        Finding("tokenizer", FAIL, node, what, fix)
        for node, listed in models.items()
        if listed and listed.is_model and not any(map(_tokenizer, listed.files.items()))
    ]


def _tokenizer(file: tuple[str, str]) -> bool:
    name, value = file
    return bool(_TOKENIZER.fullmatch(name)) and value != DANGLING and size(value) > 0


# Of what mlx-lm and transformers load; a cache that was tidied by hand has links to what is gone.
_LOADED = re.compile(r".+\.(json|safetensors|model|txt|jinja|tiktoken|py)")


def _dead(model: Model) -> str | None:
    """What is a link that leads nowhere, in words."""
    dead = [name for name, value in sorted(model.files.items()) if value == DANGLING]
    dead = [name for name in dead if _LOADED.fullmatch(name)]
    return f"{dead[0]} is {DANGLING}{more(dead)}" if dead else None


def _incomplete(there: Mapping[str, int], weights: Weights) -> str | None:
    """What is missing or cut off, in words."""
    if weights.named == frozenset():
        return "model.safetensors.index.json names no weights"
    if absent := sorted((weights.named or _numbered(there)) - set(there)):
        return f"{absent[0]} is missing{more(absent)}"
    if short := [name for name, length in there.items() if weights.implied.get(name) != length]:
        implied = weights.implied.get(short[0])
        says = "has no header that can be read"
        if implied is not None:
            says = f"has {there[short[0]]} bytes, by its header {implied}"
        return f"{short[0]} {says}{more(short)}"
    if weights.lost:
        name, file = weights.lost
        return f"{file} has no {name}, which the index names{more(range(weights.lost_count))}"
    return None


def sizes(model: Model) -> dict[str, int]:
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
        if found := re.fullmatch(r"(.*-)(\d{5})(-of-)(\d{5})(\.safetensors)", name):
            head, _, of, count, tail = found.groups()
            numbers = range(1, min(int(count), 9999) + 1)
            names |= {f"{head}{number:05d}{of}{count}{tail}" for number in numbers}
    return frozenset(names)
