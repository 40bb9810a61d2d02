"""Releases of integers: every integer and scale arrives as it is, and the answers are transformers' own."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from safetensors.torch import load_file, save_file

from export import to_onnx
from export.checkpoint.checkpoint import Checkpoint
from export.inspect_checkpoint import facts
from export.pipeline import export_bundle
from export.to_onnx.builder import every_node
from export.to_onnx.read import stored_weights
from export.to_onnx.settings import Settings
from quantize.affine import quantize
from quantize.recipe import DEFAULT, RECIPES, RELEASED
from quantize.scheme import FLOAT, INT4_B32
from runtime.bundle.bundle import Bundle
from runtime.bundle.row_table import RowTable
from runtime.cli.main import main
from runtime.engine.onnx import OnnxEngine
from runtime.engine.piece import Piece
from runtime.errors import GemmaError
from tests import tiny
from tests.ranged import reference
from tests.transformers_model import greedy

WEIGHTS = "model.safetensors"
PREFIX = "model.language_model."
SHAPES = ("e2b-qat-mobile-tiny", "e4b-qat-mobile-tiny")
PROMPTS, STEPS = 5, 64


@pytest.fixture(scope="module")
def exported(generated, tmp_path_factory):
    made: dict[str, Path] = {}

    def make(name: str) -> Path:
        if name not in made:
            made[name] = tmp_path_factory.mktemp("bundles") / f"{name}.bundle"
            export_bundle(generated(name), made[name], ["onnx"], RECIPES[RELEASED])
        return made[name]

    return make


def unpacked(codes: torch.Tensor, bits: int) -> np.ndarray:
    """Written here from the description of the format: low bits first, half added; int8 as it is."""
    if bits == 8:
        return codes.numpy()
    fields = [(codes >> place) & ((1 << bits) - 1) for place in range(0, 8, bits)]
    return torch.stack(fields, -1).flatten(1).numpy().astype(np.int16) - (1 << (bits - 1))


def released_values(stored: dict[str, torch.Tensor], parameter: str) -> tuple[np.ndarray, np.ndarray]:
    """Integers and scales of one of our parameters, from the file."""
    name = "embed_tokens" if parameter == "head.weight" else parameter.removesuffix(".weight")
    codes = stored.get(f"{PREFIX}{name}.weight", stored.get(f"{PREFIX}{name}.embedding_quantized"))
    scales = stored.get(f"{PREFIX}{name}.weight_scale", stored.get(f"{PREFIX}{name}.embedding_scale"))
    bits = 2 if "embed_tokens" in name and "per_layer" not in name else None
    if bits is None:
        layer = int(name.split(".")[1])
        bits = 8 if "per_layer" in name else 2 if ".mlp." in name and layer > 3 else 4
    assert codes is not None
    assert scales is not None
    return unpacked(codes, bits), scales.numpy()


@pytest.mark.slow
@pytest.mark.parametrize("name", SHAPES[:1])
def test_every_integer_and_scale_of_the_artifact_is_the_files(name, generated, exported):
    stored, seen = load_file(generated(name) / WEIGHTS), set()
    for parameters, streamed in stored_weights(exported(name) / "onnx" / "decoder.onnx"):
        if "projection" in parameters[0] and "layers." not in parameters[0]:
            continue  # released in bfloat16
        pieces = list(streamed)
        answer, start = np.concatenate([values for _, values in pieces]), pieces[0][0]
        expected = np.concatenate(
            [codes * scales for codes, scales in (released_values(stored, p) for p in parameters)]
        )
        assert np.array_equal(answer, expected[start : start + len(answer)].astype(np.float32)), parameters
        seen.update(parameters)
    linears = {n for n in load_names(stored) if n.endswith("_proj.weight") or "per_layer_" in n}
    assert linears <= seen


def load_names(stored: dict[str, torch.Tensor]) -> set[str]:
    """Our names of the packed linears that are used: shared layers have no keys and values."""
    names = {key.removeprefix(PREFIX) for key, value in stored.items() if value.dtype in (torch.uint8, torch.int8)}
    live = {n for n in names if n.startswith("layers.")}
    return {n for n in live if not (int(n.split(".")[1]) > 3 and ("k_proj" in n or "v_proj" in n))}


@pytest.mark.slow
@pytest.mark.parametrize("name", SHAPES)
def test_row_files_hold_the_tables_as_they_are(name, generated, exported):
    stored = load_file(generated(name) / WEIGHTS)
    for table, bits in (("embed_tokens", 2), ("embed_tokens_per_layer", 4 if name.startswith("e2b") else 2)):
        rows = RowTable(exported(name) / "tables" / f"{'per_layer' if 'per' in table else 'tokens'}.rows")
        codes = unpacked(stored[f"{PREFIX}{table}.embedding_quantized"], bits)
        scales = stored[f"{PREFIX}{table}.embedding_scale"].numpy()
        expected = codes.reshape(len(codes), scales.shape[1], -1) * scales[..., None]
        assert rows.format.bits == bits
        assert np.array_equal(rows.rows(np.arange(len(codes))).reshape(expected.shape), expected.astype(np.float32))


@pytest.mark.parametrize("name", SHAPES)
def test_caches_have_the_released_scales(name, generated, exported):
    stored = load_file(generated(name) / WEIGHTS)
    model = onnx.load(exported(name) / "onnx" / "decoder.onnx")
    for layer in range(3):
        for part, released in (("k_scale", "k_cache_scale"), ("v_scale", "v_cache_scale")):
            tensor = next(t for t in model.graph.initializer if t.name == f"layers.{layer}.self_attn.{part}")
            expected = stored[f"{PREFIX}layers.{layer}.self_attn.{released}"].item()
            assert onnx.numpy_helper.to_array(tensor).tolist() == [pytest.approx(expected, rel=1e-7)]
    kinds = {
        a.s
        for node in every_node(model.graph.node)
        for a in node.attribute
        if a.name in ("k_quant_type", "v_quant_type")
    }
    assert kinds == {b"PER_TENSOR"}  # a quarter faster than one for each channel


@pytest.mark.slow
@pytest.mark.parametrize("name", SHAPES)
def test_computed_exactly_it_answers_what_transformers_answers(name, generated, tmp_path):
    """With float caches, the projection as released and no ranges: what is left are the integers."""
    exact = dataclasses.replace(RECIPES[RELEASED], cache=FLOAT, rules=RECIPES["float"].rules)
    folder = shutil.copytree(generated(name), tmp_path / "source")
    change(folder, lambda t: [value.zero_() for key, value in t.items() if key.endswith("activation_scale")])
    export_bundle(folder, tmp_path / "x.bundle", [to_onnx.target(Settings(accuracy=1))], exact)
    decoder, model = OnnxEngine.open(Bundle.open(tmp_path / "x.bundle"), 1), reference(folder, static=True)
    for seed in range(PROMPTS):
        ids = np.random.default_rng(seed).integers(3, 900, 7 + 9 * seed)
        decoder.reset()
        step = decoder.prefill(ids, len(ids))
        expected = model(input_ids=torch.from_numpy(ids)[None]).logits[0].numpy()
        assert np.abs(step.logits - expected).max() <= 1e-3 * np.abs(expected).max()
        token, answer = int(step.logits[-1].argmax()), []
        for _ in range(STEPS):
            answer.append(token)
            token = int(decoder.forward(Piece(np.array([token]))).logits[-1].argmax())
        assert answer == greedy(model, ids.tolist(), STEPS, eos_token_id=-1)


def test_the_manifest_says_what_is_stored(exported):
    rules = dict(reversed(Bundle.open(exported(SHAPES[0])).manifest.recipe.rules))  # the first wins
    assert (rules["head"], rules["rows.tokens"], rules["rows.per_layer"]) == ("int2/row", "int2/row", "int4/row")
    assert [rules[f"layers.{i}.mlp.up_proj"] for i in (3, 4)] == ["int4/row", "int2/row"]
    assert rules["*"] == "int8/32"


# ---- what a release must not be ----


@pytest.fixture
def source(generated, tmp_path: Path) -> Path:
    return shutil.copytree(generated(SHAPES[0]), tmp_path / "source")


def change(folder: Path, edit) -> None:
    answer = load_file(folder / WEIGHTS)
    edit(answer)
    save_file(answer, folder / WEIGHTS)


UP = f"{PREFIX}layers.0.mlp.up_proj"


@pytest.mark.parametrize(
    ("edit", "named"),
    [
        (lambda t: t[f"{UP}.weight_scale"][3].zero_(), "1 scales are zero, NaN or Inf"),
        (lambda t: t[f"{UP}.weight_scale"][5].fill_(float("nan")), "1 scales are zero, NaN or Inf"),
        (lambda t: t.update({f"{UP}.weight": t[f"{UP}.weight"][:, :-1].contiguous()}), "up_proj.weight [96, 62]"),
        (
            lambda t: t.update({f"{UP}.weight": t[f"{UP}.weight"].view(torch.int8)}),
            "I8 [96, 32], but rows of int4 are stored as U8",
        ),
        (lambda t: t.update({f"{UP}.weight_scale": torch.ones(95, 1)}), "does not hold the scales of 96 rows"),
        (lambda t: t.update({f"{UP}.weight_scale": torch.ones(96, 3)}), "does not hold the scales of 96 rows"),
        (lambda t: t.pop(f"{UP}.weight_scale"), "of an unsupported dtype: layers.0.mlp.up_proj.weight U8"),
        (
            lambda t: t[f"{PREFIX}layers.1.self_attn.k_cache_scale"].fill_(float("inf")),
            "k_cache_scale is inf, which is not a valid scale",
        ),
    ],
)
def test_a_damaged_release_is_refused_in_a_sentence(source, tmp_path, capsys, edit, named):
    change(source, edit)
    assert main(["export", str(source), "-o", str(tmp_path / "x.bundle")]) == 1
    err = capsys.readouterr().err
    assert named in err
    assert "Traceback" not in err
    assert not (tmp_path / "x.bundle").exists()


@pytest.mark.parametrize(
    ("rules", "named"),
    [
        ({"num_bits": 3}, "num_bits 3 is not 2, 4 or 8"),
        ({"module_quant_configs": {"no_such_module": {"num_bits": 2}}}, "'no_such_module', which matches no tensor"),
        ({"quant_method": "compressed-tensors"}, "use the sibling release"),
    ],
)
def test_rules_that_can_not_be_are_refused(source, tmp_path, capsys, rules, named):
    config = json.loads((source / "config.json").read_text())
    config["quantization_config"] |= rules
    (source / "config.json").write_text(json.dumps(config))
    assert main(["export", str(source), "-o", str(tmp_path / "x.bundle")]) == 1
    assert named in capsys.readouterr().err


def test_it_is_the_default_for_a_release_of_integers_only(generated, checkpoint, tmp_path, capsys):
    for folder, recipe in ((generated(SHAPES[0]), RELEASED), (checkpoint("e2b"), DEFAULT)):
        assert main(["export", str(folder), "--dry-run"]) == 0
        assert recipe in capsys.readouterr().out
    assert main(["export", str(checkpoint("e2b")), "--recipe", RELEASED, "-o", str(tmp_path / "x.bundle")]) == 1
    assert "needs a release of integers" in capsys.readouterr().err


def test_inspect_says_the_bits_of_each_part(generated):
    assert facts(str(generated(SHAPES[0])))["released as"] == {
        "token embeddings and head": "int2/row",
        "per-layer embeddings": "int4/8",
        "feed-forward": "int2/row, int4/row",
        "attention": "int4/row",
        "per-layer projections": "int8/row",
    }


# ---- values on a grid ----


@pytest.fixture(scope="module")
def on_grid(tmp_path_factory) -> Path:
    """A checkpoint of bfloat16 values, the layers' linears on the Q4_0 grid."""
    folder = tiny.write("e2b", tmp_path_factory.mktemp("grid"), dtype=torch.bfloat16)
    answer = load_file(folder / WEIGHTS)
    for name, value in answer.items():
        if "_proj.weight" in name and "per_layer" not in name:
            made, _ = quantize(value.float().numpy(), INT4_B32, "absmax")
            scales = np.repeat(made.scales.astype(np.float16).astype(np.float32), 32, 1)[:, : value.shape[1]]
            answer[name] = torch.from_numpy(made.codes() * scales).bfloat16()
    save_file(answer, folder / WEIGHTS, metadata={"format": "pt"})
    return folder


@pytest.mark.slow
def test_a_release_on_the_grid_is_given_again_bit_for_bit(on_grid, tmp_path, capsys):
    assert main(["export", str(on_grid), "-o", str(tmp_path / "x.bundle")]) == 0
    assert "integers found again in 100.0000%" in capsys.readouterr().err
    assert Bundle.open(tmp_path / "x.bundle").manifest.recipe.name == RELEASED
    stored, seen = load_file(on_grid / WEIGHTS), 0
    for parameters, pieces in stored_weights(tmp_path / "x.bundle" / "onnx" / "decoder.onnx"):
        if all("_proj." in one and "per_layer" not in one for one in parameters):
            answer = torch.from_numpy(np.concatenate([values for _, values in pieces])).bfloat16()
            assert torch.equal(answer, torch.cat([stored[f"model.{one}"] for one in parameters]))
            seen += len(parameters)
    assert seen == 4 * 7 + 3 * 5  # layers with keys and values, and without


def test_values_that_left_the_grid_are_counted_and_too_many_refused(on_grid, tmp_path, capsys):
    folder = shutil.copytree(on_grid, tmp_path / "source")
    change(folder, lambda t: t["model.layers.3.mlp.up_proj.weight"].mul_(1.01))
    assert main(["export", str(folder), "-o", str(tmp_path / "x.bundle")]) == 1
    assert "blocks of 32 are not on a 4-bit grid" in capsys.readouterr().err


def test_a_checkpoint_of_floats_is_told_from_one_on_the_grid(on_grid, tmp_path):
    assert Checkpoint.open(on_grid).on_grid
    assert not Checkpoint.open(tiny.write("e2b", tmp_path, dtype=torch.bfloat16)).on_grid


def test_a_sibling_that_is_not_read_is_named(source):
    config = json.loads((source / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "compressed-tensors", "format": "pack-quantized"}
    (source / "config.json").write_text(json.dumps(config))
    with pytest.raises(GemmaError, match="-qat-q4_0-unquantized"):
        Checkpoint.open(source)
