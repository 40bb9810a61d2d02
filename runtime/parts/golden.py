"""Calls of a part with the answers of the checkpoint's own module, and how far this machine's are from these."""

from __future__ import annotations

import base64
import binascii
import math
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from ..bundle.bundle import Bundle
from ..bundle.parity import PartReport
from ..errors import BundleError
from .arrays import DTYPES, EXPORT_AGAIN
from .part import OnnxPart


class PackedArray(msgspec.Struct, frozen=True, kw_only=True):
    """An array as JSON; values: little-endian, in base64."""

    dtype: str
    shape: list[int]
    values: str


class PartCall(msgspec.Struct, frozen=True, kw_only=True):
    """Arrays by name: what goes in, and what the checkpoint's module gives."""

    inputs: dict[str, PackedArray]
    outputs: dict[str, PackedArray]


class PartGoldens(msgspec.Struct, frozen=True, kw_only=True):
    """The contents of a part's golden file; tolerance: over the largest value of each output."""

    tolerance: float
    calls: list[PartCall]


def packed(array: NDArray[Any]) -> PackedArray:
    """Return an array as JSON holds it."""
    raw = np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes()
    return PackedArray(dtype=array.dtype.name, shape=list(array.shape), values=base64.b64encode(raw).decode())


def unpacked(array: PackedArray, path: Path) -> NDArray[Any]:
    """Return the array that JSON holds.  Raises BundleError if its bytes are not of its shape and type."""
    try:
        raw = base64.b64decode(array.values, validate=True)
    except binascii.Error as error:
        raise BundleError(f"{path}: values are not base64: {error}", EXPORT_AGAIN) from error
    known = array.dtype in DTYPES and all(size >= 0 for size in array.shape)
    if not known or len(raw) != math.prod(array.shape) * np.dtype(array.dtype).itemsize:
        shape = ", ".join(map(str, array.shape))
        raise BundleError(f"{path}: {len(raw)} bytes are no {array.dtype:.20} of ({shape})", EXPORT_AGAIN)
    return np.frombuffer(raw, np.dtype(array.dtype).newbyteorder("<")).astype(array.dtype).reshape(array.shape)


def check_golden_parts(bundle: Bundle, threads: int = 0) -> dict[str, PartReport]:
    """Repeat the golden calls of each part that onnxruntime runs; reports by name.

    Raises GemmaError for a part that can not be loaded or run, for goldens that prove nothing, and for a part whose
    answers differ by more than its tolerance.
    """
    runs_here = [name for name, part in bundle.manifest.parts.items() if part.golden and "onnx" in part.artifacts]
    return {name: check_golden_part(bundle, name, threads) for name in runs_here}


def check_golden_part(bundle: Bundle, name: str, threads: int = 0) -> PartReport:
    """Repeat the golden calls of one part.  Raises BundleError as `check_golden_parts` does."""
    golden = bundle.manifest.parts[name].golden
    path, goldens = bundle.path(golden), bundle.json(golden, PartGoldens)
    if not goldens.calls or not all(call.outputs for call in goldens.calls):
        raise BundleError(f"{path}: golden calls without an answer prove nothing", EXPORT_AGAIN)
    part = OnnxPart(bundle, name, threads)
    worst = max(repeat(part, call, path) for call in goldens.calls)
    report = PartReport(calls=len(goldens.calls), worst_difference=worst, tolerance=goldens.tolerance)
    if not report.passed:
        raise BundleError(
            f"{bundle.folder}: part {name!r} answers {worst:.3g} of its largest value off, {goldens.tolerance:.3g} are "
            "allowed",
            "this onnxruntime or this processor computes something else; export the bundle again on this machine",
        )
    return report


def repeat(part: OnnxPart, call: PartCall, path: Path) -> float:
    """Return the largest difference of a call's outputs, over the largest value of each.

    Raises BundleError if the call is not one of the part's.
    """
    answers = part.run({name: unpacked(array, path) for name, array in call.inputs.items()})
    if answers.keys() != call.outputs.keys():
        raise BundleError(f"{path}: its outputs are not those of part {part.name!r}", EXPORT_AGAIN)
    return max(difference(answers[name], unpacked(array, path), path) for name, array in call.outputs.items())


def difference(answer: NDArray[Any], golden: NDArray[Any], path: Path) -> float:
    """Return the largest difference over the largest golden value; of whole numbers 0 if all are equal, else infinity.

    A value that is no number differs by infinity.  Raises BundleError for arrays of other sizes.
    """
    if answer.shape != golden.shape:
        raise BundleError(f"{path}: an output is {answer.shape}, not {golden.shape}", EXPORT_AGAIN)
    if not np.issubdtype(golden.dtype, np.floating):
        return 0.0 if np.array_equal(answer, golden) else math.inf
    expected = golden.astype(np.float64)
    off = float(np.abs(answer.astype(np.float64) - expected).max(initial=0.0))
    largest = float(np.abs(expected).max(initial=0.0))
    if not math.isfinite(off) or not math.isfinite(largest):
        return math.inf
    return off / largest if largest else off
