"""The tiny model of the demo: a Llama with random weights, a byte-level tokenizer and a template.

It answers nonsense, but it is a real model in every respect that a server cares for.
"""

import json
import os
import shutil
import tempfile
from pathlib import Path

from ...cli import screen
from ...cluster.cluster import ROOT
from ...cluster.errors import ActionFailed

PATH = ROOT / ".models" / "tiny"

SPECIAL = ["<|end|>", "<|user|>", "<|assistant|>", "<|system|>"]
VOCABULARY = 512
# Heads and sizes can be divided by 2, 3, 4 and 6 ranks.
CONFIG: dict[str, object] = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 192,
    "intermediate_size": 384,
    "num_hidden_layers": 4,
    "num_attention_heads": 12,
    "num_key_value_heads": 12,
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 8192,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
    "torch_dtype": "float32",
    "bos_token_id": 256,
    "eos_token_id": 256,
}
LETTERS = " aehilmnorstu"
TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}<|end|>"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def ensure(model: str | None, dry: bool = False) -> None:
    """Make the tiny model if `model` is its folder and it is not complete there."""
    whole = all((PATH / name).exists() for name in ("config.json", "model.safetensors"))
    if model is None or Path(model) != PATH or whole:
        return
    if dry:
        screen.out(f"# would make the tiny model in {os.path.relpath(PATH)}")
        return
    screen.say(f"making the tiny model in {os.path.relpath(PATH)}")
    try:
        _make_whole()
    except ImportError as error:
        raise ActionFailed(f"{error.name} is not installed: uv sync") from None


def _make_whole() -> None:
    """Make it beside and move it: one that was interrupted must not be taken for a whole one."""
    PATH.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(dir=PATH.parent))
    work.chmod(0o755)  # for the user of test hosts, too
    try:
        make(work)
        shutil.rmtree(PATH, ignore_errors=True)
        work.rename(PATH)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def make(folder: Path) -> None:
    """Write the model's files into `folder`."""
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer()), encoding="utf-8")
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": SPECIAL[0],
        "bos_token": SPECIAL[0],
        "chat_template": TEMPLATE,
        "model_max_length": CONFIG["max_position_embeddings"],
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    _weights(folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(CONFIG, indent=2), encoding="utf-8")


def tokenizer() -> dict[str, object]:
    """A byte-level tokenizer: a token for each byte, none for more (tokenizers' own format)."""
    vocabulary = {_letter(byte): byte for byte in range(256)}
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    return {
        "version": "1.0",
        "added_tokens": [
            {"id": number, "content": text, "special": True, **dict.fromkeys(_EXACT, False)}
            for number, text in enumerate(SPECIAL, 256)
        ],
        "normalizer": None,
        "pre_tokenizer": {**level, "use_regex": False},
        "post_processor": None,
        "decoder": {**level, "use_regex": True},
        "model": {"type": "BPE", "vocab": vocabulary, "merges": []},
    }


_EXACT = ("single_word", "lstrip", "rstrip", "normalized")


def _letter(byte: int) -> str:
    """The printable character that byte-level tokenizers write for a byte (as GPT-2 does)."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    if byte in printable:
        return chr(byte)
    return chr(256 + [b for b in range(256) if b not in printable].index(byte))


def _weights(path: Path) -> None:
    import mlx.core as mx
    from mlx.utils import tree_flatten
    from mlx_lm.models.llama import Model, ModelArgs

    mx.random.seed(0)
    model = Model(ModelArgs.from_dict(CONFIG))
    weights = dict(tree_flatten(model.parameters()))
    # One direction of the hidden state says "letters" and is left alone by the layers, so that
    # the nonsense can be read aloud.
    says = [2.0 if chr(token) in LETTERS else -2.0 for token in range(VOCABULARY)]
    weights["model.embed_tokens.weight"][:, 0] = 1.0
    weights["lm_head.weight"][:, 0] = mx.array(says)
    for name in weights:
        if name.endswith(("o_proj.weight", "down_proj.weight")):
            weights[name][0] = 0.0
            weights[name] *= 0.3
    mx.save_safetensors(str(path), weights, metadata={"format": "mlx"})
