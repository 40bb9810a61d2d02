"""Every scheme that a recipe can ask for stands for the same floats in XNNPACK's containers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

pytest.importorskip("executorch", reason="the extra executorch is not installed")

from executorch.runtime import Runtime  # noqa: E402

from export.to_executorch.containers import contained  # noqa: E402
from export.to_executorch.linears import contained_linear  # noqa: E402
from export.to_executorch.methods import Method  # noqa: E402
from export.to_executorch.program import write_program  # noqa: E402
from export.to_executorch.xnnpack_graph import Builder, XnnValue  # noqa: E402
from quantize.affine import Quantized, quantize  # noqa: E402
from quantize.pack import pack, unpack  # noqa: E402
from quantize.scheme import Scheme  # noqa: E402
from runtime.errors import GemmaError  # noqa: E402


def floats(container) -> np.ndarray:
    """What a container stands for, in float64."""
    total = np.zeros((1, 1))
    for part in container.parts.values():
        codes = unpack(np.fromfile(part.file, np.uint8).reshape(len(part.scales), -1), part.bits, part.inputs)
        assert (part.scales > 0).all()
        total = total + codes * np.repeat(part.scales.astype(np.float64), part.block or part.inputs, 1)
    if container.offsets is not None:
        total = total + np.repeat(container.offsets.astype(np.float64), total.shape[1] // container.offsets.shape[1], 1)
    return total


def random_quantized(scheme: Scheme, inputs: int, rows: int = 40) -> Quantized:
    """Every code, the lowest and the highest too, under scales of both signs."""
    rng = np.random.default_rng(0)
    codes = rng.integers(scheme.lowest, scheme.highest + 1, (rows, inputs)).astype(np.int8)
    codes[0] = scheme.lowest
    codes[:, 0] = np.where(np.arange(rows) % 2, scheme.lowest, scheme.highest)
    scales = rng.uniform(0.01, 0.1, (rows, scheme.groups(inputs))) * rng.choice([-1, 1], (rows, scheme.groups(inputs)))
    scales = torch.from_numpy(scales).bfloat16().float().numpy()
    return Quantized(pack(codes, scheme.bits), scales, scheme, inputs)


SCHEMES = [Scheme(bits, block) for bits in (2, 4, 8) for block in (0, 32, 64, 128, 256)]


@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
@pytest.mark.parametrize("inputs", [512, 96, 32])
def test_a_container_stands_for_what_was_decided(scheme, inputs, tmp_path):
    stored = random_quantized(scheme, inputs)
    found = floats(contained(stored, "w", tmp_path))
    assert np.array_equal(found.astype(np.float32), stored.dequantize())


@pytest.mark.parametrize("scheme", [Scheme(4, 32), Scheme(8, 32), Scheme(2), Scheme(8)], ids=str)
def test_a_container_multiplies_as_its_values_do(scheme, tmp_path):
    stored = random_quantized(scheme, 128)
    linear, to, given = contained_linear("w", contained(stored, "w", tmp_path)), Builder(), XnnValue((1, 5, 128))
    method = Method("multiply", {"x": given}, to.steps, [linear.multiplied(to, given)])
    write_program([method], {}, tmp_path / "x.pte")
    x = torch.randn(1, 5, 128, generator=torch.Generator().manual_seed(0))
    (found,) = Runtime.get().load_program(tmp_path / "x.pte").load_method("multiply").execute([x])
    expected = x @ torch.from_numpy(stored.dequantize()).T
    assert (found - expected).abs().max() < 0.02 * expected.abs().max()


def test_released_scales_of_a_row_are_kept_in_full(tmp_path):
    stored = random_quantized(Scheme(4), 64)
    stored = Quantized(stored.packed, stored.scales * np.float32(1.0001), stored.scheme, 64)
    assert np.array_equal(floats(contained(stored, "w", tmp_path)).astype(np.float32), stored.dequantize())


def test_a_row_of_scale_zero_is_a_row_of_zeros(tmp_path):
    stored = random_quantized(Scheme(4), 64)
    stored.scales[3] = 0
    assert not floats(contained(stored, "w", tmp_path))[3].any()


def test_two_bits_take_half_a_byte_and_no_offsets(tmp_path):
    container = contained(random_quantized(Scheme(2), 64), "w", tmp_path)
    assert container.kind == "int4/row"
    assert container.nbytes == 40 * 64 // 2 + 40 * 4


@pytest.mark.parametrize("scales", ["absmax", "positive"])
def test_scales_of_one_sign_need_no_offsets(scales, tmp_path):
    stored, _ = quantize(np.random.default_rng(1).normal(size=(8, 64)).astype(np.float32), Scheme(4, 32), scales)
    assert contained(stored, "w", tmp_path).offsets is None


def test_blocks_that_xnnpack_has_not_are_refused(tmp_path):
    with pytest.raises(GemmaError, match="64 inputs in blocks of 16 are not blocks of a multiple of 32"):
        contained(random_quantized(Scheme(4, 16), 64), "w", tmp_path)


def test_scales_of_blocks_that_are_not_bfloat16_are_refused(tmp_path):
    stored = random_quantized(Scheme(4, 32), 64)
    stored = Quantized(stored.packed, stored.scales * np.float32(1.0001), stored.scheme, 64)
    with pytest.raises(GemmaError, match="not bfloat16 values"):
        contained(stored, "w", tmp_path)


@pytest.mark.parametrize("scale", [np.inf, np.nan, 1e-40])
def test_scales_that_are_not_normal_are_refused(tmp_path, scale):
    stored = random_quantized(Scheme(4), 64)
    stored.scales[0] = scale
    with pytest.raises(GemmaError, match="not a normal float"):
        contained(stored, "w", tmp_path)
