"""What people give in place of a checkpoint's folder is named, with what to do next."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from export.checkpoint.checkpoint import Checkpoint
from runtime.errors import GemmaError

WHOLE = "model.safetensors"


@pytest.fixture
def folder(checkpoint, tmp_path: Path) -> Path:
    """A checkpoint without its weights."""
    return shutil.copytree(checkpoint("e2b"), tmp_path / "folder", ignore=shutil.ignore_patterns(WHOLE))


def refusal(source: Path) -> str:
    with pytest.raises(GemmaError) as caught:
        Checkpoint.open(source)
    assert caught.value.hint
    return str(caught.value)


FILES = {
    "model-Q4_K_M.gguf": "a GGUF file",
    "gemma.litertlm": "a LiteRT file",
    "gemma.task": "a LiteRT file",
    "gemma.tflite": "a LiteRT file",
    "decoder_model_merged.onnx": "an ONNX model",
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_another_kind(tmp_path, name):
    (tmp_path / name).write_bytes(b"GGUF")
    said = refusal(tmp_path / name)
    assert f"{name} is {FILES[name]}, not the folder of a checkpoint" in said
    assert "give the Hugging Face folder" in said


def test_another_file(tmp_path):
    (tmp_path / WHOLE).write_bytes(b"x")
    assert "a file, not a folder" in refusal(tmp_path / WHOLE)


HELD = {  # a name, a folder's with a slash; what is said of it
    **{name: f"{name} is {what}" for name, what in FILES.items()},
    "onnx/": "onnx is an ONNX model",
    "Gemma.mlpackage/": "Gemma.mlpackage is a Core ML model",
    "weights.npz": "weights.npz is a file of MLX",
    "checkpoint-500/": "checkpoint-500 is a checkpoint of a trainer",
    "zero_to_fp32.py": "DeepSpeed",
    "global_step500/": "DeepSpeed",
    "pytorch_model_fsdp_0/": "FSDP",
    "__0_0.distcp": "FSDP",
    "pytorch_model.bin": "pytorch_model.bin is a pickle and is never read",
    "pytorch_model-00001-of-00002.bin": "is a pickle and is never read",
}
WEIGHTS_ONLY = {
    "consolidated.safetensors": "in the layout of its maker",
    "consolidated.00.safetensors": "in the layout of its maker",
    "model-00001-of-00002.safetensors": "a shard without its index",
    "model.fp16.safetensors": "a variant, which is not read",
    "gemma.safetensors": "not read",
}


def add(folder: Path, name: str) -> None:
    (folder / name).mkdir() if name.endswith("/") else (folder / name).write_bytes(b"x")


@pytest.mark.parametrize("name", HELD)
@pytest.mark.parametrize("missing", ["config.json", WHOLE])
def test_a_folder_of_another_kind(folder, missing, name):
    if missing == "config.json":
        (folder / missing).unlink()
    add(folder, name)
    said = refusal(folder)
    assert said.startswith(f"{folder} has no {missing}; ")
    assert HELD[name] in said


@pytest.mark.parametrize("name", WEIGHTS_ONLY)
def test_weights_by_another_name(folder, name):
    add(folder, name)
    assert WEIGHTS_ONLY[name] in refusal(folder)


@pytest.mark.parametrize("name", ["training_args.bin", "optimizer.pt", "rng_state.pth", "README.md"])
def test_what_lies_beside_weights_is_not_called_weights(folder, name):
    add(folder, name)
    assert refusal(folder).startswith(f"{folder} has no {WHOLE}\n")


def test_what_lies_beside_a_checkpoint_does_not_matter(checkpoint, tmp_path):
    folder = shutil.copytree(checkpoint("e2b"), tmp_path / "folder")
    for name in [*HELD, *WEIGHTS_ONLY, "adapter_config.json"]:
        add(folder, name)
    assert Checkpoint.open(folder).parameters == Checkpoint.open(checkpoint("e2b")).parameters


def adapter(folder: Path, **said: Any) -> None:
    (folder / "adapter_config.json").write_text(json.dumps(said))
    (folder / "adapter_model.safetensors").write_bytes(b"x")


@pytest.mark.parametrize("beside", ["nothing", "a config", "checkpoints", "a whole model"])
def test_an_adapter(checkpoint, folder, beside):
    if beside != "a config":
        (folder / "config.json").unlink()
    if beside == "checkpoints":
        add(folder, "checkpoint-500/")
    if beside == "a whole model":  # transformers puts the adapter on the model that it names, which is another
        shutil.copytree(checkpoint("e2b"), folder, dirs_exist_ok=True)
    adapter(folder, peft_type="LORA", base_model_name_or_path="google/gemma-4-E2B-it")
    said = refusal(folder)
    assert f"{folder} holds a LoRA adapter of google/gemma-4-E2B-it, not a model" in said
    assert "merge_and_unload()" in said


@pytest.mark.parametrize(
    ("said", "expected"),
    [({}, "a None adapter of a model that it does not name"), ({"peft_type": "IA3"}, "a IA3 adapter of")],
)
def test_an_adapter_that_says_less(folder, said, expected):
    adapter(folder, **said)
    assert expected in refusal(folder)


def test_an_adapter_saved_by_peft(checkpoint, tmp_path):
    peft = pytest.importorskip("peft", reason="the extra test is not installed")
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(checkpoint("e2b"))
    peft.get_peft_model(
        model, peft.LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM")
    ).save_pretrained(tmp_path / "adapter")
    assert f"a LoRA adapter of {checkpoint('e2b')}, not a model" in refusal(tmp_path / "adapter")


NAME = "model.layers.0.mlp.up_proj"
QUANTIZED: dict[str, tuple[dict[str, torch.Tensor], str]] = {
    "bitsandbytes at 4 bits": (
        {
            f"{NAME}.weight": torch.zeros(3072, 1, dtype=torch.uint8),
            f"{NAME}.weight.absmax": torch.ones(96, dtype=torch.uint8),
            f"{NAME}.weight.quant_state.bitsandbytes__nf4": torch.ones(8, dtype=torch.uint8),
        },
        "quantized by bitsandbytes, at 4 bits",
    ),
    "bitsandbytes at 8 bits": (
        {f"{NAME}.weight": torch.zeros(96, 64, dtype=torch.int8), f"{NAME}.SCB": torch.ones(96)},
        "quantized by bitsandbytes, at 8 bits",
    ),
    "GPTQ": (
        {f"{NAME}.qweight": torch.zeros(8, 96, dtype=torch.int32), f"{NAME}.g_idx": torch.zeros(64, dtype=torch.int32)},
        "quantized by GPTQ or AWQ",
    ),
    "AWQ": (
        {f"{NAME}.qweight": torch.zeros(64, 12, dtype=torch.int32), f"{NAME}.qzeros": torch.zeros(1, 12).int()},
        "quantized by GPTQ or AWQ",
    ),
    "MLX": (
        {f"{NAME}.weight": torch.zeros(96, 8).int()}
        | {f"{NAME}.{part}": torch.ones(96, 1) for part in ("scales", "biases")},
        "quantized by MLX",
    ),
    "FP8": (
        {f"{NAME}.weight": torch.zeros(96, 64).to(torch.float8_e4m3fn), f"{NAME}.weight_scale_inv": torch.ones(1, 1)},
        "quantized by FP8",
    ),
}  # fmt: skip


@pytest.mark.parametrize("method", [None, "bitsandbytes"])
@pytest.mark.parametrize("tool", QUANTIZED)
def test_integers_of_another_tool(checkpoint, tmp_path, tool, method):
    folder = shutil.copytree(checkpoint("e2b"), tmp_path / "folder")
    tensors, expected = QUANTIZED[tool]
    values = {name: value for name, value in load_file(folder / WHOLE).items() if not name.startswith(NAME)}
    save_file(values | tensors, folder / WHOLE, metadata={"format": "pt"})
    if method:
        raw = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(raw | {"quantization_config": {"quant_method": method}}))
    assert expected in refusal(folder)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"quant_method": "torchao"}, "quantized already (quant_method 'torchao')"),
        ({"quant_method": "compressed-tensors"}, "-qat-mobile-transformers"),
        ("nf4", "config.json does not describe a Gemma"),
    ],
)
def test_integers_that_only_config_tells_of(checkpoint, tmp_path, said, expected):
    folder = shutil.copytree(checkpoint("e2b"), tmp_path / "folder")
    values = load_file(folder / WHOLE)
    save_file(values | {f"{NAME}.weight": torch.zeros(96, 64, dtype=torch.int8)}, folder / WHOLE)
    raw = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(raw | {"quantization_config": said}))
    assert expected in refusal(folder)
