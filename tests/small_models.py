"""Configurations of mlx-lm's model classes, made small: a rank holds one in a second.

`config(kind, like)` has sizes that 2, 3 and 4 ranks divide ("friendly"), heads that 3 do not divide
though they do divide the columns of the matrices ("odd"), or two KV heads ("few").
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Config = dict[str, Any]
VOCABULARY = 384
HEADS = {"friendly": (12, 12, 32), "odd": (8, 8, 48), "few": (8, 2, 32)}  # and the heads' size


def _plain(like: str, **more: Any) -> Config:
    heads, kv, size = HEADS[like]
    return {
        "vocab_size": VOCABULARY, "hidden_size": 384, "num_hidden_layers": 3,
        "intermediate_size": 384, "num_attention_heads": heads, "num_key_value_heads": kv,
        "head_dim": size, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "torch_dtype": "float32",
        "max_position_embeddings": 4096, "tie_word_embeddings": False, **more,
    }  # fmt: skip


def _experts(like: str, **more: Any) -> Config:
    base = _plain(like, moe_intermediate_size=384, num_experts_per_tok=2, norm_topk_prob=True)
    return {**base, "num_experts": 4, "num_local_experts": 4, "n_routed_experts": 4, **more}


def _latent(like: str, **more: Any) -> Config:
    """With a latent vector for all heads (MLA), and experts."""
    heads, _, size = HEADS[like]
    return {
        **_experts(like), "num_key_value_heads": heads, "kv_lora_rank": 32, "q_lora_rank": 48,
        "qk_rope_head_dim": 16, "qk_nope_head_dim": size - 16, "v_head_dim": size,
        "n_shared_experts": 1, "first_k_dense_replace": 1, "n_group": 1, "topk_group": 1,
        "topk_method": "noaux_tc", "scoring_func": "sigmoid", "moe_layer_freq": 1,
        "routed_scaling_factor": 1.0, "attention_bias": False, "index_n_heads": 4,
        "index_head_dim": 32, "index_topk": 4, **more,
    }  # fmt: skip


ROPE = {"rope_theta": 10000.0, "type": "default", "rope_type": "default"}
LLAMA4 = {**ROPE, "llama_4_scaling_beta": 0.1, "original_max_position_embeddings": 4096}
YARN = {
    "factor": 4.0, "type": "yarn", "mscale": 1.0, "mscale_all_dim": 1.0, "beta_fast": 32,
    "original_max_position_embeddings": 4096, "beta_slow": 1,
}  # fmt: skip
SLIDING = {"sliding_window": 4, "layer_types": ["sliding_attention", "full_attention"] * 2}
GLM = {
    "n_group": 1, "topk_group": 1, "n_shared_experts": 1, "routed_scaling_factor": 1.0,
    "first_k_dense_replace": 1, "rope_scaling": None, "use_qk_norm": True,
    "attention_bias": True, "partial_rotary_factor": 0.5,
}  # fmt: skip


def _qwen3_5(like: str) -> Config:
    heads, _, size = HEADS[like]
    text = _plain(
        like, linear_num_value_heads=heads, linear_num_key_heads=heads, linear_key_head_dim=size,
        linear_value_head_dim=size, linear_conv_kernel_dim=4, full_attention_interval=2,
        attention_bias=False, rope_parameters={**ROPE, "partial_rotary_factor": 0.25,
                                               "mrope_section": [1, 1, 1]},
    )  # fmt: skip
    return {"torch_dtype": "float32", "text_config": text}


def _longcat(like: str) -> Config:
    return _latent(
        like, attention_method="MLA", zero_expert_type="identity", zero_expert_num=2, num_layers=2,
        ffn_hidden_size=384, moe_topk=2, expert_ffn_hidden_size=384, mla_scale_q_lora=True,
        mla_scale_kv_lora=True,
    )  # fmt: skip


def _step(like: str) -> Config:
    return _experts(
        like, num_attention_groups=HEADS[like][1], sliding_window=4, moe_num_experts=4,
        layer_types=["full_attention", "sliding_attention", "full_attention"], moe_top_k=2,
        attention_other_setting=None, share_expert_dim=384, moe_layers_enum="1,2",
        moe_router_scaling_factor=1.0,
    )  # fmt: skip


KINDS: dict[str, Callable[[str], dict[str, Any]]] = {
    "llama": _plain,
    "qwen2": lambda like: _plain(like, hidden_size=HEADS[like][0] * HEADS[like][2]),
    "qwen3": _plain,
    "iquestloopcoder": _plain,
    "ministral3": lambda like: _plain(
        like, **SLIDING, rope_parameters=LLAMA4, num_hidden_layers=4
    ),
    "qwen3_moe": lambda like: _experts(like, decoder_sparse_step=1, mlp_only_layers=[0]),
    "glm4_moe": lambda like: _experts(like, **GLM),
    "solar_open": lambda like: _experts(like, **GLM),
    "gpt_oss": lambda like: _experts(like, **SLIDING, num_hidden_layers=4),
    "minimax": lambda like: _experts(
        like, shared_intermediate_size=0, rotary_dim=8, use_qk_norm=True
    ),
    "exaone_moe": lambda like: _experts(
        like, num_shared_experts=1, sliding_window=4, is_moe_layer=[False, True, True],
        layer_types=["sliding_attention", "full_attention", "full_attention"],
    ),
    "step3p5": _step,
    "deepseek_v2": lambda like: _latent(like, rope_scaling=YARN, topk_method="greedy"),
    "deepseek_v3": _latent,
    "deepseek_v32": _latent,
    "glm_moe_dsa": lambda like: _latent(like, rope_parameters=ROPE),
    "glm4_moe_lite": _latent,
    "mistral4": lambda like: _latent(like, rope_parameters=LLAMA4),
    "longcat_flash": _longcat,
    "qwen3_5": _qwen3_5,
    # These have no shard() in mlx-lm 0.32.2.
    "qwen3_next": lambda like: {
        **_experts(like), **_qwen3_5(like)["text_config"], "shared_expert_intermediate_size": 384,
        "decoder_sparse_step": 1, "mlp_only_layers": [], "partial_rotary_factor": 0.25,
        "rope_scaling": None,
    },
    "gemma3_text": lambda like: _plain(
        like, query_pre_attn_scalar=32, sliding_window=64, sliding_window_pattern=2
    ),
}  # fmt: skip


def config(kind: str, like: str) -> Config:
    return {"model_type": kind, **KINDS[kind](like)}
