"""Small programs, saved and run: what they say is computed, and what they should not say is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Literal

import numpy as np
import pytest

pytest.importorskip("coremltools", reason="the extra coreml is not installed")

from coremltools.proto import MIL_pb2 as mil
from coremltools.proto import Model_pb2

from export.to_coreml.evaluator import Program
from export.to_coreml.operators import Translation
from export.to_coreml.program import BlobTensor, FunctionBuilder, MilValue
from export.to_coreml.weight_bin import WeightWriter
from runtime.errors import GemmaError

X = np.random.default_rng(0).standard_normal((1, 2, 16)).astype(np.float32)


@pytest.fixture
def saved(tmp_path: Path) -> Callable[..., Path]:
    """`saved(build)`: a program of one function `main`, whose input x (1, 2, 16) `build` makes into outputs."""

    def save(build: Callable[[FunctionBuilder, MilValue, WeightWriter], list[MilValue]]) -> Path:
        (tmp_path / "weights").mkdir(exist_ok=True)
        to = FunctionBuilder()
        with WeightWriter(tmp_path / "weights" / "weight.bin") as writer:
            outputs = build(to, to.input("x", "float32", X.shape), writer)
        program = mil.Program(version=1, functions={"main": to.function(outputs)})
        path = tmp_path / "model.mlmodel"
        path.write_bytes(Model_pb2.Model(specificationVersion=9, mlProgram=program).SerializeToString())
        return path

    return save


def run(
    path: Path, precision: Literal["float32", "float16"] = "float32", states: dict[str, np.ndarray] | None = None
) -> np.ndarray:
    program = Program.open(path, precision)
    states = program.new_states("main") if states is None else states
    (found,) = program.run("main", {"x": X}, states).values()
    return found


def normed_by(to: FunctionBuilder, x: MilValue) -> MilValue:
    """Of a translation the norm reads its builder alone."""
    return Translation.normed(SimpleNamespace(to=to), x, 1e-6)  # type: ignore[arg-type]


def normed(to: FunctionBuilder, x: MilValue, writer: WeightWriter) -> list[MilValue]:
    """Gemma's norm of large values that are float16."""
    large = to.both("mul", x, to.number(3000.0))
    small = to.cast(to.cast(large, "float16"), "float32")
    return [normed_by(to, small)]


def test_a_norm_of_large_float16_values_does_not_overflow(saved):
    expected = X / np.sqrt((X * X).mean(-1, keepdims=True))
    assert np.abs(run(saved(normed), "float16") - expected).max() < 3e-3


def test_a_norm_of_small_values_keeps_its_epsilon(saved):
    def build(to, x, writer):
        return [normed_by(to, to.both("mul", x, to.number(1e-4)))]

    small = X * np.float32(1e-4)
    expected = small / np.sqrt((small * small).mean(-1, keepdims=True) + 1e-6)
    assert np.abs(run(saved(build), "float16") - expected).max() < 1e-6


def test_float16_rounds_at_every_operator(saved):
    def build(to, x, writer):
        return [to.cast(to.both("add", to.cast(x, "float16"), to.cast(x, "float16")), "float32")]

    assert np.array_equal(run(saved(build), "float32"), X + X)
    half = X.astype(np.float16)
    assert np.array_equal(run(saved(build), "float16"), (half + half).astype(np.float32))


@pytest.mark.parametrize(("bits", "dtype"), [(2, "uint2"), (4, "int4"), (8, "int8")])
def test_a_linear_multiplies_by_integers_and_scales(saved, bits, dtype):
    rng = np.random.default_rng(bits)
    codes = rng.integers(-(1 << bits - 1), 1 << bits - 1, (6, 16), np.int8)
    groups = 1 if bits == 2 else 4
    scales = np.array([-0.5, 0.25, 2.0, 3.0], np.float16)[rng.integers(0, 4, (6, groups))]
    fields = (
        (codes + 2 if bits == 2 else codes.astype(np.int32) & (1 << bits) - 1)
        .astype(np.uint8)
        .reshape(6, -1, 8 // bits)
    )
    packed = (fields << (np.arange(8 // bits, dtype=np.uint8) * bits)).sum(-1).astype(np.uint8)

    def build(to, x, writer):
        data = BlobTensor(writer.write(dtype, (6, 16), [packed]), dtype, (6, 16))
        factors = scales[..., None, None] * np.arange(-2, 2, dtype=np.float16)[:, None] if bits == 2 else scales
        stored = BlobTensor(writer.write("float16", factors.shape, [factors]), "float16", factors.shape)
        kind = "constexpr_lut_to_dense" if bits == 2 else "constexpr_blockwise_shift_scale"
        names = ("indices", "lut") if bits == 2 else ("data", "scale")
        weight = to.emit(kind, dict(zip(names, (data, stored), strict=True)), "float16", (6, 16))
        zeros = BlobTensor(writer.write("float16", (6,), [np.zeros(6, np.float16)]), "float16", (6,))
        arguments = {"x": to.cast(x, "float16"), "weight": weight, "bias": to.stored(zeros, "zeros")}
        return [to.cast(to.emit("linear", arguments, "float16", (1, 2, 6)), "float32")]

    expected = X @ (codes * np.repeat(scales, 16 // groups, 1).astype(np.float32)).T
    assert np.abs(run(saved(build)) - expected).max() < 1e-4


def test_a_state_lives_between_calls(saved):
    def build(to, x, writer):
        state = to.state("sum", X.shape)
        total = to.both("add", to.read_state(state), to.cast(x, "float16"))
        to.write_state(state, total)
        return [to.cast(total, "float32")]

    path, states = saved(build), {"sum": np.zeros(X.shape, np.float32)}
    run(path, states=states)
    assert np.array_equal(run(path, states=states), X + X)


def unknown(to, x, writer):
    return [to.emit("erf", {"x": x}, "float32", X.shape)]


def drifted(to, x, writer):
    return [to.emit("tanh", {"x": x}, "float32", (1, 2, 15))]


def outside(to, x, writer):
    return [to.slice(x, (0, 0, 1), (1, 2, 17))]


def exact_gelu(to, x, writer):
    return [to.emit("gelu", {"x": x, "mode": to.constant("EXACT")}, "float32", X.shape)]


def odd_argument(to, x, writer):
    return [to.emit("tanh", {"x": x, "y": x}, "float32", X.shape)]


def too_early(to, x, writer):
    return [to.emit("tanh", {"x": MilValue("later", "float32", X.shape)}, "float32", X.shape)]


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (unknown, "erf erf_0 is an operator that the evaluator does not know"),
        (drifted, r"tanh tanh_0 computes \(1, 2, 16\), but declares"),
        (outside, "slice_by_index_0 cannot be computed: a slice"),
        (exact_gelu, "gelu_0 cannot be computed: mode EXACT"),
        (odd_argument, "has arguments"),
        (too_early, "reads .*later.*, which nothing computes before it"),
    ],
)
def test_what_a_program_should_not_say_is_refused(saved, build, message):
    with pytest.raises(GemmaError, match=message):
        run(saved(build))


def test_feeds_of_another_shape_are_refused(saved):
    program = Program.open(saved(normed), "float32")
    with pytest.raises(GemmaError, match="x is fed"):
        program.run("main", {"x": X[:, :1]}, {})
    with pytest.raises(GemmaError, match="x is fed nothing"):
        program.run("main", {}, {})


def test_a_file_that_is_no_model_is_refused(saved):
    path = saved(normed)
    path.write_bytes(b"\xff" * 100)
    with pytest.raises(GemmaError, match="is not a Core ML model"):
        Program.open(path, "float32")
    path.write_bytes(b"")
    with pytest.raises(GemmaError, match="has no program"):
        Program.open(path, "float32")
