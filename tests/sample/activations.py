"""Static and dynamic rounding of activations, compared on the sample: what a bundle of a quantized release does.

    python tests/sample/activations.py

The sample is written as a quantized release of 4-bit linears and 8-bit tables, its static ranges found on a text
that it writes.  On another text, against the same integers with float activations: transformers with the static
ranges, and the bundle, whose activations are rounded as they come.  The last line is JSON.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from transformers import Gemma4ForCausalLM

from export.calibration_text import SEED
from export.checkpoint import Checkpoint
from export.pipeline import export_bundle
from export.reference import FloatSource
from export.side_files import generation
from export.verify import Tally
from export.write_text import script, write
from quantize.affine import quantize
from quantize.recipe import RECIPES, RELEASED
from quantize.scheme import INT8, Scheme
from runtime.bundle import Bundle
from runtime.decoder import Decoder
from runtime.tokenizer import Tokenizer

SAMPLE = Path(__file__).parent / "checkpoint"
SEQUENCES, LENGTH = 16, 256
INT4 = Scheme(4)
RULES = {"^lm_head$": 8, "embed_tokens": 8, "per_layer_input_gate": 8, "per_layer_projection": 8}
FLOATS = ["per_layer_model_projection"]


def texts() -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """What the sample says with two seeds, (SEQUENCES, LENGTH) each: to find ranges, and to compare on."""
    source = FloatSource(Checkpoint.open(SAMPLE))
    tokenizer = Tokenizer(SAMPLE / "tokenizer.json", generation(SAMPLE).bos, SAMPLE / "chat_template.jinja")
    given = script(tokenizer, generation(SAMPLE).stop)
    return write(source, given, SEQUENCES, LENGTH, SEED), write(source, given, SEQUENCES, LENGTH, SEED + 1)


def packed(weight: torch.Tensor, scheme: Scheme, kind: str) -> dict[str, torch.Tensor]:
    made, _ = quantize(weight.float().numpy(), scheme)
    codes = torch.from_numpy(made.packed.copy())
    scales = torch.from_numpy(made.scales.reshape(len(weight), -1).copy())
    if kind == "embedding":
        return {"embedding_quantized": codes.view(torch.int8), "embedding_scale": scales}
    ranges = {f"{end}_activation_scale": torch.zeros(()) for end in ("input", "output")}
    return {"weight": codes.view(torch.int8) if scheme.bits == 8 else codes, "weight_scale": scales, **ranges}


def as_release(folder: Path, ranges: dict[str, float]) -> None:
    """The sample with integers, in the layout of a quantized release; `ranges` of activations by tensor."""
    config = json.loads((SAMPLE / "config.json").read_text())
    rules = {pattern: {"num_bits": bits} for pattern, bits in RULES.items()}
    config |= {
        "tie_word_embeddings": False,
        "quantization_config": {
            "quant_method": "gemma", "num_bits": 4, "quantize_embeddings": True,
            "module_quant_configs": rules, "modules_to_not_convert": FLOATS,
        },
    }  # fmt: skip
    model = Gemma4ForCausalLM.from_pretrained(SAMPLE, dtype=torch.float32)
    found: dict[str, torch.Tensor] = {}
    for name, module in model.named_modules():
        weight = getattr(module, "weight", None)
        matrix = weight is not None and weight.ndim == 2 and not any(name.endswith(one) for one in FLOATS)
        if matrix:
            kind = "embedding" if "embed_tokens" in name else "linear"
            scheme = INT8 if kind == "embedding" or any(one in name for one in RULES) or name == "lm_head" else INT4
            found |= {f"{name}.{part}": one for part, one in packed(weight, scheme, kind).items()}
        elif weight is not None:
            found[f"{name}.weight"] = weight.bfloat16().contiguous()
    found |= {name: value for name, value in model.state_dict().items() if name.endswith("layer_scalar")}
    found |= {name: torch.tensor(value) for name, value in ranges.items()}
    folder.mkdir(parents=True)
    save_file(found, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config))
    for name in ("generation_config.json", "tokenizer.json", "chat_template.jinja"):
        shutil.copyfile(SAMPLE / name, folder / name)


def ranges_of(model: torch.nn.Module, ids: NDArray[np.int64]) -> dict[str, float]:
    """A scale for the input and the output of each quantized linear: its largest size, to 127."""
    largest: dict[str, float] = {}

    def watch(name: str):
        def see(_module, inputs, output):
            for end, x in (("input", inputs[0]), ("output", output)):
                key = f"{name}.{end}_activation_scale"
                largest[key] = max(largest.get(key, 0.0), float(x.abs().max()) / 127)

        return see

    for name, module in model.named_modules():
        if hasattr(module, "input_activation_scale") and name != "lm_head":
            module.register_forward_hook(watch(name))
    model(input_ids=torch.from_numpy(ids))
    return largest


@torch.no_grad()
def main() -> int:
    seen, asked = texts()
    with tempfile.TemporaryDirectory() as name:
        plain, static, bundle = Path(name) / "plain", Path(name) / "static", Path(name) / "x.bundle"
        as_release(plain, {})
        exact = Gemma4ForCausalLM.from_pretrained(plain, dtype=torch.float32).eval()
        expected = exact(input_ids=torch.from_numpy(asked)).logits.numpy()
        as_release(static, ranges_of(exact, seen))
        rounded = Gemma4ForCausalLM.from_pretrained(static, dtype=torch.float32).eval()
        export_bundle(plain, bundle, ["onnx"], RECIPES[RELEASED])
        decoder, dynamic = Decoder(Bundle.open(bundle)), []
        for row in asked:
            decoder.reset()
            dynamic.append(decoder.prefill(row, LENGTH).logits.copy())
        found = {"static": rounded(input_ids=torch.from_numpy(asked)).logits.numpy(), "dynamic": np.stack(dynamic)}
    figures = {}
    print("| activations | KL, nats a token | top-1 agreement |\n|---|---|---|")
    for kind, logits in found.items():
        tally = Tally()
        for one, other in zip(logits, expected, strict=True):
            tally.add(one, other)
        parity = tally.parity()
        figures[kind] = {"mean_kl": parity.mean_divergence, "agreement": parity.agreement}
        print(f"| {kind} | {parity.mean_divergence:.5f} | {parity.agreement:.1%} |")
    print(json.dumps(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
