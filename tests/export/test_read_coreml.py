"""Every integer and scale of the saved package is what was decided, and damage is found."""

from __future__ import annotations

import dataclasses
import shutil
from typing import Any

import numpy as np
import pytest

pytest.importorskip("coremltools", reason="the extra coreml is not installed")

from coremltools.proto import Model_pb2

from export import to_coreml
from export.checkpoint.checkpoint import Checkpoint
from export.model.capture import capture
from export.prove.check_weights import check_weights
from export.to_coreml.read import scales_as_stored, stored_integers
from export.weights.linears import quantize_weights
from export.weights.plan import storage_plan
from quantize.affine import Quantized
from quantize.recipe import RECIPES, rules
from quantize.scheme import Scheme
from runtime.errors import GemmaError

MIXED = dataclasses.replace(
    RECIPES["int4-datafree"],
    rules=rules(("rows.*", Scheme(8)), ("*.k_proj", Scheme(2)), ("head", Scheme(2, 32)), ("*.o_proj", Scheme(8)),
                ("*.up_proj", Scheme(8, 32)), ("*.q_proj", Scheme(4)), ("*", Scheme(4, 128))),
)  # fmt: skip


@pytest.fixture(scope="module")
def lowered(checkpoint, tmp_path_factory):
    """An artifact of all widths, its record, and the weights it was made of."""
    folder = tmp_path_factory.mktemp("lowered")
    (folder / "weights").mkdir()
    source = Checkpoint.open(checkpoint("e2b"))
    weights, _ = quantize_weights(source, storage_plan(source, MIXED), folder / "weights")
    return folder, to_coreml.TARGET.lower(capture(source.config), weights, folder), weights


def test_integers_and_scales_read_back_bit_for_bit(lowered):
    folder, artifact, weights = lowered
    stored = stored_integers(folder / artifact.file)
    decided = {name: matrix for name, matrix in weights.items() if isinstance(matrix, Quantized)}
    assert stored.keys() == decided.keys()
    assert {matrix.dtype for matrix in stored.values()} == {"uint2", "int4", "int8"}
    for name, matrix in decided.items():
        assert np.array_equal(stored[name].codes(0, matrix.rows), matrix.codes()), name
        scales = stored[name].factors
        if matrix.scheme.bits == 2:
            assert np.array_equal(scales, matrix.scales[..., None] * np.arange(-2, 2)), name
        else:  # rows of 192 in blocks of 128 have their scales in steps of 64
            wide = np.repeat(matrix.scales, matrix.scheme.width(matrix.inputs), 1)[:, : matrix.inputs]
            assert np.array_equal(np.repeat(scales, matrix.inputs // scales.shape[1], 1), wide), name
    check_weights(folder, weights, to_coreml.TARGET, artifact.file)


def test_scales_that_bfloat16_holds_stay_what_they_are():
    scales = (np.arange(128, 256)[:, None] * 2.0 ** np.arange(-21, 5)).astype(np.float32)
    assert np.array_equal(scales_as_stored(scales), scales)
    assert not np.array_equal(scales_as_stored(scales * np.float32(2.0**-6)), scales * np.float32(2.0**-6))


@pytest.fixture
def copied(lowered, tmp_path):
    folder, artifact, weights = lowered
    shutil.copytree(folder / "coreml", tmp_path / "coreml")
    return tmp_path, artifact, weights


@pytest.mark.parametrize(
    "parameter", ["head.weight", "layers.0.self_attn.q_proj.weight", "per_layer_own.projection.weight"]
)
@pytest.mark.parametrize("part", ["integers", "scales"])
def test_one_damaged_byte_is_found(copied, parameter, part):
    folder, artifact, weights = copied
    path = folder / artifact.data
    one = stored_integers(folder / artifact.file)[parameter]
    data = bytearray(path.read_bytes())
    following = one.record + 64 + -(-one.raw.nbytes // 64) * 64 + 64  # the scales' bytes
    data[one.record + 64 + one.raw.nbytes - 1 if part == "integers" else following + 1] ^= 0x11
    path.write_bytes(data)
    with pytest.raises(GemmaError, match=f"{parameter} (in the artifact differs from what was quantized|has a table)"):
        check_weights(folder, weights, to_coreml.TARGET, artifact.file)


def spoiled(folder, artifact, change) -> None:
    path = folder / artifact.file
    model = Model_pb2.Model.FromString(path.read_bytes())
    change({name: one.block_specializations[one.opset] for name, one in model.mlProgram.functions.items()})
    path.write_bytes(model.SerializeToString())


def constexprs(block) -> list[Any]:
    return [one for one in block.operations if one.type == "constexpr_blockwise_shift_scale"]


def test_functions_with_other_integers_are_found(copied):
    folder, artifact, weights = copied

    def change(blocks):
        first, second, *_ = constexprs(blocks["decode"])
        first.inputs["data"].arguments[0].value.blobFileValue.offset += 64

    spoiled(folder, artifact, change)
    with pytest.raises(GemmaError, match="differs between functions"):
        check_weights(folder, weights, to_coreml.TARGET, artifact.file)


def test_a_missing_weight_is_found(copied):
    folder, artifact, weights = copied
    spoiled(folder, artifact, lambda blocks: [b.operations.remove(constexprs(b)[0]) for b in blocks.values()])
    with pytest.raises(GemmaError, match="the artifact lacks the integers of"):
        check_weights(folder, weights, to_coreml.TARGET, artifact.file)


def test_a_reference_outside_the_file_is_found(copied):
    folder, artifact, weights = copied

    def change(blocks):
        for block in blocks.values():
            constexprs(block)[0].inputs["data"].arguments[0].value.blobFileValue.offset = 1 << 40

    spoiled(folder, artifact, change)
    with pytest.raises(GemmaError, match="has no record"):
        check_weights(folder, weights, to_coreml.TARGET, artifact.file)


def test_a_model_that_is_cut_is_found(copied):
    folder, artifact, weights = copied
    path = folder / artifact.file
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(GemmaError, match="is not a Core ML model"):
        check_weights(folder, weights, to_coreml.TARGET, artifact.file)
