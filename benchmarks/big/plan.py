"""A model of so many bytes: its shapes. Pure."""

from dataclasses import dataclass

from tasks.commands.dev import tiny_model

# Bytes from which on: hidden, intermediate, heads, KV heads, size of a head, vocabulary. Heads and
# widths divide by 2 and 4. The large one is Qwen3-32B's.
SHAPES = (
    (20e9, (5120, 25600, 64, 8, 128, 151936)),
    (1e9, (2048, 8192, 16, 8, 128, 32768)),
    (0, (512, 1536, 8, 4, 64, 4096)),
)
BYTES = {"bfloat16": 2, "float32": 4}


@dataclass(frozen=True)
class Plan:
    """What is made: `config` is the model's config.json, `bytes` what its matrices take."""

    config: dict[str, object]
    bytes: int

    def document(self, folder: str, writers: int) -> dict[str, object]:
        """What node.py (remote/big) is told."""
        return {
            "folder": folder,
            "config": self.config,
            "tokenizer": tiny_model.tokenizer(),
            "settings": {
                "tokenizer_class": "PreTrainedTokenizerFast",
                "eos_token": tiny_model.SPECIAL[0],
                "bos_token": tiny_model.SPECIAL[0],
                "chat_template": tiny_model.TEMPLATE,
                "model_max_length": self.config["max_position_embeddings"],
            },
            "writers": writers,
        }


def plan(gigabytes: float, dtype: str) -> Plan:
    """The shapes that come nearest to `gigabytes` (10^9 bytes), by the number of layers."""
    wanted, size = gigabytes * 1e9, BYTES[dtype]
    hidden, middle, heads, kv_heads, head, words = next(s for at, s in SHAPES if wanted >= at)
    layer = hidden * (2 * heads * head + 2 * kv_heads * head + 3 * middle) * size
    rest = 2 * words * hidden * size
    layers = max(2, round((wanted - rest) / layer))
    config = {
        **{key: tiny_model.CONFIG[key] for key in KEPT},
        "hidden_size": hidden,
        "intermediate_size": middle,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "head_dim": head,
        "vocab_size": words,
        "torch_dtype": dtype,
    }
    return Plan(config, layers * layer + rest)


KEPT = (
    "model_type", "architectures", "max_position_embeddings", "rms_norm_eps", "rope_theta",
    "tie_word_embeddings", "bos_token_id", "eos_token_id",
)  # fmt: skip
