"""What people have in place of a checkpoint's folder: named, with the next step."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path

from runtime.errors import GemmaError

from ..read_json import read_json

ADAPTER = "adapter_config.json"
ORIGINAL = "give the Hugging Face folder that it was made from: config.json, tokenizer.json and model.safetensors"
# The first that fits a name, of a file or of a folder with a slash behind it; what it is, and what to do.
FOREIGN = [
    (r"bundle\.json", "of a bundle, which is exported already", "run it, or " + ORIGINAL),
    (r".+\.gguf", "a GGUF file", ORIGINAL),
    (r".+\.(litertlm|task|tflite)", "a LiteRT file", ORIGINAL),
    (r".+\.onnx|onnx/", "an ONNX model", ORIGINAL),
    (r".+\.(mlpackage|mlmodelc)/", "a Core ML model", ORIGINAL),
    (r"weights(\.\d+)?\.npz", "a file of MLX", ORIGINAL),
    (
        r"checkpoint-\d+/",
        "a checkpoint of a trainer, and more may lie beside it",
        "give the folder of one: the last, or what trainer.save_model() wrote",
    ),
    (
        r"global_step\d+/|zero_to_fp32\.py|.*model_states\.pt",
        "of a checkpoint in DeepSpeed's shards",
        "join them: python zero_to_fp32.py . FOLDER --safe_serialization; "
        "FOLDER needs config.json and the tokenizer's files too",
    ),
    (
        r"pytorch_model_fsdp.*|.+\.distcp",
        "of a checkpoint in FSDP's shards",
        "join them: accelerate merge-weights SHARDS FOLDER; FOLDER needs config.json and the tokenizer's files too",
    ),
    (
        r"(pytorch_model|model).*\.(bin|pt|pth)|.+\.ckpt",
        "a pickle and is never read",
        "convert it to safetensors: AutoModelForCausalLM.from_pretrained(...).save_pretrained(FOLDER)",
    ),
]
OTHERWISE_NAMED = [
    (r"consolidated.*\.safetensors", "in the layout of its maker, not of transformers", ORIGINAL),
    (r"model-\d+-of-\d+\.safetensors", "a shard without its index", "download model.safetensors.index.json too"),
    (r"model\..+\.safetensors", "a variant, which is not read", "rename it to model.safetensors if you want this one"),
    (r".+\.safetensors", "not read", "rename it to model.safetensors if it holds the whole model"),
]


def refuse_other(folder: Path, names: Collection[str], missing: str) -> None:
    """Raises GemmaError for a folder that lacks a file; says what it is if its names tell.

    names: of files, and of folders with a slash behind them
    """
    refuse_adapter(folder, names)
    kinds = FOREIGN if missing == "config.json" else FOREIGN + OTHERWISE_NAMED
    for pattern, what, hint in kinds:
        fitting = sorted(name.rstrip("/") for name in names if re.fullmatch(pattern, name))
        if fitting:
            raise GemmaError(f"{folder} has no {missing}; {fitting[0]} is {what}", hint)
    raise GemmaError(f"{folder} has no {missing}", "give a checkpoint's folder, as released on the hub")


def refuse_adapter(folder: Path, names: Collection[str]) -> None:
    """Raises GemmaError for an adapter: transformers would put it on its model, wherever that is."""
    if ADAPTER not in names or not ({"adapter_model.safetensors", "adapter_model.bin"} & set(names)):
        return
    adapter = read_json(folder, ADAPTER)
    kind = {"LORA": "LoRA"}.get(str(adapter.get("peft_type")), str(adapter.get("peft_type")))
    model = adapter.get("base_model_name_or_path") or "a model that it does not name"
    raise GemmaError(
        f"{folder} holds a {kind} adapter of {model}, not a model",
        "merge it first: PeftModel.from_pretrained(model, adapter).merge_and_unload().save_pretrained(FOLDER), "
        "and save the tokenizer to FOLDER too",
    )


def refuse_without_tokenizer(where: Path | str) -> None:
    """Raises GemmaError."""
    raise GemmaError(
        f"{where} has no tokenizer.json",
        "save the tokenizer to this folder too: AutoTokenizer.from_pretrained(MODEL).save_pretrained(FOLDER)",
    )


def refuse_file(path: Path) -> None:
    """Raises GemmaError for a file in place of a folder."""
    for pattern, what, hint in FOREIGN[:4]:
        if re.fullmatch(pattern, path.name):
            raise GemmaError(f"{path} is {what}, not the folder of a checkpoint", hint)
    raise GemmaError(f"{path} is a file, not a folder", "give the folder that holds config.json")
