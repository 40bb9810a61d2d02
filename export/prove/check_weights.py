"""The integers and scales of an artifact are those that were decided, read back from its files."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np

from quantize.affine import Quantized
from runtime.errors import GemmaError

from ..targets import Target
from ..weights.linears import Weights


def check_weights(folder: Path, weights: Weights, target: Target, file: str) -> None:
    """Raises GemmaError unless the artifact's integers and scales are those that were decided."""
    seen: Counter[str] = Counter()  # rows, by parameter
    for parameters, packed in target.stored_weights(folder / file):
        for start, piece in packed:
            offset = 0
            for parameter in parameters:
                expected = weights.get(parameter)
                if not isinstance(expected, Quantized):
                    raise GemmaError(
                        f"{folder}: the artifact has {parameter} as integers, which nobody quantized",
                        "report this as a bug",
                    )
                a, b = max(start, offset), min(start + len(piece), offset + expected.rows)
                if a < b:
                    seen[parameter] += b - a
                    decided = expected.part(a - offset, b - offset)
                    decided = replace(decided, scales=target.scales_as_stored(np.asarray(decided.scales)))
                    if not np.array_equal(decided.dequantize(), piece[a - start : b - start]):
                        raise GemmaError(
                            f"{folder}: {parameter} in the artifact differs from what was quantized",
                            "report this as a bug",
                        )
                offset += expected.rows
    integers = {name: values for name, values in weights.items() if isinstance(values, Quantized)}
    missing = [name for name, expected in integers.items() if seen[name] != expected.rows]
    if missing:
        raise GemmaError(f"{folder}: the artifact lacks the integers of {missing[:5]}", "report this as a bug")
