"""Artifacts against the float model: by hand, against its own checkpoint, and in order of their bits."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from export.checkpoint.checkpoint import Checkpoint
from export.prove.divergence import IN_PIECES, Meter, PieceSizes, Reading, by_position, read, total_variation
from export.reference import FloatSource, hidden_states
from runtime.bundle.bundle import Bundle
from runtime.engine.onnx import OnnxEngine
from runtime.errors import GemmaError
from runtime.measure.evaluation import Divergence
from runtime.measure.perplexity import Windows, cut, score
from tests import tiny

P, Q = ([0.5, 0.3, 0.2], [0.25, 0.25, 0.5])


@pytest.fixture(scope="module")
def windows():
    ids = np.random.default_rng(6).integers(107, 363, 3 * 48)
    return cut(ids.tolist(), 2, 48, 40)


@pytest.fixture(scope="module")
def measured(bundle, checkpoint, windows):
    """Perplexity and divergence of a recipe's bundle from the tiny checkpoint."""

    def make(recipe: str, pieces: PieceSizes = IN_PIECES) -> tuple[float, Divergence]:
        return measure(Bundle.open(bundle("e2b", recipe)), checkpoint("e2b"), windows, pieces)

    return make


def measure(
    bundle: Bundle, checkpoint: Path, windows: Windows, pieces: PieceSizes = IN_PIECES
) -> tuple[float, Divergence]:
    meter = read(str(checkpoint), [bundle], windows, 0, pieces).meter()
    return score(OnnxEngine.open(bundle, threads=1), windows, meter.see), meter.divergence()


def test_the_float_bundle_is_its_own_checkpoint(measured):
    perplexity, found = measured("float")
    assert found.mean_kl < 1e-5
    assert found.agreement == 1
    assert found.tv64 < 1e-3
    assert found.float_perplexity == pytest.approx(perplexity, rel=1e-4)


@pytest.mark.slow
def test_fewer_bits_are_further_away(measured):
    (_, exact), (_, eight), (_, four) = (measured(recipe) for recipe in ("float", "int8", "int4-datafree"))
    assert exact.mean_kl < eight.mean_kl < four.mean_kl
    assert exact.tv64 < eight.tv64 < four.tv64 <= 1
    assert four.agreement < 1
    for found in (exact, eight, four):
        assert 0 <= found.mean_kl <= found.worst_kl
        assert found.float_perplexity == exact.float_perplexity


def test_kl_by_position_covers_the_scored_half(measured, windows):
    _, found = measured("int4-datafree")
    positions, values = zip(*found.kl_by_position, strict=True)
    assert (len(positions), positions[0]) == (16, windows.first)
    assert list(positions) == sorted(set(positions))
    assert min(values) <= found.mean_kl <= max(values)


def test_figures_do_not_depend_on_the_pieces(measured):
    whole = measured("int4-datafree")[1]
    pieces = measured("int4-datafree", PieceSizes(tokens=48, head_rows=7, rows=3))[1]
    assert pieces.kl_by_position[0][1] == pytest.approx(whole.kl_by_position[0][1], rel=1e-3)
    assert (pieces.mean_kl, pieces.tv64, pieces.agreement) == pytest.approx(
        (whole.mean_kl, whole.tv64, whole.agreement), rel=1e-3
    )


@pytest.mark.parametrize("name", tiny.CONFIGS)
def test_windows_read_together_are_as_read_one_by_one(checkpoint, windows, name):
    source = FloatSource(Checkpoint.open(checkpoint(name)))
    together = hidden_states(source, windows.ids)
    assert together == pytest.approx(np.stack([hidden_states(source, ids[None])[0] for ids in windows.ids]), abs=1e-4)


def by_hand() -> Meter:
    """A meter of one window of six tokens of which two are scored, over three words."""
    windows = Windows(np.array([[0, 0, 0, 0, 1, 2]]))
    hidden = np.zeros((1, windows.scored, 1), np.float32)
    return Meter(Reading("by hand", None, windows, hidden))  # type: ignore[arg-type]


def test_all_figures_of_a_pair_known_by_hand():
    meter = by_hand()
    expected, found = np.log(np.array([P, P], np.float32)), np.log(np.array([Q, P], np.float32))
    meter.compare(0, 0, expected, found)
    result = meter.divergence()
    kl = 0.5 * math.log(2) + 0.3 * math.log(1.2) + 0.2 * math.log(0.4)
    assert result.worst_kl == pytest.approx(kl, rel=1e-5)
    assert result.mean_kl == pytest.approx(kl / 2, rel=1e-5)
    assert result.agreement == 0.5
    assert result.tv64 == pytest.approx(0.3 / 2, rel=1e-5)
    assert result.float_perplexity == pytest.approx(math.sqrt(1 / (0.3 * 0.2)), rel=1e-5)
    assert [position for position, _ in result.kl_by_position] == [3, 4]
    assert [value for _, value in result.kl_by_position] == pytest.approx([kl, 0], abs=1e-6)


def test_total_variation_looks_at_the_most_likely_and_normalizes_on_them():
    expected, found = np.log(np.array([P], np.float32)), np.log(np.array([Q], np.float32))
    assert total_variation(expected, found, 2) == pytest.approx([0.125], rel=1e-5)  # 5/8 and 3/8 against halves
    assert total_variation(expected, found) == pytest.approx([0.3], rel=1e-5)


def test_total_variation_is_between_0_and_1():
    random = np.random.default_rng(7)
    expected, found = random.normal(0, 9, (2, 50, 300)).astype(np.float32)
    values = total_variation(expected, found)
    assert values.shape == (50,)
    assert 0 < values.min() < values.max() <= 1 + 1e-6


def test_positions_fall_into_parts_of_nearly_one_size():
    values = np.arange(10, dtype=np.float64).reshape(2, 5)
    assert by_position(values, 6) == [
        (6, 2.5),
        (7, 3.5),
        (8, 4.5),
        (9, 5.5),
        (10, 6.5),
    ]
    starts = [position for position, _ in by_position(np.zeros((1, 255)), 256)]
    assert (len(starts), starts[:3], starts[-1]) == (16, [256, 272, 288], 496)


def test_a_checkpoint_of_another_shape_is_refused(bundle, windows):
    sample = Path(__file__).parent.parent / "sample" / "checkpoint"
    with pytest.raises(GemmaError, match=r"vocabulary \d+ and hidden size \d+, those of .* are 384 and 64"):
        read(str(sample), [Bundle.open(bundle("e2b"))], windows, 0)
