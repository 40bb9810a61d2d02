"""What a figure past its gate does to an export, and who may accept it."""

from __future__ import annotations

import dataclasses
import shutil

import msgspec
import numpy as np
import pytest

from export.checkpoint.checkpoint import GENERATED
from export.pipeline import export_bundle
from export.prove.compare import kl
from export.prove.gates import FLIPPED, Terms, judge
from quantize.recipe import RECIPES, rules
from quantize.scheme import INT2_B64, INT8
from runtime.bundle.bundle import Bundle
from runtime.bundle.parity import Greedy, Parity, Report, Reports
from runtime.cli.main import main
from runtime.errors import GemmaError
from tests.conftest import SAMPLE

GOOD = Parity(100, 1.0, 0.0, 0.0, 0.0, 0.0)
INT4 = Terms(RECIPES["int4"])
GENERATED_INT4, ACCEPTED_INT4 = Terms(RECIPES["int4"], generated=True), Terms(RECIPES["int4"], accept_loss=True)
PLAIN = Parity(111, 0.694, 0.397, 1.43, 16.8, 0.48)  # the real Gemma 3 270M rounded to the nearest, on 2026-12-01
TWO_BITS = rules(("rows.*", INT8), ("*", INT2_B64))


def report(against_float: Parity, against_integers: Parity = GOOD) -> Report:
    return Report("onnx", [1], 8, {"float": against_float, "quantized": against_integers})


def far(**figures: float) -> Parity:
    return msgspec.structs.replace(GOOD, **figures)


@pytest.mark.parametrize(
    ("figures", "message"),
    [
        ({"agreement": 0.58}, "top-1 agreement with the float model is 0.58, the gate of recipe int4 is 0.586"),
        ({"mean_divergence": 0.29}, "divergence from the float model is 0.29, the gate of recipe int4 is 0.286"),
    ],
)
def test_a_loss_past_the_gate_is_refused_unless_it_is_accepted(figures, message):
    assert judge(report(GOOD), INT4) == []
    with pytest.raises(GemmaError, match=f"onnx: {message}") as refused:
        judge(report(far(**figures)), INT4)
    assert "accept_loss=True" in refused.value.hint
    for terms in (ACCEPTED_INT4, GENERATED_INT4):
        assert judge(report(far(**figures)), terms) == [f"onnx: {message}"]


def test_plain_rounding_of_a_real_model_does_not_pass_for_a_calibrated_recipe():
    with pytest.raises(GemmaError, match="divergence from the float model is 0.397"):
        judge(report(PLAIN), INT4)
    assert judge(report(PLAIN), Terms(RECIPES["int4-absmax"])) == []


@pytest.mark.parametrize("terms", [GENERATED_INT4, ACCEPTED_INT4], ids=["generated", "accepted"])
@pytest.mark.parametrize(
    ("figures", "message"),
    [
        ({"agreement": 0.1}, "top-1 agreement with the float model is 0.1, the gate of recipe int4 is 0.15"),
        ({"mean_divergence": 3.0}, "divergence from the float model is 3, the gate of recipe int4 is 1"),
    ],
)
def test_another_model_is_refused_whatever_is_accepted(terms, figures, message):
    with pytest.raises(GemmaError, match=message) as refused:
        judge(report(far(**figures)), terms)
    assert "nobody can accept so great a loss" in refused.value.hint


@pytest.mark.parametrize("terms", [INT4, GENERATED_INT4, ACCEPTED_INT4], ids=["trained", "generated", "accepted"])
@pytest.mark.parametrize("figure", [0.2, float("nan")])
def test_an_artifact_that_leaves_its_own_integers_is_refused_whatever_is_accepted(terms, figure):
    with pytest.raises(GemmaError, match="divergence from its own integers") as refused:
        judge(report(GOOD, far(mean_divergence=figure)), terms)
    assert "report this as a bug" in refused.value.hint


def test_logits_that_are_no_numbers_diverge():
    logits = np.zeros((2, 3), np.float32)
    assert np.isnan(kl(logits, np.full((2, 3), np.nan, np.float32))).all()


def test_what_computes_exactly_is_held_to_rounding_and_to_the_same_tokens():
    lossy = Parity(100, 0.5, 9.0, 9.0, 1e-4, 1e-4)  # without the second stage its logits may be far from the model's
    exact = Report("onnx exact", [1], 8, {"float": lossy, "quantized": lossy}, Greedy(320, 319, 1))
    judge(exact, INT4, exact=True)
    moved = {"float": lossy, "quantized": msgspec.structs.replace(lossy, worst_relative=0.002)}
    for terms in (INT4, ACCEPTED_INT4):
        with pytest.raises(GemmaError, match="largest relative difference from its own integers is 0.002"):
            judge(msgspec.structs.replace(exact, against=moved), terms, exact=True)
    judge(msgspec.structs.replace(exact, against=moved), INT4, exact=True, limit=FLIPPED)
    with pytest.raises(GemmaError, match="greedy tokens that its own integers would not choose is 1"):
        judge(msgspec.structs.replace(exact, greedy=Greedy(320, 318, 1)), INT4, exact=True)


def test_float16_is_allowed_a_little_more_than_a_gate():
    gate = RECIPES["int4"].gate
    near = report(far(agreement=gate.agreement - 0.03, mean_divergence=gate.divergence))
    assert judge(near, INT4, half=True) == []
    with pytest.raises(GemmaError, match="top-1 agreement"):
        judge(near, INT4)


@pytest.mark.slow
def test_a_trained_model_that_loses_too_much_is_sealed_only_with_a_word_about_it(tmp_path, capsys):
    """Two bits a weight: the artifact is its integers exactly, and these are not the model."""
    recipe = dataclasses.replace(RECIPES["int4-datafree"], rules=TWO_BITS, rescored=0)
    bundle = tmp_path / "x.bundle"
    with pytest.raises(GemmaError, match="onnx: divergence from the float model"):
        export_bundle(SAMPLE, bundle, ["onnx"], recipe)
    assert not bundle.exists()
    proof = export_bundle(SAMPLE, bundle, ["onnx"], recipe, accept_loss=True)
    assert proof.loss is not None
    assert proof.loss.accepted_by == "--accept-loss"
    assert Bundle.open(bundle).json("parity.json", Reports).loss == proof.loss
    assert proof.loss.line() in proof.lines()
    capsys.readouterr()
    assert main(["inspect", str(bundle)]) == 0
    said = capsys.readouterr().out
    assert "--accept-loss: onnx: divergence" in said
    assert proof.loss.missed[0] in said


@pytest.mark.slow
def test_random_weights_are_waived_by_the_mark_of_synth_and_by_nothing_else(checkpoint, tmp_path, capsys):
    folder = shutil.copytree(checkpoint("e2b"), tmp_path / "unmarked")
    words = ["export", "--recipe", "int4-datafree", "-o", str(tmp_path / "x.bundle"), str(folder)]
    assert main(words) == 0
    said = capsys.readouterr().err
    assert "loss accepted (generated weights): onnx: top-1 agreement" in said
    (folder / GENERATED).unlink()
    words[words.index("-o") + 1] = str(tmp_path / "y.bundle")
    assert main(words) == 1
    said = capsys.readouterr().err
    assert "take a recipe of more bits, or pass --accept-loss" in said
    assert not (tmp_path / "y.bundle").exists()
    assert main(["export", "--accept-loss", *words[1:]]) == 0
    assert "loss accepted (--accept-loss)" in capsys.readouterr().err
