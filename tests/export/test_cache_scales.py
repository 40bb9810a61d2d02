"""int8 keys and values: what onnxruntime computes is what the reference says that the integers mean."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from export.checkpoint.checkpoint import Checkpoint
from export.model.config import parse_config
from export.model.operators import rotate, rounded
from export.pipeline import export_bundle, prepare
from export.reference import FloatSource, QuantizedSource, hidden_states, logits
from export.synth.shapes import named_shape
from export.to_onnx.builder import every_node
from export.to_onnx.caches import LEAST
from export.to_onnx.lower import floats_of_caches
from export.weights.cache_scales import LARGEST, MARGIN, Ranges
from export.weights.linears import quantize_weights
from export.weights.plan import storage_plan
from quantize.recipe import RECIPES, Gate
from quantize.scheme import INT8
from runtime.bundle.bundle import Bundle, describe, seal
from runtime.bundle.manifest import Manifest
from runtime.engine.onnx import OnnxEngine
from runtime.engine.piece import Piece
from tests import tiny

LENGTH = 100
RECIPE = dataclasses.replace(RECIPES["float"], cache=INT8, floor=Gate(0.5, 1.0))


@pytest.fixture(scope="module", params=list(tiny.CONFIGS))
def pair(request, checkpoint, tmp_path_factory):
    """Float weights with int8 caches: the artifact, and the reference with the scales of its graph."""
    made = tmp_path_factory.mktemp("cache")
    found = Checkpoint.open(checkpoint(request.param))
    export_bundle(found.folder, made / "x.bundle", ["onnx"], RECIPE)
    decoder = OnnxEngine.open(Bundle.open(made / "x.bundle"), threads=1)
    (made / "weights").mkdir()
    weights, _ = quantize_weights(found, storage_plan(found, RECIPE), made / "weights")
    weights = weights.with_vectors(scales_of(found))
    config = dataclasses.replace(found.config, cache_bits=8)
    return decoder, QuantizedSource(config, weights, decoder.tables), FloatSource(found)


def scales_of(checkpoint: Checkpoint) -> dict[str, np.ndarray]:
    """What the text that the export reads asks for."""
    ranges = Ranges(checkpoint.config, {})
    hidden_states(FloatSource(checkpoint), prepare(checkpoint, {}, RECIPE).ids[None], ranges.see)
    return ranges.scales()


def test_artifact_computes_with_the_rounded_keys_and_values(pair):
    decoder, rounded_source, exact = pair
    ids = np.random.default_rng(0).integers(3, tiny.VOCAB, LENGTH)
    decoder.reset()
    found = [decoder.forward(Piece(ids[:30], kept=30)).logits.copy()]
    found += [decoder.forward(Piece(ids[at : at + 1])).logits.copy() for at in range(30, 60)]
    found = np.concatenate([*found, decoder.forward(Piece(ids[60:], kept=LENGTH - 60)).logits])
    expected = logits(rounded_source, hidden_states(rounded_source, ids[None])[0])
    model = logits(exact, hidden_states(exact, ids[None])[0])
    away, lost = np.abs(found - expected).max(), np.abs(expected - model).max()
    assert lost > 0
    assert away < 0.1 * lost


def test_a_call_that_reads_floats_answers_as_one_that_reads_integers(pair, tmp_path):
    decoder, _, _ = pair
    sealed = shutil.copytree(decoder.tables["tokens"].path.parents[1], tmp_path / "x.bundle")
    never_floats(sealed)
    integers = OnnxEngine.open(Bundle.open(sealed), threads=1)
    ids = np.random.default_rng(1).integers(3, tiny.VOCAB, LENGTH)
    decoder.reset()
    different = []
    for piece in np.split(ids, [30, 50, 53, 54]):
        answers = [engine.forward(Piece(piece, kept=len(piece))).logits for engine in (decoder, integers)]
        different.append(np.abs(answers[0] - answers[1]).max() / np.abs(answers[1]).max())
    assert 0 < max(different) < 1e-2
    caches, others = decoder.caches(), integers.caches()
    assert caches is not None
    assert others is not None
    for cache, other in zip(caches, others, strict=True):
        moved = np.abs(cache.key[:, :, : cache.length].astype(int) - other.key[:, :, : other.length])
        assert moved.max() <= 2
        assert (moved > 0).mean() < 0.01


def never_floats(folder: Path) -> None:
    path = folder / "onnx" / "decoder.onnx"
    model = onnx.load(path, load_external_data=False)
    values = {tensor.name: tensor for tensor in model.graph.initializer}
    asks = [node for node in model.graph.node if node.op_type == "GreaterOrEqual"]
    assert {numpy_helper.to_array(values[node.input[1]]).item() for node in asks} == {LEAST}
    for node in asks:
        values[node.input[1]].CopyFrom(numpy_helper.from_array(np.array(1 << 40, np.int64), node.input[1]))
    path.write_bytes(model.SerializeToString())
    manifest = msgspec.json.decode((folder / "bundle.json").read_bytes(), type=Manifest)
    for name in ("bundle.json", "bundle.sha256"):
        (folder / name).unlink()
    seal(folder, msgspec.structs.replace(manifest, files=describe(folder)))


def test_floats_of_full_layers_are_bounded():
    config = parse_config(named_shape("e2b").config(), "config.json")
    assert floats_of_caches(config) == (18 * 512, 8192)


def test_scales_of_channels_go_into_gains_where_values_have_a_norm(pair):
    decoder, source, _ = pair
    graph = onnx.load(
        decoder.tables["tokens"].path.parents[1] / "onnx" / "decoder.onnx", load_external_data=False
    ).graph
    kinds = {
        a.s for node in every_node(graph.node) for a in node.attribute if a.name in ("k_quant_type", "v_quant_type")
    }
    assert kinds == {b"PER_TENSOR" if source.config.value_norm else b"PER_CHANNEL"}


def test_caches_hold_integers(pair):
    decoder, _, _ = pair
    assert {cache.key.dtype for cache in decoder.caches()} == {np.dtype(np.int8)}
    decoder.reset()
    decoder.prefill(np.arange(5, 25))
    assert all(np.abs(cache.value[:, :, : cache.length].astype(int)).max() > 20 for cache in decoder.caches())


def test_a_scale_covers_its_pair_at_every_position(checkpoint):
    """A key turns with its position: what its pair reaches at one, a channel reaches at another."""
    key = torch.randn(1, 2, 9, 16)
    ranges = Ranges(Checkpoint.open(checkpoint("gemma3")).config, {})
    ranges.see(4, key, torch.zeros(1, 2, 9, 16))
    scales = ranges.scales()
    limit = torch.from_numpy(scales["layers.4.self_attn.k_scale"]) * LARGEST
    cos = torch.linspace(-1, 1, 50)[:, None].expand(50, 8)
    for at in range(50):
        turned = rotate(key, torch.full((1, 9), at), cos, (1 - cos.square()).sqrt())
        assert (turned.abs() * MARGIN <= limit * 1.0001).all()
    assert (scales["layers.4.self_attn.v_scale"] > 0).all()


def test_rounded_is_the_nearest_of_256_values():
    x, scale = torch.linspace(-3, 3, 999).view(1, 1, -1, 1), torch.full((1, 1, 1, 1), 0.02)
    found = rounded(x, scale)
    inside = x.abs() <= 0.02 * LARGEST
    assert ((found - x).abs()[inside] <= 0.0100001).all()
    assert found.min() == pytest.approx(-128 * 0.02)
    assert found.max() == pytest.approx(127 * 0.02)
    assert rounded(x, None) is x
