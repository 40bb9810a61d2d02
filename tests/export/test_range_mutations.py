"""An artifact whose static ranges are wrong in one way: its answers tell it, and what is read back from its files."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from export import to_onnx
from export.model.capture import capture
from export.model.config import ActivationScales
from export.pipeline import export_bundle
from export.synth.shapes import named_shape
from export.synth.write import synthesize
from export.targets import find_target
from export.to_onnx.read import OnnxNeighbours
from quantize.recipe import RECIPES, RELEASED
from runtime.bundle.bundle import Bundle
from runtime.bundle.parity import Reports
from runtime.errors import GemmaError
from tests import ranged

SHAPES = ("e2b-qat-mobile-tiny", "e4b-qat-mobile-tiny")


@pytest.fixture(scope="module")
def powers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release whose scales are powers of two: many values lie half-way between two steps."""
    folder = tmp_path_factory.mktemp("powers") / "release"
    synthesize(named_shape(SHAPES[0]), folder, 0, replace=False)
    ranged.make(folder, powers=True)
    return folder


def edited(edit):
    """A lowering whose graph is changed before it is written."""

    def lower(graph, weights, folder):
        artifact = to_onnx.TARGET.lower(graph, weights, folder)
        path = folder / "onnx" / "decoder.onnx"
        model = onnx.load(path, load_external_data=False)
        edit(model.graph)
        path.write_bytes(model.SerializeToString())
        return artifact

    return lower


def rescaled(change, target="onnx"):
    """A lowering of other ranges than the release's."""

    def lower(graph, weights, folder):
        scales = change(dict(graph.config.activation_scales))
        other = capture(dataclasses.replace(graph.config, activation_scales=scales))
        return find_target(target).lower(other, weights, folder)

    return lower


def pairs(graph: onnx.GraphProto, *, before: bool) -> list[tuple[onnx.NodeProto, onnx.NodeProto]]:
    """Those before linears, or those behind."""
    neighbours, node_pairs = OnnxNeighbours(graph), []
    matmuls = {node.input[0] for node in graph.node if node.op_type == "MatMulNBits"}
    for node in graph.node:
        if node.op_type == "QuantizeLinear" and not node.output[0].startswith("present."):
            back = neighbours.readers[node.output[0]][0]
            if back.op_type == "DequantizeLinear" and (back.output[0] in matmuls) == before:
                node_pairs.append((node, back))
    return node_pairs


def unclamped(graph: onnx.GraphProto, *, before: bool) -> None:
    """Steps of 16 bits, which nothing here saturates."""
    for pair in pairs(graph, before=before):
        zero = numpy_helper.to_array(next(t for t in graph.initializer if t.name == pair[0].input[2]))
        name = f"{pair[0].output[0]}.wide"
        graph.initializer.append(numpy_helper.from_array(zero.astype(np.int16), name))
        for node in pair:
            node.input[2] = name


def half_up(graph: onnx.GraphProto) -> None:
    """floor(x / s + 1/2): a value half-way goes up, not to the even step."""
    constants = {"half": 0.5, "least": -128.0, "most": 127.0}
    graph.initializer.extend(
        numpy_helper.from_array(np.array(value, np.float32), name) for name, value in constants.items()
    )
    nodes = []
    changed = {back.output[0]: quantize for side in (True, False) for quantize, back in pairs(graph, before=side)}
    skipped = {quantize.output[0] for quantize in changed.values()}
    for node in graph.node:
        if node.output[0] in skipped:
            continue
        quantize = changed.get(node.output[0]) if node.op_type == "DequantizeLinear" else None
        if quantize is None:
            nodes.append(node)
            continue
        out, scale = node.output[0], quantize.input[1]
        tensor = next(t for t in graph.initializer if t.name == scale)
        if list(tensor.dims):
            scale = f"{out}.scale"
            graph.initializer.append(numpy_helper.from_array(numpy_helper.to_array(tensor)[:, None], scale))
        nodes += [
            helper.make_node("Div", [quantize.input[0], scale], [f"{out}.1"]),
            helper.make_node("Add", [f"{out}.1", "half"], [f"{out}.2"]),
            helper.make_node("Floor", [f"{out}.2"], [f"{out}.3"]),
            helper.make_node("Clip", [f"{out}.3", "least", "most"], [f"{out}.4"]),
            helper.make_node("Mul", [f"{out}.4", scale], [out]),
        ]
    del graph.node[:]
    graph.node.extend(nodes)


def head_rounded(graph: onnx.GraphProto) -> None:
    """With the scale of the last linear before it."""
    head = next(
        node for node in graph.node if node.op_type == "MatMulNBits" and node.input[1].startswith("head.weight")
    )
    scale, zero = pairs(graph, before=True)[-1][0].input[1:]
    index = list(graph.node).index(head)
    graph.node.insert(index, helper.make_node("DequantizeLinear", ["head.steps", scale, zero], ["head.rounded"]))
    graph.node.insert(index, helper.make_node("QuantizeLinear", [head.input[0], scale, zero], ["head.steps"]))
    head.input[0] = "head.rounded"


def swapped(scales):
    return {label: ActivationScales(scale.output, scale.input) for label, scale in scales.items()}


def keys_scale_on_values(scales):
    values = {label: scale for label, scale in scales.items() if label.endswith(".v_proj")}
    keys = {label: scales[label.replace("v_proj", "k_proj")] for label in values}
    return scales | {label: dataclasses.replace(scale, output=keys[label].output) for label, scale in values.items()}


def queries_scale_of_outputs(scales):
    queries = {label: scale for label, scale in scales.items() if label.endswith(".q_proj")}
    outputs = {label: scales[label.replace("q_proj", "o_proj")] for label in queries}
    return scales | {label: dataclasses.replace(scale, input=outputs[label].input) for label, scale in queries.items()}


MUTATIONS = {
    "no input clamp": edited(lambda graph: unclamped(graph, before=True)),
    "no output clamp": edited(lambda graph: unclamped(graph, before=False)),
    "input and output swapped": rescaled(swapped),
    "half up": edited(half_up),
    "k's scale on v": rescaled(keys_scale_on_values),
    "q's input scale of o": rescaled(queries_scale_of_outputs),
    "head rounded": edited(head_rounded),
}


def export_badly(folder: Path, destination: Path, lower, target="onnx", **unread) -> None:
    badly = dataclasses.replace(find_target(target), lower=lower, **unread)
    export_bundle(folder, destination, [badly], RECIPES[RELEASED])


def ranges_of_the_release(path, config):
    """What an artifact without a fault would be read back as."""
    return iter(config.activation_scales.items())


@pytest.mark.slow
@pytest.mark.parametrize("mutation", MUTATIONS)
def test_the_answers_alone_tell_a_mutation(mutation, ranged_release, powers, tmp_path):
    """Scales that are drawn leave nothing half-way; those that are powers of two are equal for k and v."""
    folder = powers if mutation == "half up" else ranged_release(SHAPES[0])
    with pytest.raises(GemmaError, match="from its own integers|would not choose"):
        export_badly(folder, tmp_path / "x.bundle", MUTATIONS[mutation], stored_ranges=ranges_of_the_release)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("mutation", [name for name in MUTATIONS if name != "half up"])
def test_what_is_read_back_tells_a_mutation(mutation, ranged_release, tmp_path):
    with pytest.raises(GemmaError, match="in the artifact, and .* in the checkpoint"):
        export_badly(ranged_release(SHAPES[1]), tmp_path / "x.bundle", MUTATIONS[mutation])


def without_outputs(scales):
    return {label: dataclasses.replace(scale, output=0.0) for label, scale in scales.items()}


@pytest.mark.slow
@pytest.mark.parametrize("change", [swapped, keys_scale_on_values, queries_scale_of_outputs, without_outputs])
@pytest.mark.parametrize("target", ["executorch", "coreml"])
def test_what_is_read_back_tells_a_mutation_of_another_artifact(target, change, ranged_release, tmp_path):
    with pytest.raises(GemmaError, match="in the artifact, and .* in the checkpoint"):
        export_badly(ranged_release(SHAPES[1]), tmp_path / "x.bundle", rescaled(change, target), target)


@pytest.mark.slow
def test_without_a_mutation_the_same_release_passes(powers, tmp_path):
    export_badly(powers, tmp_path / "x.bundle", edited(lambda graph: None))
    exact = Bundle.open(tmp_path / "x.bundle").json("parity.json", Reports).reports[0]
    assert exact.against["quantized"].mean_relative <= 1e-3
