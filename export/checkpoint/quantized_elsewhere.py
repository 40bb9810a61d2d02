"""Which integers a folder holds: those of a release that is read, others that are refused by name, or none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from runtime.errors import GemmaError

from ..model.released_bits import ReleasedBits, parse_bits
from .packed import SCALES
from .stored import DTYPES, TensorEntry

# Ends of tensors' names that only one tool writes.
MARKS = {
    ".weight.absmax": "bitsandbytes, at 4 bits",
    ".SCB": "bitsandbytes, at 8 bits",
    ".qzeros": "GPTQ or AWQ",
    ".qweight": "GPTQ or AWQ",
    ".W_q": "HQQ",
    ".biases": "MLX",
    ".weight_scale_inv": "FP8 in blocks",
    ".weight_scale_2": "ModelOpt",
}
WHOLE = "give the checkpoint in bfloat16; an adapter trained on quantized weights merges into that one too"


def bits_of(
    raw: Mapping[str, Any], tensors: Mapping[str, TensorEntry], where: str
) -> tuple[ReleasedBits | None, tuple[str, ...]]:
    """The widths of a release of integers, None for floats; and what to say.

    The tensors decide: a merge into floats may keep the quantization_config of what it was trained on.

    Raises GemmaError for integers of another tool.
    """
    for mark, tool in MARKS.items():
        if any(name.endswith(mark) for name in tensors):
            raise GemmaError(f"{where}: its tensors are quantized by {tool}", WHOLE)
    method = raw.get("quantization_config")
    if method is not None and are_floats(tensors):
        name = method.get("quant_method") if isinstance(method, dict) else method
        return None, (f"config.json has a quantization_config ({name}), which is not used: the tensors are floats",)
    try:
        return parse_bits(raw), ()
    except (TypeError, ValueError, AttributeError) as error:
        raise GemmaError(f"{where}: config.json does not describe a Gemma: {error}", WHOLE) from error


def are_floats(tensors: Mapping[str, TensorEntry]) -> bool:
    scales = any(name.endswith(tuple(SCALES.values())) for name in tensors)
    return not scales and all(entry.dtype in DTYPES for entry in tensors.values())
