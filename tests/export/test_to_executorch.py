"""The .pte of tiny models: exact weights, the numbers of its operators in torch, nothing outside XNNPACK."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import torch

from tests import tiny

pytest.importorskip("executorch", reason="the extra executorch is not installed")

from executorch.runtime import Runtime  # noqa: E402

from export import to_executorch  # noqa: E402
from export.checkpoint.checkpoint import Checkpoint  # noqa: E402
from export.model.capture import capture  # noqa: E402
from export.model.config import GemmaConfig  # noqa: E402
from export.pipeline import export_bundle  # noqa: E402
from export.prove.check_weights import check_weights  # noqa: E402
from export.to_executorch.lower import announce, build, census, check_size, lower  # noqa: E402
from export.to_executorch.methods import Method  # noqa: E402
from export.to_executorch.program import lifetimes, write_program  # noqa: E402
from export.to_executorch.read import File, stored_weights  # noqa: E402
from export.to_executorch.settings import Settings  # noqa: E402
from export.to_executorch.xnnpack_graph import Part  # noqa: E402
from export.weights.linears import Weights, quantize_weights  # noqa: E402
from export.weights.plan import storage_plan  # noqa: E402
from quantize import affine  # noqa: E402
from quantize.recipe import Gate, Recipe, rules  # noqa: E402
from quantize.scheme import Scheme  # noqa: E402
from runtime.bundle.bundle import Bundle  # noqa: E402
from runtime.bundle.parity import Reports  # noqa: E402
from runtime.cli.main import main  # noqa: E402
from runtime.engine.executorch import ExecutorchEngine, ExecutorchWeights  # noqa: E402
from runtime.engine.piece import Piece  # noqa: E402
from runtime.errors import GemmaError  # noqa: E402
from tests.xnnpack_evaluator import EagerProgram  # noqa: E402

pytestmark = pytest.mark.slow
NEAR = 5e-3  # of the largest logit
TOKENS = 16  # of a call of prefill: more than a tiny window
SETTINGS = Settings(tokens=TOKENS)
# In layer 0 and the head a container of every kind.
MIXED = Recipe(
    "mixed", "every container",
    rules(("rows.*", Scheme(8)), ("*per_layer_*", Scheme(8)), ("head", Scheme(4, 32)),
          ("layers.0.*.q_proj", Scheme(2)), ("layers.0.*.k_proj", Scheme(4, 32)), ("layers.0.*.o_proj", Scheme(8, 32)),
          ("layers.0.*.up_proj", Scheme(2, 32)), ("layers.0.*.down_proj", Scheme(4, 32)), ("*", Scheme(4))),
    Gate(0, 100), floor=Gate(0, 100), scales="absmax",
)  # fmt: skip
FLIPS = 0.15  # of the largest logit: what activations do that are rounded to the next integer


def signed_in_blocks(groups, scheme, importance=None):
    """Scales of either sign in blocks, positive ones of rows."""
    return (affine.least_squares_scales if scheme.block else affine.absmax_scales)(groups, scheme, importance)


@dataclass(frozen=True)
class Lowered:
    folder: Path
    config: GemmaConfig
    weights: Weights
    bundle: Bundle
    program: EagerProgram  # the same file, run by torch
    eager: ExecutorchEngine  # fed by the engine
    parts: dict[str, list[Path]]  # every call of XNNPACK's, by method, as a program of its own


@pytest.fixture(scope="module")
def lowered(checkpoint, tmp_path_factory):
    lowered_model: dict[str, Lowered] = {}

    def make(name: str) -> Lowered:
        if name not in lowered_model:
            lowered_model[name] = make_lowered(checkpoint(name), tmp_path_factory.mktemp(name) / "x.bundle")
        return lowered_model[name]

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(affine.SCALES, "absmax", signed_in_blocks)
        yield make


def make_lowered(source: Path, destination: Path) -> Lowered:
    """A bundle by the whole pipeline, which compares it with both references; what it was made of is kept."""
    kept: dict[str, Any] = {}
    alone = destination.with_suffix(".parts")
    alone.mkdir()

    def lower_and_keep(graph, weights, folder):
        shutil.copytree(weights.folder, destination.with_suffix(".weights"))
        kept["config"] = graph.config
        kept["weights"] = Weights(destination.with_suffix(".weights"), weights.schemes)
        with TemporaryDirectory() as scratch:
            model = build(graph, SETTINGS, weights, Path(scratch))
            kept["parts"] = {
                method.name: list(programs_of_parts(method, model.states, alone)) for method in model.methods
            }
        return lower(graph, SETTINGS, weights, folder)

    target = replace(to_executorch.target(SETTINGS), lower=lower_and_keep)
    export_bundle(source, destination, [target], MIXED)
    bundle = Bundle.open(destination)
    program = EagerProgram(destination / "executorch" / "decoder.pte")
    eager = ExecutorchEngine(ExecutorchWeights(bundle, threads=1), program)  # type: ignore[arg-type]  # in its place
    return Lowered(destination, kept["config"], kept["weights"], bundle, program, eager, kept["parts"])


def programs_of_parts(method, caches, folder):
    crossing = lifetimes(method, set(caches.values()))
    for number, part in enumerate(step for step in method.steps if isinstance(step, Part)):
        given = {str(place): value for place, value in enumerate(part.read)}
        path = folder / f"{method.name}{number}.pte"
        outputs = [value for value in part.outputs if value in crossing]
        write_program([Method(method.name, given, [part], outputs)], {}, path)
        yield path


def relative(outputs: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(outputs - expected).max() / np.abs(expected).max())


NAMES = ["e2b", "e4b", "31b", "gemma3"]


@pytest.mark.parametrize("name", NAMES)
def test_every_part_gives_what_its_operators_give_in_torch(lowered, name):
    """From the same inputs, of prompts past the window and of steps.

    To the last bits, but where sums in another order move an activation across the middle of two integers.
    """
    lowered_model = lowered(name)
    ids = np.random.default_rng(1).integers(3, tiny.VOCAB, 80)
    lowered_model.eager.prefill(ids[: 3 * TOKENS + 5])
    for token in range(70, 74):
        lowered_model.eager.forward(Piece(ids[token : token + 1]))
    differences: list[float] = []
    for name, method in lowered_model.program.methods.items():
        for graph, path in zip(method.graphs, lowered_model.parts[name], strict=True):
            part = Runtime.get().load_program(path).load_method(name)
            for inputs, expected in graph.calls:
                outputs = part.execute(inputs)
                differences += [relative(a.numpy(), b.numpy()) for a, b in zip(outputs, expected, strict=True)]
    assert max(differences) <= 2 * NEAR
    assert np.mean(np.array(differences) <= NEAR) >= 0.99
    assert np.median(differences) <= 1e-6


@pytest.mark.parametrize("name", NAMES)
def test_logits_are_those_of_its_operators_in_torch(lowered, name):
    """Until an activation moves to the next integer, which all that comes after depends on."""
    lowered_model = lowered(name)
    decoder = ExecutorchEngine.open(lowered_model.bundle, threads=1)
    ids = np.random.default_rng(1).integers(3, tiny.VOCAB, 80)
    for prompt in (1, tiny.WINDOW, tiny.WINDOW + 1, 3 * TOKENS + 5):
        for part in (decoder, lowered_model.eager):
            part.reset()
        for a, b in zip(steps(decoder, ids, prompt), steps(lowered_model.eager, ids, prompt), strict=True):
            assert relative(a, b) <= FLIPS


def steps(decoder, ids: np.ndarray, prompt: int) -> list[np.ndarray]:
    """Logits after a prompt, and after each of six tokens behind it."""
    return [
        decoder.prefill(ids[:prompt]).logits,
        *(decoder.forward(Piece(ids[token : token + 1])).logits for token in range(prompt, prompt + 6)),
    ]


@pytest.mark.parametrize("name", NAMES)
def test_prefill_and_steps_give_what_steps_alone_give(lowered, name):
    """Across the window's end, and across calls that are full and that are not."""
    lowered_model = lowered(name)
    decoder = ExecutorchEngine.open(lowered_model.bundle, threads=1)
    ids = np.random.default_rng(2).integers(3, tiny.VOCAB, 3 * TOKENS + 11)
    alone = np.concatenate([decoder.forward(Piece(ids[i : i + 1])).logits for i in range(len(ids))])
    for cuts in ([len(ids)], [TOKENS + 1, 10, 9, 2], [13, 1, 30]):
        decoder.reset()
        at = 0
        for size in [*cuts, len(ids) - sum(cuts)]:
            if size:
                at += size
                assert relative(decoder.forward(Piece(ids[at - size : at])).logits[-1], alone[at - 1]) <= FLIPS
        assert at == len(ids)


@pytest.mark.parametrize("name", NAMES)
def test_integers_and_scales_read_back_bit_for_bit(lowered, name):
    lowered_model = lowered(name)
    path = lowered_model.folder / "executorch" / "decoder.pte"
    check_weights(lowered_model.folder, lowered_model.weights, to_executorch.TARGET, "executorch/decoder.pte")
    read = {names[0]: np.concatenate([piece for _, piece in pieces]) for names, pieces in stored_weights(path)}
    assert all(np.array_equal(values, lowered_model.weights.floats(parameter)) for parameter, values in read.items())


@pytest.mark.parametrize("name", NAMES)
def test_the_pipeline_has_compared_it_with_both_references(lowered, name):
    (report,) = lowered(name).bundle.json("parity.json", Reports).reports
    assert report.artifact == "executorch"
    assert report.against["quantized"].positions > 100
    assert report.against["quantized"].mean_divergence < 0.03


def test_only_the_caches_are_written_outside_xnnpack(lowered):
    operators = lowered("e2b").bundle.manifest.artifacts["executorch"].operators
    outside = {name for name in operators if name.startswith(("decode", "prefill"))}
    assert outside == {
        f"{method} {name}" for method in ("decode", "prefill") for name in ("aten::index_put_", "XNNPACK")
    }
    assert {"int4/row", "int8/row", "int4/32 + offsets", "2 int4/32 + offsets"} <= operators.keys()


def test_methods_share_weights_in_the_file(lowered):
    lowered_model = lowered("e2b")
    file = File(lowered_model.folder / "executorch" / "decoder.pte")
    held = sum(file.segments[index][1] for index in set(file.keys.values()))
    codes = [index for key, index in file.keys.items() if key.endswith(("/codes", "/high", "/low"))]
    assert len(codes) == len(set(codes))  # each once, though prefill reads a part of them too
    assert held < 1.1 * sum(file.segments[index][1] for index in {*codes}) + 200_000


def damaged(lowered_model: Lowered, folder: Path, parameter: str, at: int = -1) -> Path:
    """A copy with another byte in the codes of a parameter."""
    shutil.copytree(lowered_model.folder, folder)
    path = folder / "executorch" / "decoder.pte"
    file = File(path)
    key = next(key for key in file.keys if key.startswith(f"{parameter}/") and not key.endswith("/offsets"))
    offset, size = file.segments[file.keys[key]]
    data = bytearray(path.read_bytes())
    data[file.base + offset + at % size] ^= 0x11
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("part", ["head", "layers.0.self_attn.o_proj", "layers.1.mlp.up_proj"])
def test_one_changed_code_is_found(lowered, tmp_path, part):
    lowered_model = lowered("e2b")
    damaged(lowered_model, tmp_path / "x.bundle", f"{part}.weight")
    with pytest.raises(GemmaError, match=f"{part}.weight in the artifact differs from what was quantized"):
        check_weights(tmp_path / "x.bundle", lowered_model.weights, to_executorch.TARGET, "executorch/decoder.pte")


def test_a_changed_scale_is_found(lowered, tmp_path):
    lowered_model = lowered("e2b")
    shutil.copytree(lowered_model.folder, tmp_path / "x.bundle")
    path = tmp_path / "x.bundle" / "executorch" / "decoder.pte"
    file = File(path)
    data = bytearray(path.read_bytes())
    for key, index in file.keys.items():
        if key.endswith("/codes.scales"):
            offset, size = file.segments[index]
            data[file.base + offset + size - 1] ^= 1  # an exponent's bit
            break
    path.write_bytes(data)
    with pytest.raises(GemmaError, match="differs from what was quantized|is not a multiple|have different scales"):
        check_weights(tmp_path / "x.bundle", lowered_model.weights, to_executorch.TARGET, "executorch/decoder.pte")


def test_verify_fails_for_a_damaged_file(lowered, tmp_path, capsys):
    damaged(lowered("e2b"), tmp_path / "x.bundle", "layers.0.mlp.gate_proj.weight")
    assert main(["verify", str(tmp_path / "x.bundle")]) == 1
    assert "decoder.pte" in capsys.readouterr().err


@pytest.mark.parametrize("cut", [0, 20, 5000, 200_000])
def test_a_file_that_ends_early_is_one_sentence(lowered, tmp_path, cut):
    path = tmp_path / "decoder.pte"
    path.write_bytes((lowered("e2b").folder / "executorch" / "decoder.pte").read_bytes()[:cut])
    with pytest.raises(GemmaError, match="not a valid ExecuTorch file"):
        list(stored_weights(path))


def test_verify_and_run_and_bench_use_the_engine(lowered, capsys):
    folder = str(lowered("e2b").folder)
    assert main(["verify", folder, "--threads", "1"]) == 0
    words = ["--engine", "executorch", "--threads", "1"]
    assert main(["run", folder, "hello", *words, "--max-new-tokens", "5", "--json", "--seed", "1"]) == 0
    assert main(["bench", folder, *words, "--prompt-tokens", "20", "--new-tokens", "3", "--repeat", "1"]) == 0
    assert main(["inspect", folder]) == 0
    assert main(["run", folder, "hello"]) == 1
    assert "has no ONNX artifact; it has executorch" in capsys.readouterr().err


def test_a_state_is_come_back_to(lowered):
    decoder = ExecutorchEngine.open(lowered("e2b").bundle, threads=1)
    ids = np.random.default_rng(3).integers(3, tiny.VOCAB, 90)
    decoder.prefill(ids[:50])
    state = decoder.save()
    first = [decoder.forward(Piece(ids[i : i + 1])).logits for i in range(50, 80)]
    decoder.restore(state)
    again = [decoder.forward(Piece(ids[i : i + 1])).logits for i in range(50, 80)]
    assert np.array_equal(first, again)


def test_rewinding_ends_where_the_ring_has_forgotten(lowered):
    decoder = ExecutorchEngine.open(lowered("e2b").bundle, threads=1)
    ids = np.random.default_rng(4).integers(3, tiny.VOCAB, 70)
    expected = [decoder.forward(Piece(ids[i : i + 1])).logits for i in range(70)]
    assert not decoder.rewind(40)
    assert decoder.position == 70
    assert decoder.rewind(70 - TOKENS)
    assert np.array_equal(decoder.forward(Piece(ids[70 - TOKENS : 71 - TOKENS])).logits, expected[70 - TOKENS])


def test_the_context_limit_is_said_before_anything_is_read(lowered):
    decoder = ExecutorchEngine.open(lowered("31b").bundle, threads=1)
    with pytest.raises(GemmaError, match="300 tokens are more than the artifact's context, 256"):
        decoder.prefill(np.full(300, 7))
    assert decoder.position == 0


def test_an_operator_outside_xnnpack_is_named(lowered, tmp_path):
    path = tmp_path / "decoder.pte"
    program = (lowered("gemma3").folder / "executorch" / "decoder.pte").read_bytes()
    path.write_bytes(program.replace(b"aten::index_put_", b"aten::index_add_"))
    with pytest.raises(GemmaError, match=r"XNNPACK does not support (decode|prefill) aten::index_add_"):
        census(path, lowered("gemma3").config)


def test_an_operator_that_lowering_does_not_know_is_named(checkpoint, tmp_path):
    source = Checkpoint.open(checkpoint("gemma3"))
    graph = capture(source.config)
    node = next(node for node in graph.program.graph.nodes if node.target is torch.ops.aten.add.Tensor)
    node.target = torch.ops.aten.atan2.default
    (tmp_path / "weights").mkdir()
    weights, _ = quantize_weights(source, storage_plan(source, MIXED), tmp_path / "weights")
    with pytest.raises(GemmaError, match="aten.atan2.default"):
        lower(graph, SETTINGS, weights, tmp_path)


def test_a_file_larger_than_its_weights_is_refused(checkpoint, tmp_path):
    config = Checkpoint.open(checkpoint("gemma3")).config
    path = tmp_path / "decoder.pte"
    path.write_bytes(bytes(110_000_000))
    check_size(path, 108_000_000, config)
    with pytest.raises(GemmaError, match="110,000,000 bytes for 100,000,000"):
        check_size(path, 100_000_000, config)


def test_what_it_will_take_is_said(lowered, capsys):
    announce(lowered("e2b").weights)
    assert capsys.readouterr().err == "executorch: about 0.6 GB of memory\n"
