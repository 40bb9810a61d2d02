"""What transformers' configuration classes of Gemma take for a field that a config.json leaves out."""

from __future__ import annotations

from typing import Any

COMMON: dict[str, Any] = {
    "hidden_size": 2304,
    "intermediate_size": 9216,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 256,
    "max_position_embeddings": 131_072,
    "rms_norm_eps": 1e-6,
}
GEMMA4: dict[str, Any] = COMMON | {
    "vocab_size": 262_144,
    "num_hidden_layers": 30,
    "global_head_dim": 512,
    "hidden_size_per_layer_input": 256,
    "num_kv_shared_layers": 0,
    "sliding_window": 512,
    "final_logit_softcapping": None,
}
GEMMA3: dict[str, Any] = COMMON | {
    "vocab_size": 262_208,
    "num_hidden_layers": 26,
    "sliding_window": 4096,
    "query_pre_attn_scalar": 256,
}
