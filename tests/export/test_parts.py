"""Parts, from a torch module to a bundle that answers as the module does: torch is the reference."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from export.checkpoint.checkpoint import Checkpoint
from export.parts.every import parts_of
from export.parts.lower import lowered_parts
from export.parts.source import PartSource
from export.targets import load_targets
from quantize.scheme import INT8
from runtime.bundle.bundle import Bundle
from runtime.cli.main import main
from runtime.errors import GemmaError
from runtime.parts.golden import check_golden_parts
from runtime.parts.part import OnnxPart
from tests.hostile import flip, reseal

WIDTH, HEADS = 32, 4


class Tower(torch.nn.Module):
    """A small vision tower: patches are embedded, attend to each other, and are pooled four by four."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.norm = torch.nn.Linear(12, WIDTH, bias=False), torch.nn.LayerNorm(WIDTH)
        self.qkv, self.out = torch.nn.Linear(WIDTH, 3 * WIDTH), torch.nn.Linear(WIDTH, WIDTH, bias=False)
        self.scale: torch.Tensor
        self.register_buffer("scale", torch.tensor(3.0))

    def forward(self, patches: torch.Tensor) -> torch.Tensor:
        x = self.embed(patches)
        heads = self.qkv(self.norm(x)).unflatten(-1, (3 * HEADS, WIDTH // HEADS)).transpose(1, 2)
        q, k, v = (heads[:, at * HEADS : (at + 1) * HEADS] for at in range(3))
        seen = torch.softmax(q @ k.transpose(2, 3) * 0.35, -1) @ v
        x = x + torch.nn.functional.gelu(self.out(seen.transpose(1, 2).flatten(2)), approximate="tanh")
        pooled: torch.Tensor = x.reshape(1, -1, 4, WIDTH).mean(2) * self.scale
        return pooled


class Stepper(torch.nn.Module):
    """Two outputs, one of which is the next call's state."""

    def forward(self, frame: torch.Tensor, past: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        joined = torch.cat([past, frame], 1)
        return torch.tanh(joined).mean([1], True), joined


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def tower() -> PartSource:
    torch.manual_seed(3)
    return PartSource(
        name="tower",
        kind="tower",
        module=Tower(),
        calls=({"patches": drawn(1, 16, 12)}, {"patches": drawn(1, 40, 12, seed=1)}),
        outputs=("soft_tokens",),
        tolerance=1e-5,
        dims={"patches": {1: "patches"}},
        settings={"pooled": 4},
        most=64,
    )


def add(folder: Path, *sources: PartSource, targets: tuple[str, ...] = ("onnx",)) -> Bundle:
    """A bundle gets these parts."""
    parts = msgspec.to_builtins(lowered_parts(sources, load_targets(targets), folder))
    reseal(folder, lambda manifest: manifest.update(version=[1, 1], parts=parts))
    return Bundle.open(folder)


@pytest.fixture
def copy(bundle, tmp_path: Path) -> Path:
    return shutil.copytree(bundle("e2b"), tmp_path / "copy.bundle")


@pytest.fixture(scope="module")
def lowered(bundle, tower, tmp_path_factory) -> Path:
    folder = shutil.copytree(bundle("e2b"), tmp_path_factory.mktemp("parts") / "lowered.bundle")
    return add(folder, tower).folder


@pytest.fixture
def towered(lowered, tmp_path) -> Bundle:
    """A bundle of its own with a tower."""
    return Bundle.open(shutil.copytree(lowered, tmp_path / "towered.bundle"))


def test_a_part_answers_as_its_module_at_sizes_that_it_was_not_captured_with(towered, tower):
    part = OnnxPart(towered, "tower", threads=1)
    for patches in (4, 16, 64):
        call = {"patches": drawn(1, patches, 12, seed=patches)}
        answer = part.run({name: tensor.numpy() for name, tensor in call.items()})
        np.testing.assert_allclose(answer["soft_tokens"], tower.answers(call)["soft_tokens"], atol=2e-5)
    assert part.settings == {"pooled": 4}
    assert part.artifact.inputs[0].shape == [1, "patches", 12]


def test_linears_may_be_stored_as_integers(copy, tower):
    source = dataclasses.replace(tower, linears=INT8, tolerance=0.05)
    bundle = add(copy, source)
    artifact = bundle.manifest.parts["tower"].artifacts["onnx"]
    assert artifact.operators["MatMulNBits int8/256"] == 3
    report = check_golden_parts(bundle, 1)["tower"]
    assert 1e-5 < report.worst_difference < 0.05


def test_a_state_is_an_input_and_an_output(copy):
    calls = ({"frame": drawn(1, 2, 8), "past": drawn(1, 3, 8, seed=1)},)
    dims = {"frame": {1: "frames"}, "past": {1: "seen"}}
    source = PartSource("stepper", "stepper", Stepper(), calls, ("answer", "present"), 1e-6, dims)
    bundle = add(copy, source)
    part = OnnxPart(bundle, "stepper", threads=1)
    assert bundle.manifest.parts["stepper"].artifacts["onnx"].data == ""
    past = np.zeros((1, 0, 8), np.float32)
    frames = drawn(1, 6, 8, seed=2).numpy()
    for at in (0, 2, 4):
        answers = part.run({"frame": frames[:, at : at + 2], "past": past})
        past = answers["present"]
    np.testing.assert_array_equal(past, frames)
    np.testing.assert_allclose(answers["answer"], np.tanh(frames).mean(1, keepdims=True), atol=1e-6)


def test_verify_repeats_the_calls_of_a_part(towered, capsys):
    folder = towered.folder
    assert main(["verify", str(folder), "--threads", "1"]) == 0
    assert "part     tower: largest difference" in capsys.readouterr().out
    assert main(["verify", str(folder), "--threads", "1", "--json"]) == 0
    assert 0 <= json.loads(capsys.readouterr().out)["parts"]["tower"] < 1e-5


def test_verify_refuses_a_part_that_answers_something_else(towered, capsys):
    folder = towered.folder
    data = folder / "parts/tower/onnx/graph.data"
    values = np.fromfile(data, np.float32)
    values[:4] += 0.5
    data.unlink()
    values.tofile(data)
    reseal(folder)
    assert main(["verify", str(folder), "--threads", "1"]) == 1
    assert "part 'tower' answers" in capsys.readouterr().err


def test_a_flipped_bit_of_a_part_is_found_at_open(towered):
    folder = towered.folder
    flip(folder / "parts/tower/onnx/graph.data", 100, 2)
    with pytest.raises(GemmaError, match="graph.data: SHA-256"):
        Bundle.open(folder)


def wrong_calls() -> dict[str, tuple[dict[str, np.ndarray], str]]:
    patches = np.zeros((1, 16, 12), np.float32)
    return {
        "no input": ({}, "arrays none, where patches belong"),
        "another name": ({"pixels": patches}, "arrays pixels, where patches belong"),
        "another type": ({"patches": patches.astype(np.float64)}, "patches is float64, not float32"),
        "another rank": ({"patches": patches[0]}, "not \\(1, patches, 12\\)"),
        "another size": ({"patches": patches[..., :8]}, "not \\(1, patches, 12\\)"),
        "too many": ({"patches": np.zeros((1, 68, 12), np.float32)}, "68 patches of patches, more than 64"),
        "not fours": ({"patches": patches[:, :15]}, "onnxruntime"),
    }


@pytest.mark.parametrize("name", wrong_calls())
def test_what_is_no_call_is_refused_in_a_sentence(towered, name):
    arrays, words = wrong_calls()[name]
    part = OnnxPart(towered, "tower", threads=1)
    with pytest.raises(GemmaError, match=words):
        part.run(arrays)


def test_the_same_word_is_the_same_size(copy):
    calls = ({"frame": drawn(1, 3, 8), "past": drawn(1, 3, 8, seed=1)},)
    source = PartSource(
        "pair", "pair", Stepper(), calls, ("answer", "present"), 1e-6, dict.fromkeys(calls[0], {1: "n"})
    )
    part = OnnxPart(add(copy, source), "pair", threads=1)
    with pytest.raises(GemmaError, match="past is \\(1, 2, 8\\), not \\(1, n, 8\\)"):
        part.run({"frame": np.zeros((1, 3, 8), np.float32), "past": np.zeros((1, 2, 8), np.float32)})


def test_a_part_that_is_not_there_or_not_for_onnxruntime_is_named(towered):
    bundle = towered
    with pytest.raises(GemmaError, match="no part 'vision', the bundle's are: tower"):
        OnnxPart(bundle, "vision")
    reseal(bundle.folder, lambda manifest: manifest["parts"]["tower"].update(artifacts={}, functions={}))
    with pytest.raises(GemmaError, match="part 'tower' has no ONNX artifact; it has nothing"):
        OnnxPart(Bundle.open(bundle.folder), "tower")


FORGED = {
    "another width": (lambda artifact: artifact["inputs"][0].update(shape=[1, "patches", 13]), "patches of the graph"),
    "another type": (lambda artifact: artifact["inputs"][0].update(dtype="float16"), "patches of the graph"),
    "another output": (lambda artifact: artifact["outputs"][0].update(name="soft"), "soft, soft_tokens of the graph"),
    "another graph": (lambda artifact: artifact.update(file="golden.json"), "onnxruntime cannot load it"),
}


@pytest.mark.parametrize("name", FORGED)
def test_a_manifest_that_lies_of_a_graph_is_refused(towered, name):
    change, words = FORGED[name]
    bundle = towered
    reseal(bundle.folder, lambda manifest: change(manifest["parts"]["tower"]["artifacts"]["onnx"]))
    with pytest.raises(GemmaError, match=words):
        OnnxPart(Bundle.open(bundle.folder), "tower")


EMPTY = {"dtype": "float32", "shape": [1, 4, 12], "values": ""}
GOLDENS = {
    "no calls": ({"tolerance": 1.0, "calls": []}, "prove nothing"),
    "no outputs": ({"tolerance": 1.0, "calls": [{"inputs": {}, "outputs": {}}]}, "prove nothing"),
    "too few bytes": (
        {"tolerance": 1.0, "calls": [{"inputs": {"patches": EMPTY}, "outputs": {"a": EMPTY}}]},
        "0 bytes",
    ),
    "an object": (
        {"tolerance": 1.0, "calls": [{"inputs": {"patches": EMPTY | {"dtype": "O"}}, "outputs": {"a": EMPTY}}]},
        "no O of",
    ),
    "no base64": (
        {"tolerance": 1.0, "calls": [{"inputs": {"patches": EMPTY | {"values": "%"}}, "outputs": {"a": EMPTY}}]},
        "not base64",
    ),
    "below zero": (
        {"tolerance": 1.0, "calls": [{"inputs": {"patches": EMPTY | {"shape": [-1]}}, "outputs": {"a": EMPTY}}]},
        "0 bytes",
    ),
}


@pytest.mark.parametrize("name", GOLDENS)
def test_golden_calls_that_prove_nothing_are_refused(towered, name):
    goldens, words = GOLDENS[name]
    bundle = towered
    (bundle.folder / "parts/tower/golden.json").write_text(json.dumps(goldens))
    reseal(bundle.folder)
    with pytest.raises(GemmaError, match=words):
        check_golden_parts(Bundle.open(bundle.folder), 1)


def test_an_answer_that_is_no_number_does_not_pass(towered):
    bundle = towered
    data = bundle.folder / "parts/tower/onnx/graph.data"
    raw = np.fromfile(data, np.float32)
    raw[:] = np.nan
    data.unlink()
    raw.tofile(data)
    reseal(bundle.folder)
    with pytest.raises(GemmaError, match="answers inf of its largest value off"):
        check_golden_parts(Bundle.open(bundle.folder), 1)


def test_an_operator_that_is_not_known_is_named(tower, tmp_path):
    class Sine(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.sin(x)

    source = PartSource("sine", "sine", Sine(), ({"x": drawn(2)},), ("y",), 1e-6)
    with pytest.raises(GemmaError, match="part 'sine' has an operator aten.sin.default"):
        lowered_parts([source], load_targets(["onnx"]), tmp_path)


def test_a_target_that_lowers_no_parts_leaves_them_out(copy, tower):
    assert add(copy, tower, targets=("coreml",)).manifest.parts["tower"].artifacts == {}


def test_a_checkpoint_has_the_parts_that_somebody_makes_of_it(checkpoint, tower):
    makers = {"tower": lambda checkpoint: tower, "none": lambda checkpoint: None}
    assert parts_of(Checkpoint.open(checkpoint("e2b")), makers) == [tower]
