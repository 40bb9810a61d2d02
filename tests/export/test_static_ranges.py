"""The static ranges of a release: read, part of every artifact, and proved; what transformers computes decides."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import msgspec
import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import helper, numpy_helper
from safetensors.torch import load_file, save_file
from transformers.integrations.gemma_quant import apply_srq

from export import to_onnx
from export.checkpoint.checkpoint import Checkpoint
from export.inspect_checkpoint import facts
from export.model.config import FLOATS
from export.model.operators import fake_quantize
from export.pipeline import export_bundle
from export.reference import FloatSource, hidden_states, logits
from export.targets import find_target
from export.to_onnx.exact import open_exact
from export.to_onnx.read import OnnxNeighbours, stored_ranges
from export.to_onnx.settings import Settings
from quantize.recipe import RECIPES, RELEASED
from quantize.scheme import FLOAT
from runtime.bundle.bundle import Bundle, seal, sha256
from runtime.bundle.manifest import File
from runtime.bundle.parity import Reports
from runtime.cli.main import main
from runtime.engine.onnx import OnnxEngine
from tests import ranged

SHAPES = ("e2b-qat-mobile-tiny", "e4b-qat-mobile-tiny")
TEXTS, LENGTH, FIRST, LAST_ID = 16, 64, 3, 900
PREFIX = ranged.PREFIX


def texts() -> np.ndarray:
    """Tokens (TEXTS, LENGTH)."""
    return np.random.default_rng(5).integers(FIRST, LAST_ID, (TEXTS, LENGTH))


def transformers_logits(folder: Path, *, static: bool, dtype: torch.dtype = torch.float32) -> np.ndarray:
    """(TEXTS, LENGTH, vocab)."""
    model = ranged.reference(folder, static=static, dtype=dtype)
    logits: np.ndarray = model(input_ids=torch.from_numpy(texts())).logits.float().numpy()
    return logits


def agreement(answered: np.ndarray, expected: np.ndarray) -> float:
    return float((answered.argmax(-1) == expected.argmax(-1)).mean())


def read(decoder) -> np.ndarray:
    """What a decoder says of all texts."""
    logits_of_texts = []
    for ids in texts():
        decoder.reset()
        logits_of_texts.append(decoder.prefill(ids, LENGTH).logits.copy())
    return np.stack(logits_of_texts)


# ---- the operator and the reference ----


@pytest.mark.parametrize("scale", [0.25, 0.0131, 3e-6])
def test_the_operator_is_transformers_own_ties_and_ends_too(scale):
    scale = float(np.float32(scale))
    x = torch.cat([torch.randn(4096) * 80 * scale, (torch.arange(-300, 300) / 2) * scale])
    assert torch.equal(fake_quantize(x, scale), apply_srq(x, torch.tensor(scale)))


@pytest.mark.slow
@pytest.mark.parametrize("name", SHAPES)
def test_the_reference_answers_as_transformers_with_ranges_and_not_as_without(name, ranged_release):
    folder = ranged_release(name)
    source = FloatSource(Checkpoint.open(folder))
    answered = np.stack([logits(source, states) for states in hidden_states(source, texts())])
    on, off = (transformers_logits(folder, static=static) for static in (True, False))
    again = transformers_logits(folder, static=True, dtype=torch.float64)
    assert agreement(answered, on) >= agreement(on, again) - 0.01
    assert agreement(on, off) < 0.45  # most answers depend on the ranges
    assert agreement(answered, off) < 0.45


def test_ranges_clip_and_those_of_shared_keys_are_left_alone(ranged_release):
    config = Checkpoint.open(ranged_release(SHAPES[0])).config
    assert len(config.activation_scales) == 4 * 9 + 3 * 7  # of the last three layers keys and values are not used
    assert all(scales.input > 0 and scales.output > 0 for scales in config.activation_scales.values())


def test_generated_releases_have_ranges_that_clip(generated):
    """`synth` writes them: 5 to 20 % of what passes, as transformers sees it."""
    model = ranged.reference(generated(SHAPES[0]), static=True)
    shares: list[float] = []

    def watch(module, arguments, output):
        scales = (module.input_activation_scale, module.output_activation_scale)
        plain = torch.nn.functional.linear(apply_srq(arguments[0], scales[0]), module._dequantize_weights())
        shares.extend(
            float((x.abs() > 127.5 * scale).float().mean())
            for x, scale in zip((arguments[0], plain), scales, strict=True)
        )

    for name, module in model.named_modules():
        if hasattr(module, "input_activation_scale") and "language_model" in name:
            module.register_forward_hook(watch)
    model(input_ids=torch.from_numpy(texts()))
    assert len(shares) == 2 * (4 * 9 + 3 * 7)
    assert 0.05 < min(shares) < max(shares) < 0.2


# ---- the artifacts ----


@pytest.fixture(scope="module")
def exported(ranged_release, tmp_path_factory):
    bundles: dict[tuple[str, str], Path] = {}

    def make(name: str, target: str) -> Path:
        if (name, target) not in bundles:
            bundles[name, target] = tmp_path_factory.mktemp("bundles") / f"{name}-{target}.bundle"
            export_bundle(ranged_release(name), bundles[name, target], [target], RECIPES[RELEASED])
        return bundles[name, target]

    return make


@pytest.mark.slow
@pytest.mark.parametrize("target", ["onnx", "executorch", "coreml"])
@pytest.mark.parametrize("name", SHAPES)
def test_what_ships_answers_as_transformers_with_ranges(name, target, ranged_release, exported):
    folder, bundle = ranged_release(name), Bundle.open(exported(name, target))
    on, off = (transformers_logits(folder, static=static) for static in (True, False))
    again = transformers_logits(folder, static=True, dtype=torch.float64)
    answered = read(find_target(target).runners[-1].open(bundle))
    assert agreement(answered, on) >= min(0.9, agreement(on, again) - 0.03)
    assert agreement(answered, off) <= 0.4


@pytest.mark.slow
@pytest.mark.parametrize("name", SHAPES)
def test_the_exact_artifact_is_as_near_to_its_reference_as_that_is_to_itself(name, exported):
    exact, ships = Bundle.open(exported(name, "onnx")).json("parity.json", Reports).reports
    assert exact.noise is not None
    assert exact.greedy is not None
    assert exact.against["quantized"].mean_relative <= max(1e-3, 2 * exact.noise.mean_relative)
    assert exact.greedy.equal + exact.greedy.ties >= 0.97 * exact.greedy.steps - exact.greedy.unsure
    assert ships.noise == exact.noise


def exact_bundle(folder: Path, destination: Path) -> Bundle:
    """Float caches, and the projection as released: what is left are the integers and the ranges."""
    recipe = dataclasses.replace(RECIPES[RELEASED], cache=FLOAT, rules=RECIPES["float"].rules)
    export_bundle(folder, destination, [to_onnx.target(Settings(accuracy=1))], recipe)
    return Bundle.open(destination)


@pytest.mark.slow
@pytest.mark.parametrize("name", SHAPES)
def test_linears_of_the_first_layer_are_on_the_exact_step(name, ranged_release, tmp_path, monkeypatch):
    """The others are one step off: the last digit of a sum was another."""
    bundle = exact_bundle(ranged_release(name), tmp_path / "x.bundle")
    path = bundle.path("onnx/decoder.onnx")
    model = onnx.load(path, load_external_data=False)
    behind = rounded_of_first_layer(model.graph)
    model.graph.output.extend(
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in behind.values()
    )
    path.write_bytes(model.SerializeToString())
    seal(bundle.folder, msgspec.structs.replace(bundle.manifest, files={
        **bundle.manifest.files, "onnx/decoder.onnx": described(path)}))  # fmt: skip
    decoder = find_target("onnx").runners[-1].open(Bundle.open(bundle.folder))
    assert isinstance(decoder, OnnxEngine)
    seen: dict[tuple[str, ...], np.ndarray] = {}

    def run(call):
        for name in behind.values():
            call.binding.bind_output(name, "cpu")
        decoder.weights.session.run_with_iobinding(call.binding, decoder._options)
        outputs = [value.numpy() for value in call.binding.get_outputs()[-len(behind) :]]
        seen.update(zip(behind, outputs, strict=True))

    monkeypatch.setattr(decoder, "_run", run)
    ids = texts()[0]
    decoder.prefill(ids, LENGTH)
    expected = linears_of_first_layer(ranged_release(name), ids)
    assert {linear for linears in behind for linear in linears} == set(expected)
    for linears, output in seen.items():
        wanted = np.concatenate([values for values, _ in (expected[linear] for linear in linears)], -1)
        steps = np.concatenate(
            [np.full(values.shape, scale) for values, scale in (expected[linear] for linear in linears)], -1
        )
        off = np.abs(output.reshape(wanted.shape) - wanted) / steps
        assert (off < 0.01).mean() >= 0.999, linears
        assert off.max() < 1.01, linears


def described(path: Path):
    return File(size=path.stat().st_size, sha256=sha256(path))


def rounded_of_first_layer(graph: onnx.GraphProto) -> dict[tuple[str, ...], str]:
    """The value behind the rounding of each matmul of layer 0, by the linears of that."""
    neighbours, rounded_outputs = OnnxNeighbours(graph), {}
    for node in graph.node:
        if node.op_type == "MatMulNBits" and node.input[1].startswith("layers.0."):
            linears = tuple(name.removesuffix(".weight") for name in node.input[1].removesuffix(".packed").split("+"))
            reader = neighbours.readers[node.output[0]][0]
            reader = neighbours.readers[reader.output[0]][0] if reader.op_type == "Reshape" else reader
            assert reader.op_type == "QuantizeLinear"
            rounded_outputs[linears] = neighbours.readers[reader.output[0]][0].output[0]
    return rounded_outputs


def linears_of_first_layer(folder: Path, ids: np.ndarray) -> dict[str, tuple[np.ndarray, float]]:
    """transformers' own outputs (1, S, N) of the linears of layer 0, and their step."""
    model = ranged.reference(folder, static=True)
    linears: dict[str, tuple[np.ndarray, float]] = {}
    layer = model.model.language_model.layers[0]
    for name, module in layer.named_modules():
        if hasattr(module, "output_activation_scale"):
            module.register_forward_hook(
                lambda module, _, output, name=name: linears.update(
                    {f"layers.0.{name}": (output.numpy(), float(module.output_activation_scale))}
                )
            )
    model(input_ids=torch.from_numpy(ids)[None])
    return linears


@pytest.mark.slow
@pytest.mark.parametrize("name", SHAPES)
def test_onnxruntime_keeps_every_pair(name, ranged_release, exported, tmp_path):
    """The optimized graph, read back: around every linear the same ranges as in the file, and hardly a pair more."""
    bundle, config = Bundle.open(exported(name, "onnx")), Checkpoint.open(ranged_release(name)).config
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    ort.InferenceSession(bundle.path("onnx/decoder.onnx"), options, providers=["CPUExecutionProvider"])
    signed(tmp_path / "optimized.onnx")
    ranges = {label: scales for label, scales in stored_ranges(tmp_path / "optimized.onnx", config) if scales != FLOATS}
    assert ranges == config.activation_scales
    kept = onnx.load(tmp_path / "optimized.onnx", load_external_data=False).graph
    whole = onnx.load(bundle.path("onnx/decoder.onnx"), load_external_data=False).graph
    before, after = (sum(node.op_type == "QuantizeLinear" for node in graph.node) for graph in (whole, kept))
    assert after <= before + 1  # where values are stored, one pair is moved before a reshape


def signed(path: Path) -> None:
    """On x86 onnxruntime turns int8 steps around 0 into uint8 steps around 128, which are the same; back again."""
    model = onnx.load(path, load_external_data=False)
    for tensor in model.graph.initializer:
        if tensor.data_type == onnx.TensorProto.UINT8 and not tensor.external_data:
            middle = numpy_helper.to_array(tensor)
            assert (middle == 128).all()
            tensor.CopyFrom(numpy_helper.from_array((middle - 128).astype(np.int8), tensor.name))
    path.write_bytes(model.SerializeToString())


@pytest.mark.slow
def test_the_bundle_and_the_checkpoint_say_that_ranges_are_in(ranged_release, exported, capsys):
    manifest = Bundle.open(exported(SHAPES[0], "onnx")).manifest
    assert manifest.model.static_ranges is True
    assert manifest.artifacts["onnx"].operators["QuantizeLinear"] > 90
    assert main(["inspect", str(exported(SHAPES[0], "onnx"))]) == 0
    assert "static 8-bit ranges of the release" in capsys.readouterr().out
    assert facts(str(ranged_release(SHAPES[0])))["activations"] == "static 8-bit ranges before and behind 57 linears"


@pytest.mark.slow
def test_another_recipe_keeps_the_ranges(ranged_release, tmp_path):
    """Integers may be chosen anew; what they were trained with stays, and calibration sees it."""
    folder = ranged_release(SHAPES[0])
    export_bundle(folder, tmp_path / "x.bundle", ["onnx"], dataclasses.replace(RECIPES["int8"], cache=FLOAT))
    bundle = Bundle.open(tmp_path / "x.bundle")
    assert bundle.manifest.model.static_ranges is True
    answered = read(open_exact(bundle))
    assert agreement(answered, transformers_logits(folder, static=True)) >= 0.8
    assert agreement(answered, transformers_logits(folder, static=False)) <= 0.4


# ---- what a release must not be ----


@pytest.fixture
def source(ranged_release, tmp_path: Path) -> Path:
    return shutil.copytree(ranged_release(SHAPES[0]), tmp_path / "source")


def change(folder: Path, edit) -> None:
    tensors = load_file(folder / ranged.WEIGHTS)
    edit(tensors)
    save_file(tensors, folder / ranged.WEIGHTS)


K = f"{PREFIX}layers.1.self_attn.k_proj"
SCALE_IN, SCALE_OUT = f"{K}.input_activation_scale", f"{K}.output_activation_scale"


@pytest.mark.parametrize(
    ("edit", "named"),
    [
        (lambda t: t[SCALE_IN].fill_(-0.5), "k_proj.input_activation_scale: -0.5 is not a scale"),
        (lambda t: t[SCALE_OUT].fill_(float("nan")), "k_proj.output_activation_scale: nan is not a scale"),
        (lambda t: t[SCALE_IN].fill_(float("inf")), "k_proj.input_activation_scale: inf is not a scale"),
        (lambda t: t[SCALE_IN].fill_(1e-39), "is not a scale"),
        (lambda t: t.update({SCALE_OUT: torch.ones(2)}), "k_proj.output_activation_scale: F32 [2] is not one scale"),
        (lambda t: t.update({SCALE_OUT: torch.ones((), dtype=torch.int8)}), "I8 [] is not one scale"),
        (lambda t: t.pop(SCALE_IN), f"{K} has no input_activation_scale, which other linears have"),
        (lambda t: [t.pop(SCALE_IN), t.pop(SCALE_OUT)], f"{K} has no input_activation_scale, which other linears have"),
        (lambda t: t["lm_head.output_activation_scale"].fill_(0.1), "lm_head has static ranges of activations"),
    ],
)
def test_a_range_that_can_not_be_is_refused_in_a_sentence(source, tmp_path, capsys, edit, named):
    change(source, edit)
    assert main(["export", str(source), "-o", str(tmp_path / "x.bundle")]) == 1
    err = capsys.readouterr().err
    assert named in err
    assert "hint:" in err
    assert "Traceback" not in err
    assert not (tmp_path / "x.bundle").exists()


@pytest.mark.slow
def test_ranges_of_q_k_v_that_differ_are_rounded_apart(source, tmp_path):
    """As transformers does; so is one that is zero, and rounds nothing."""

    def differ(tensors):
        tensors[SCALE_IN].mul_(0.7)
        tensors[f"{PREFIX}layers.0.self_attn.v_proj.output_activation_scale"].zero_()
        tensors[f"{PREFIX}layers.2.mlp.up_proj.input_activation_scale"].zero_()

    change(source, differ)
    bundle = exact_bundle(source, tmp_path / "x.bundle")
    on = transformers_logits(source, static=True)
    again = transformers_logits(source, static=True, dtype=torch.float64)
    assert agreement(read(find_target("onnx").runners[-1].open(bundle)), on) >= agreement(on, again) - 0.03


@pytest.mark.slow
def test_a_release_of_zeros_has_no_ranges(source, tmp_path):
    change(source, lambda t: [value.zero_() for name, value in t.items() if name.endswith(ranged.SCALE)])
    assert facts(str(source))["activations"] == "no static ranges"
    export_bundle(source, tmp_path / "x.bundle", ["onnx"], RECIPES[RELEASED])
    manifest = Bundle.open(tmp_path / "x.bundle").manifest
    assert manifest.model.static_ranges is False
    assert not manifest.lost_ranges


@pytest.mark.slow
@pytest.mark.parametrize("command", [["verify"], ["run"]])
def test_an_older_bundle_is_said_to_lack_its_ranges(exported, tmp_path, capsys, command):
    folder = shutil.copytree(exported(SHAPES[0], "onnx"), tmp_path / "old.bundle")
    manifest = Bundle.open(folder).manifest
    words = [*command, str(folder), *(["hello", "--max-new-tokens", "1"] if command == ["run"] else [])]
    assert main(words) == 0
    assert "ranges" not in capsys.readouterr().err
    seal(folder, msgspec.structs.replace(manifest, model=msgspec.structs.replace(manifest.model, static_ranges=None)))
    assert main(words) == 0
    notes = [line for line in capsys.readouterr().err.splitlines() if "ranges" in line]
    assert notes == [
        f"note: {folder}: made without the activation ranges of its release, it answers worse than that; "
        "export it again"
    ]
