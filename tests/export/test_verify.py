"""Every check must be able to fail: a damaged artifact does not pass, an unknown operator is not lowered."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
import torch

from export import to_onnx
from export.checkpoint.checkpoint import Checkpoint
from export.model.capture import capture
from export.pipeline import export_bundle
from export.prove.check_weights import check_weights
from export.prove.compare import Reader, ReferenceLogits, kl
from export.prove.runs import compared_spans, merged, prompt_lengths
from export.reference import FloatSource, QuantizedSource
from export.to_onnx.builder import every_node
from export.to_onnx.lower import census, lower
from export.to_onnx.read import mapped, stored_weights
from export.to_onnx.settings import Settings
from export.weights.linears import quantize_weights
from export.weights.plan import storage_plan
from quantize.recipe import RECIPES
from runtime.bundle.bundle import Bundle, describe, seal
from runtime.bundle.parity import Reports
from runtime.cli.main import main
from runtime.engine.onnx import OnnxEngine
from runtime.errors import GemmaError

FILE = "onnx/decoder.onnx"
PARTED = Settings(largest=4096)  # 384 rows of 32 bytes for the head, 96 rows for a feed-forward
CACHE_ATTRIBUTES = {"k_quant_type", "v_quant_type", "kv_cache_bit_width"}  # 1.29 has them


@pytest.fixture(scope="module")
def lowered(checkpoint, tmp_path_factory):
    """An int4 artifact and the weights it was made of."""
    folder = tmp_path_factory.mktemp("lowered")
    (folder / "weights").mkdir()
    source = Checkpoint.open(checkpoint("e2b"))
    weights, _ = quantize_weights(source, storage_plan(source, RECIPES["int4"]), folder / "weights")
    lower(capture(source.config), Settings(), weights, folder)
    return folder, weights


def double_a_scale(folder: Path, parameter: str) -> None:
    path = folder / "onnx" / "decoder.onnx"
    model = onnx.load(path, load_external_data=False)
    tensor = next(t for t in model.graph.initializer if parameter in t.name and t.name.endswith(".scales"))
    start = int({entry.key: entry.value for entry in tensor.external_data}["offset"]) // 4
    scales = np.memmap(path.with_name("decoder.data"), np.float32, "r+")
    scales[start + int(np.prod(tensor.dims)) - 1] *= 2
    scales.flush()


def test_integers_and_scales_read_back_bit_for_bit(lowered):
    folder, weights = lowered
    check_weights(folder, weights, to_onnx.TARGET, FILE)
    for parameters, pieces in stored_weights(folder / "onnx" / "decoder.onnx"):
        source = np.concatenate([piece for _, piece in pieces])
        assert np.array_equal(source, np.concatenate([weights.floats(parameter) for parameter in parameters]))


@pytest.mark.parametrize("parameter", ["head", "q_proj", "down_proj", "per_layer_own"])
def test_one_doubled_scale_is_found(lowered, tmp_path, parameter):
    folder, weights = lowered
    shutil.copytree(folder / "onnx", tmp_path / "onnx")
    double_a_scale(tmp_path, parameter)
    with pytest.raises(GemmaError, match="differs from what was quantized"):
        check_weights(tmp_path, weights, to_onnx.TARGET, FILE)


@pytest.fixture
def parted(checkpoint, tmp_path):
    """The same with tables in parts."""
    (tmp_path / "weights").mkdir()
    source = Checkpoint.open(checkpoint("e2b"))
    weights, _ = quantize_weights(source, storage_plan(source, RECIPES["int4-datafree"]), tmp_path / "weights")
    lower(capture(source.config), PARTED, weights, tmp_path)
    return tmp_path, weights


def test_a_table_in_parts_reads_back_bit_for_bit(parted):
    folder, weights = parted
    check_weights(folder, weights, to_onnx.TARGET, FILE)
    parts = [pieces for names, pieces in stored_weights(folder / "onnx" / "decoder.onnx") if names == ["head.weight"]]
    read = [piece for pieces in parts for piece in pieces]
    assert [start for start, _ in read] == [0, 128, 256]
    assert np.array_equal(np.concatenate([piece for _, piece in read]), weights.floats("head.weight"))


def test_a_doubled_scale_in_a_later_part_is_found(parted):
    folder, weights = parted
    double_a_scale(folder, "head.weight@256")
    with pytest.raises(GemmaError, match=r"head\.weight in the artifact differs from what was quantized"):
        check_weights(folder, weights, to_onnx.TARGET, FILE)


def test_a_missing_part_is_found(parted):
    folder, weights = parted
    path = folder / "onnx" / "decoder.onnx"
    model = onnx.load(path, load_external_data=False)
    model.graph.node.remove(next(node for node in model.graph.node if "head.weight@128.packed" in node.input))
    path.write_bytes(model.SerializeToString())
    with pytest.raises(GemmaError, match=r"the artifact lacks the integers of \['head\.weight'\]"):
        check_weights(folder, weights, to_onnx.TARGET, FILE)


@pytest.mark.slow
def test_a_bundle_with_tables_in_parts_passes(checkpoint, tmp_path):
    export_bundle(checkpoint("e2b"), tmp_path / "x.bundle", [to_onnx.target(PARTED)], RECIPES["int4-datafree"])
    operators = Bundle.open(tmp_path / "x.bundle").manifest.artifacts["onnx"].operators
    assert operators["Concat"] >= 1


def test_a_doubled_scale_during_export_seals_nothing(checkpoint, tmp_path):
    def lower_badly(graph, weights, folder):
        artifact = to_onnx.TARGET.lower(graph, weights, folder)
        double_a_scale(folder, "up_proj")
        return artifact

    target = dataclasses.replace(to_onnx.TARGET, lower=lower_badly)
    with pytest.raises(GemmaError, match="up_proj"):
        export_bundle(checkpoint("e2b"), tmp_path / "x.bundle", [target], RECIPES["int4-datafree"])
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_graph_during_export_seals_nothing(checkpoint, tmp_path):
    """The weights are right and the attention scale is not: only the logits can tell."""

    def lower_badly(graph, weights, folder):
        artifact = to_onnx.TARGET.lower(graph, weights, folder)
        path = folder / "onnx" / "decoder.onnx"
        model = onnx.load(path, load_external_data=False)
        for node in model.graph.node:
            for attribute in node.attribute:
                if node.op_type == "GroupQueryAttention" and attribute.name == "scale":
                    attribute.f = 0.25
        path.write_bytes(model.SerializeToString())
        return artifact

    target = dataclasses.replace(to_onnx.TARGET, lower=lower_badly)
    with pytest.raises(GemmaError, match="the gate of recipe float"):
        export_bundle(checkpoint("e2b"), tmp_path / "x.bundle", [target], RECIPES["float"])
    assert list(tmp_path.iterdir()) == []


def test_verify_command_fails_for_a_damaged_artifact(bundle, tmp_path, capsys):
    folder = shutil.copytree(bundle("e2b", "int4-datafree"), tmp_path / "x.bundle")
    double_a_scale(folder, "gate_proj")
    assert main(["verify", str(folder)]) == 1
    assert "decoder.data" in capsys.readouterr().err


def test_golden_answers_fail_for_other_weights_under_a_sound_seal(bundle, tmp_path, capsys):
    """Hashes that fit prove nothing about the numbers: the golden answers do."""
    folder = shutil.copytree(bundle("e2b"), tmp_path / "x.bundle")
    path = folder / "onnx" / "decoder.onnx"
    tensor = next(t for t in onnx.load(path, load_external_data=False).graph.initializer if "down_proj" in t.name)
    values = np.memmap(folder / "onnx" / "decoder.data", np.float32, "r+")
    start = int({e.key: e.value for e in tensor.external_data}["offset"]) // 4
    values[start : start + int(np.prod(tensor.dims))] *= -1
    values.flush()
    manifest = Bundle.open(bundle("e2b")).manifest
    (folder / "bundle.json").unlink()
    (folder / "bundle.sha256").unlink()
    seal(folder, msgspec.structs.replace(manifest, files=describe(folder)))
    assert main(["verify", str(folder)]) == 1
    assert "golden answers differ" in capsys.readouterr().err


def test_an_operator_that_lowering_does_not_know_is_named(checkpoint, tmp_path):
    source = Checkpoint.open(checkpoint("gemma3"))
    graph = capture(source.config)
    node = next(n for n in graph.program.graph.nodes if n.target is torch.ops.aten.add.Tensor)
    node.target = torch.ops.aten.atan2.default
    (tmp_path / "weights").mkdir()
    weights, _ = quantize_weights(source, storage_plan(source, RECIPES["int8"]), tmp_path / "weights")
    with pytest.raises(GemmaError, match="aten.atan2.default"):
        lower(graph, Settings(), weights, tmp_path)


def test_a_matmul_without_a_fast_kernel_is_refused():
    node = onnx.helper.make_node("MatMulNBits", ["x", "b", "s"], ["y"], name="slow", bits=2, block_size=16)
    graph = onnx.helper.make_graph([node], "g", [], [])
    with pytest.raises(GemmaError, match="int2/16 has no fast kernel"):
        census(onnx.helper.make_model(graph))


def test_graph_can_be_read_by_the_oldest_onnxruntime_of_the_range(bundle):
    model = onnx.load(bundle("e2b", "int4-datafree") / "onnx" / "decoder.onnx", load_external_data=False)
    assert model.ir_version <= 10
    assert {entry.domain: entry.version for entry in model.opset_import} == {"": 21, "com.microsoft": 1}
    nodes = every_node(model.graph.node)
    attributes = {a.name for node in nodes if node.op_type == "GroupQueryAttention" for a in node.attribute}
    assert attributes == {"num_heads", "kv_num_heads", "scale", "do_rotary", "local_window_size"} | CACHE_ATTRIBUTES


def test_external_data_is_one_file_with_aligned_tensors(bundle):
    folder = bundle("e2b", "int4-datafree") / "onnx"
    model = onnx.load(folder / "decoder.onnx", load_external_data=False)
    outside = [t for t in model.graph.initializer if t.data_location == onnx.TensorProto.EXTERNAL]
    for tensor in outside:
        where = {entry.key: entry.value for entry in tensor.external_data}
        assert where["location"] == "decoder.data"
        assert int(where["offset"]) % (4096 if int(where["length"]) >= 4096 else 64) == 0
    assert mapped(folder / "decoder.onnx", outside[0], np.uint8).size > 0
    assert sorted(path.name for path in folder.iterdir()) == ["decoder.data", "decoder.onnx"]


@pytest.mark.parametrize(
    ("name", "recipe"),
    [
        ("e2b", "int4-mixed"),
        ("e4b", "int4"),
        ("e4b", "int8"),
        ("31b", "int4-b32"),
        ("31b", "int8"),
        ("gemma3", "int4-head2"),
        ("gemma3", "int4-quick"),
    ],
)
@pytest.mark.slow
def test_families_and_recipes_pass_their_gates(bundle, name, recipe):
    exact, shipped = Bundle.open(bundle(name, recipe)).json("parity.json", Reports).reports
    assert (exact.artifact, shipped.artifact) == ("onnx exact", "onnx")
    assert shipped.against["quantized"].positions > 100
    assert shipped.against["quantized"].mean_divergence < 0.03
    assert exact.against["quantized"].worst_relative <= (1e-3 if RECIPES[recipe].cache.is_float else 1e-2)
    assert exact.greedy is not None
    assert exact.greedy.steps == 320


def test_divergence_is_zero_for_equals_and_known_for_a_pair():
    logits = np.log(np.array([[0.5, 0.25, 0.25]], np.float32))
    other = np.log(np.array([[0.25, 0.5, 0.25]], np.float32))
    assert kl(logits, logits)[0] == 0
    assert kl(logits, other)[0] == pytest.approx(0.5 * np.log(2) - 0.25 * np.log(2), rel=1e-5)


def test_prompt_lengths_stand_around_the_window():
    assert prompt_lengths("every", 512, 10_000) == [1, 5, 511, 512, 513, 1024, 1031]
    assert prompt_lengths("every", 512, 600) == prompt_lengths("short", 512, 10_000) == [1, 5, 511, 512, 513]
    assert prompt_lengths("few", 512, 10_000) == [5, 513]


def test_every_compared_position_is_in_one_piece_of_a_reading(tmp_path):
    every, few = (prompt_lengths(prompts, 512, 10_000) for prompts in ("every", "few"))
    spans = merged(compared_spans(every, 32, 530) + compared_spans(few, 32, 530))
    assert spans == [(0, 13), (479, 521)]  # the longer prompts begin after the 530 that were read
    for first, stop in spans:
        np.save(tmp_path / f"{first}.npy", np.arange(first, stop, dtype=np.float32)[:, None])
    reading = ReferenceLogits(530, {first: tmp_path / f"{first}.npy" for first, _ in spans})
    assert reading.between(5, 8).ravel().tolist() == [5, 6, 7]
    assert reading.between(481, 10_000).ravel().tolist() == list(range(481, 521))


def test_references_take_their_values_from_different_places(checkpoint, lowered):
    _, weights = lowered
    source = Checkpoint.open(checkpoint("e2b"))
    name = "layers.0.mlp.up_proj.weight"
    exact, rounded = FloatSource(source).floats(name), QuantizedSource(source.config, weights, {}).floats(name)
    assert not np.array_equal(exact, rounded)
    assert np.abs(exact - rounded).max() < np.abs(exact).max() / 8


@pytest.mark.parametrize("prompt", [17, 32, 41])
def test_a_prompt_that_begins_where_another_ended_gives_the_same_logits(bundle, prompt):
    ids = np.random.default_rng(0).integers(3, 384, 80)
    shared, alone = (
        Reader.at_the_beginning(OnnxEngine.open(Bundle.open(bundle("e2b", "float"))), ids, rows=32, chunk=16)
        for _ in range(2)
    )
    for earlier in (16, 15, 32):
        shared.logits(earlier)
    assert shared.states.keys() == {0, 16, 32}
    logits, expected = shared.logits(prompt), alone.logits(prompt)
    assert np.abs(logits - expected).max() <= 1e-5 * np.abs(expected).max()
