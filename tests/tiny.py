"""Small Gemmas with every feature and seeded random weights, written as released folders are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, normalizers
from transformers import Gemma3ForCausalLM, Gemma3TextConfig, Gemma4ForCausalLM, Gemma4TextConfig, PreTrainedModel

SLIDING, FULL = "sliding_attention", "full_attention"
VOCAB, WINDOW = 384, 8
GEMMA4_ROPE = {
    FULL: {"rope_type": "proportional", "partial_rotary_factor": 0.25, "rope_theta": 1e6},
    SLIDING: {"rope_type": "default", "rope_theta": 1e4},
}
EAGER = {"attn_implementation": "eager"}
COMMON: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": 64,
    "num_attention_heads": 4,
    "head_dim": 16,
    "sliding_window": WINDOW,
    "rms_norm_eps": 1e-6,
    "max_position_embeddings": 256,
    "pad_token_id": 0,
    "bos_token_id": 2,
    "eos_token_id": 1,
    "tie_word_embeddings": True,
    "attention_bias": False,
}
GEMMA4: dict[str, Any] = COMMON | {
    "vocab_size_per_layer_input": VOCAB,
    "global_head_dim": 32,
    "intermediate_size": 96,
    "final_logit_softcapping": 30.0,
    "rope_parameters": GEMMA4_ROPE,
    "hidden_activation": "gelu_pytorch_tanh",
}
CONFIGS: dict[str, dict[str, Any]] = {
    "e2b": GEMMA4
    | {
        "model_type": "gemma4_text",
        "num_hidden_layers": 7,
        "layer_types": [SLIDING, SLIDING, FULL, SLIDING, FULL, SLIDING, FULL],
        "num_key_value_heads": 1,
        "hidden_size_per_layer_input": 8,
        "num_kv_shared_layers": 3,
        "use_double_wide_mlp": True,
    },
    "e4b": GEMMA4
    | {
        "model_type": "gemma4_text",
        "num_hidden_layers": 6,
        "layer_types": [SLIDING, SLIDING, FULL, SLIDING, SLIDING, FULL],
        "num_key_value_heads": 2,
        "hidden_size_per_layer_input": 8,
        "num_kv_shared_layers": 3,
        "use_double_wide_mlp": False,
    },
    "31b": GEMMA4
    | {
        "model_type": "gemma4_text",
        "num_hidden_layers": 4,
        "layer_types": [SLIDING, SLIDING, SLIDING, FULL],
        "num_key_value_heads": 2,
        "num_global_key_value_heads": 1,
        "attention_k_eq_v": True,
        "hidden_size_per_layer_input": 0,
        "num_kv_shared_layers": 0,
    },
    "gemma3": COMMON
    | {
        "model_type": "gemma3_text",
        "num_hidden_layers": 4,
        "layer_types": [SLIDING, SLIDING, SLIDING, FULL],
        "num_key_value_heads": 1,
        "intermediate_size": 96,
        "query_pre_attn_scalar": 16,
        "rope_theta": 1e6,
        "rope_local_base_freq": 1e4,
    },
}
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "<|turn>{{ 'model' if message['role'] == 'assistant' else message['role'] }}\n"
    "{{ message['content'] | trim }}<turn|>\n{% endfor %}{% if add_generation_prompt %}<|turn>model\n{% endif %}"
)


def reference(name: str, seed: int = 0) -> Gemma4ForCausalLM | Gemma3ForCausalLM:
    """transformers' own model, float32, with weights wide enough that every part shows in the logits."""
    torch.manual_seed(seed)
    settings = {key: json.loads(json.dumps(value)) for key, value in CONFIGS[name].items() if key != "model_type"}
    if name == "gemma3":
        settings["rope_parameters"] = {
            FULL: {"rope_type": "default", "rope_theta": settings.pop("rope_theta")},
            SLIDING: {"rope_type": "default", "rope_theta": settings.pop("rope_local_base_freq")},
        }
        model: Gemma4ForCausalLM | Gemma3ForCausalLM = Gemma3ForCausalLM(Gemma3TextConfig(**settings | EAGER))
    else:
        model = Gemma4ForCausalLM(Gemma4TextConfig(**settings | EAGER))
    with torch.no_grad():
        for key, value in model.state_dict().items():
            if "norm" in key:
                value.add_(torch.randn_like(value) * 0.2)
            elif key.endswith("layer_scalar"):
                value.mul_(1 + 0.3 * torch.randn_like(value))
            elif value.ndim > 1 and "lm_head" not in key:
                value.mul_(8 if name != "gemma3" or "embed" in key else 4)
    model.eval()
    return model


def tensors(model: PreTrainedModel, prefix: str = "model.") -> dict[str, torch.Tensor]:
    """The state dict as a released file has it: tied head left out, dead keys of shared layers in."""
    found = {name: value.contiguous() for name, value in model.state_dict().items() if name != "lm_head.weight"}
    config = model.config
    shared = getattr(config, "num_kv_shared_layers", 0) or 0
    for index in range(config.num_hidden_layers - shared, config.num_hidden_layers):
        own = next(i for i in range(index) if config.layer_types[i] == config.layer_types[index])
        for part in ("k_proj", "v_proj", "k_norm"):
            dead = found[f"model.layers.{own}.self_attn.{part}.weight"]
            found[f"model.layers.{index}.self_attn.{part}.weight"] = torch.zeros_like(dead)
    return {prefix + name.removeprefix("model."): value for name, value in found.items()}


def tokenizer() -> Tokenizer:
    """Control tokens at Gemma 4's ids below 107, then one piece a byte, and a space."""
    control = {0: "<pad>", 1: "<eos>", 2: "<bos>", 3: "<unk>", 105: "<|turn>", 106: "<turn|>"}
    names = [control.get(i, f"<unused{i}>") for i in range(107)] + [f"<0x{i:02X}>" for i in range(256)] + ["▁"]
    vocab = {name: i for i, name in enumerate(names)}
    made = Tokenizer(models.BPE(vocab=vocab, merges=[], byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    made.normalizer = normalizers.Replace(" ", "▁")
    made.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    made.add_special_tokens(names[:107])
    return made


def write(name: str, folder: Path, dtype: torch.dtype = torch.float32, layout: str = "causal") -> Path:
    """A checkpoint folder.  `layout` "causal" is Gemma4ForCausalLM's, "released" the multimodal one with a tower."""
    folder.mkdir(parents=True, exist_ok=True)
    prefix = "model.language_model." if layout == "released" else "model."
    found = {key: value.to(dtype) for key, value in tensors(reference(name), prefix).items()}
    config: dict[str, Any] = CONFIGS[name]
    if layout == "released":
        found["model.vision_tower.encoder.layers.0.input_layernorm.weight"] = torch.ones(4, dtype=dtype)
        found["model.embed_vision.embedding_projection.weight"] = torch.ones(4, 4, dtype=dtype)
        config = {"model_type": "gemma4", "text_config": config, "eos_token_id": [1, 106], "vision_config": {}}
    save_file(found, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config, indent=2))
    generation = {
        "bos_token_id": 2,
        "eos_token_id": [1, 106, 50],
        "do_sample": True,
        "temperature": 1.0,
        "top_k": 64,
        "top_p": 0.95,
    }
    (folder / "generation_config.json").write_text(json.dumps(generation))
    tokenizer().save(str(folder / "tokenizer.json"))
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    (folder / "GENERATED.txt").write_text("Random values, trained on nothing.\n")
    return folder


def shard(folder: Path, count: int) -> None:
    """Split model.safetensors into `count` files and an index."""
    found = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    where: dict[str, str] = {}
    for at in range(count):
        file = f"model-{at + 1:05}-of-{count:05}.safetensors"
        part = {name: found[name] for name in sorted(found)[at::count]}
        save_file(part, folder / file, metadata={"format": "pt"})
        where |= dict.fromkeys(part, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": where}))
