"""What is in a package: operators that were meant, few states, shared weights, and what coremltools reads."""

from __future__ import annotations

import dataclasses

import msgspec
import numpy as np
import pytest

from export.to_coreml.weight_bin import WeightWriter

pytest.importorskip("coremltools", reason="the extra coreml is not installed")

from coremltools.proto import MIL_pb2 as mil
from coremltools.proto import Model_pb2

from export import pipeline
from export.model.config import ActivationScales
from export.prove.runs import ProofSettings
from export.request import ExportSettings
from export.to_coreml import lower as to_coreml
from export.to_coreml.program import BlobTensor, FunctionBuilder
from export.weights.linears import Weights
from quantize.recipe import RECIPES
from quantize.scheme import Scheme
from runtime.bundle.bundle import Bundle
from runtime.cli.main import main
from runtime.errors import GemmaError


@pytest.fixture(scope="module")
def made(coreml_bundle):
    bundle = Bundle.open(coreml_bundle("e2b", "int4-datafree"))
    return bundle, bundle.manifest.artifacts["coreml"]


def model_of(made) -> Model_pb2.Model:
    bundle, artifact = made
    return Model_pb2.Model.FromString(bundle.path(artifact.file).read_bytes())


@pytest.mark.slow
def test_coremltools_reads_the_package_and_finds_the_same_types(made):
    from coremltools.converters.mil.frontend.milproto.load import load

    bundle, artifact = made
    model = model_of(made)
    program = load(model, model.specificationVersion, str(bundle.path(artifact.data).parent))
    assert set(program.functions) == {"prefill", "decode"}
    for name, function in program.functions.items():
        block = model.mlProgram.functions[name].block_specializations["CoreML8"]
        declared = {value.name: value.type for one in block.operations for value in one.outputs}
        for operation in function.operations:
            for value in operation.outputs:
                if value.name in declared and value.shape:
                    sizes = [one.constant.size for one in declared[value.name].tensorType.dimensions]
                    assert list(value.shape) == sizes, value.name


def test_the_record_says_what_there_is(made):
    _, artifact = made
    assert artifact.functions == {"prefill": 16, "decode": 1}
    assert {state.name: (state.dtype, state.shape) for state in artifact.states} == {
        "sliding_key": ("float16", [3, 1, 32, 16]),
        "sliding_value": ("float16", [3, 1, 32, 16]),
        "full_key": ("float16", [1, 1, 256, 32]),
        "full_value": ("float16", [1, 1, 256, 32]),
    }
    assert artifact.scale_error == 0
    linears = {name: count for name, count in artifact.operators.items() if name.startswith("linear")}
    assert linears == {"linear of constexpr_blockwise_shift_scale": 120}
    assert {tensor.name for tensor in artifact.outputs} == {"logits", "hidden"}


def test_both_functions_are_described(made):
    functions = {one.name: one for one in model_of(made).description.functions}
    assert {value.name for value in functions["prefill"].input} - {
        value.name for value in functions["decode"].input
    } == {
        "kept",
        "tokens",
    }
    assert [value.name for value in functions["decode"].state] == [value.name for value in functions["prefill"].state]


def test_a_parity_report_has_both_precisions(made):
    bundle, artifact = made
    from runtime.bundle.parity import Reports

    reports = {one.artifact: one.against["quantized"] for one in bundle.json("parity.json", Reports).reports}
    assert list(reports) == ["coreml float32", "coreml float16"]
    assert reports["coreml float32"].worst_relative < 1e-4
    assert reports["coreml float16"].mean_divergence < 1e-3


@pytest.mark.slow
def test_two_targets_make_one_bundle(checkpoint, tmp_path):
    """Both are compared, with the caches that each has; goldens are those of ONNX, which `verify` repeats."""
    few, out = ExportSettings(proof=ProofSettings("few")), tmp_path / "x.bundle"
    proof = pipeline.export_bundle(checkpoint("e2b"), out, ["coreml", "onnx"], RECIPES["int4-datafree"], settings=few)
    reports = proof.reports
    assert [report.artifact for report in reports] == ["onnx exact", "onnx", "coreml float32", "coreml float16"]
    assert reports[2].against["quantized"].worst_relative < 1e-4
    assert set(Bundle.open(tmp_path / "x.bundle").manifest.artifacts) == {"onnx", "coreml"}
    assert main(["verify", str(tmp_path / "x.bundle")]) == 0


# ---- gates ----


def program_of(kind: str, **arguments: str) -> mil.Program:
    to = FunctionBuilder()
    x = to.input("x", "float32", (1, 4))
    given = {name: to.constant(value) for name, value in arguments.items()}
    return mil.Program(functions={"main": to.function([to.emit(kind, {"x": x} | given, "float32", (1, 4))])})


def test_an_operator_that_was_not_meant_is_named():
    with pytest.raises(GemmaError, match="has an operator erf, which was not meant"):
        to_coreml.census(program_of("erf"))


def test_the_other_gelu_is_refused():
    assert to_coreml.census(program_of("gelu", mode="TANH_APPROXIMATION")) == {"gelu": 1}
    with pytest.raises(GemmaError, match=r"a GELU of mode \['EXACT'\]"):
        to_coreml.census(program_of("gelu", mode="EXACT"))


def test_a_linear_whose_weight_is_not_stored_is_refused():
    to = FunctionBuilder()
    x = to.input("x", "float32", (1, 2))
    weight = to.constant(np.ones((2, 2), np.float32))
    bias = to.stored(BlobTensor(64, "float32", (2,)), "zeros")
    out = to.emit("linear", {"x": x, "weight": weight, "bias": bias}, "float32", (1, 2))
    with pytest.raises(GemmaError, match="the weight is not stored"):
        to_coreml.census(mil.Program(functions={"main": to.function([out])}))


def saved_weights(folder, scale: float, scheme: Scheme, inputs: int = 64) -> Weights:
    shape = (512, scheme.packed_bytes(inputs))
    np.save(folder / "a.packed.npy", np.zeros(shape, np.uint8))
    np.save(folder / "a.scales.npy", np.full((512, scheme.groups(inputs)), scale, np.float32))
    return Weights(folder, {"a": (scheme, inputs)})


def stored(tmp_path, weights: Weights, **scales: ActivationScales) -> to_coreml.StoredWeights:
    config = dataclasses.make_dataclass("Config", ["activation_scales"])(scales)
    with WeightWriter(tmp_path / "weight.bin") as writer:
        return to_coreml.StoredWeights(writer, config, weights)


@pytest.mark.parametrize("scheme", [Scheme(2), Scheme(4), Scheme(8)])
def test_a_scale_that_float16_rounds_is_recorded(tmp_path, scheme):
    assert stored(tmp_path, saved_weights(tmp_path, 0.0117187500, scheme)).scale_error == 0
    found = stored(tmp_path, saved_weights(tmp_path, 0.0123456789, scheme)).scale_error
    assert 0 < found < 2**-11


@pytest.mark.parametrize("scheme", [Scheme(2), Scheme(4), Scheme(8)])
def test_with_a_static_range_nothing_of_a_scale_is_lost(tmp_path, scheme):
    """A factor of each row is the scale of the inputs times what float16 took."""
    made = stored(tmp_path, saved_weights(tmp_path, 0.0123456789, scheme), a=ActivationScales(0.25, 0.5))
    assert made.scale_error == 0
    record = made.matrices["a"].factor
    raw = np.frombuffer((tmp_path / "weight.bin").read_bytes(), np.float32)
    expected = np.float32(0.25) * (np.float32(0.0123456789) / np.float32(np.float16(0.0123456789)))
    assert record is not None
    assert record.shape == (512,)
    assert (raw == expected).sum() == 512


@pytest.mark.parametrize("scale", [1e-8, 7e4])
def test_a_scale_that_float16_loses_is_refused(tmp_path, scale):
    with (
        np.errstate(over="ignore"),
        pytest.raises(GemmaError, match="a: Core ML stores scales as float16, which moves one of them by"),
    ):
        stored(tmp_path, saved_weights(tmp_path, scale, Scheme(4)))


def test_rows_that_do_not_come_out_even_are_refused(tmp_path):
    with pytest.raises(GemmaError, match="int4/32 on rows of 44 does not come out even"):
        stored(tmp_path, saved_weights(tmp_path, 0.5, Scheme(4, 32), 44))


def test_the_file_is_as_large_as_integers_and_scales(tmp_path):
    weights = saved_weights(tmp_path, 0.5, Scheme(4), 2048)
    stored(tmp_path, weights)
    path = tmp_path / "weight.bin"
    to_coreml.check_size(path, weights)
    whole = path.read_bytes()
    for wrong in (whole + bytes(len(whole) // 25), whole[: len(whole) // 2]):
        path.write_bytes(wrong)
        with pytest.raises(GemmaError, match="but integers and scales take"):
            to_coreml.check_size(path, weights)


def test_a_record_of_an_older_bundle_has_no_functions(made):
    _, artifact = made
    fields = msgspec.to_builtins(artifact)
    for name in ("functions", "states", "scale_error"):
        del fields[name]
    assert msgspec.convert(fields, type(artifact)).functions == {}
