"""Heads of their own: what transformers reads of a folder is what every target answers."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, Gemma4Config

from export import to_onnx
from export.checkpoint import checkpoint as checkpoint_module
from export.checkpoint.checkpoint import Checkpoint
from export.checkpoint.same_values import PIECE, same_values
from export.choose_recipe import suited
from export.inspect_checkpoint import facts
from export.pipeline import export_bundle
from export.prove.runs import ProofSettings
from export.request import ExportSettings
from export.to_onnx.read import stored_weights
from export.to_onnx.settings import Settings
from export.weights.linears import quantize_weights
from export.weights.plan import storage_plan
from quantize.affine import quantize
from quantize.recipe import RECIPES, RELEASED
from quantize.scheme import FLOAT, INT4_B32
from runtime.bundle.bundle import Bundle
from runtime.cli.main import main
from runtime.engine.executorch import ExecutorchEngine
from runtime.engine.onnx import OnnxEngine
from runtime.errors import GemmaError
from tests import tiny
from tests.conftest import SAMPLE, SHORT_TEXT
from tests.ranged import reference
from tests.transformers_model import load_with_report

WEIGHTS, HEAD = "model.safetensors", "lm_head.weight"
IDS = np.random.default_rng(3).integers(3, tiny.VOCAB, 21)
NEAR = 1e-4  # of the largest logit


def drawn_head(table: torch.Tensor) -> torch.Tensor:
    """Of the spread of the table, and no row of it."""
    return torch.randn(table.shape, generator=torch.Generator().manual_seed(7)) * table.float().std()


def untied(name: str, folder: Path, tied: bool | None = True) -> Path:
    """A model that was given another head, as save_pretrained writes it; what config.json says of it is chosen.

    The other fields of a Gemma 4's config.json are those of a released one.
    """
    tiny.write(name, folder)
    model = tiny.reference(name)
    model.lm_head.weight = torch.nn.Parameter(drawn_head(model.model.embed_tokens.weight))
    saved = json.loads((folder / "config.json").read_text())
    model.save_pretrained(folder)
    say_tied(folder, tied, saved if name != "gemma3" else json.loads((folder / "config.json").read_text()))
    tiny.tokenizer().save(str(folder / "tokenizer.json"))
    return folder


def say_tied(folder: Path, tied: bool | None, config: dict[str, Any] | None = None) -> None:
    config = config or json.loads((folder / "config.json").read_text())
    config.pop("tie_word_embeddings", None)
    (folder / "config.json").write_text(json.dumps(config | ({} if tied is None else {"tie_word_embeddings": tied})))


def change(folder: Path, edit) -> Path:
    stored = load_file(folder / WEIGHTS)
    edit(stored)
    save_file(stored, folder / WEIGHTS, metadata={"format": "pt"})
    return folder


def answers(folder: Path, ids: np.ndarray = IDS) -> tuple[np.ndarray, np.ndarray]:
    """Logits of transformers' model of a folder, and those of its token table as the head, (n, vocab)."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    own = model(input_ids=torch.from_numpy(ids)[None]).logits[0].numpy()
    model.lm_head.weight = model.get_input_embeddings().weight
    return own, model(input_ids=torch.from_numpy(ids)[None]).logits[0].numpy()


def relative(logits: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(logits - expected).max() / np.abs(expected).max())


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    made: dict[str, Path] = {}

    def make(name: str) -> Path:
        if name not in made:
            made[name] = untied(name, tmp_path_factory.mktemp("untied") / name)
        return made[name]

    return make


# ---- which folders have one ----


def table_of(stored: dict[str, torch.Tensor]) -> str:
    return next(name for name in stored if name.endswith("embed_tokens.weight"))


STORED = {
    "differs": lambda t: None,
    "differs in one value": lambda t: t.update({HEAD: t[table_of(t)].clone().index_fill_(0, torch.tensor([380]), 0.5)}),
    "equal": lambda t: t.update({HEAD: t[table_of(t)].clone()}),
    "equal in another dtype": lambda t: (
        t.update({HEAD: t[table_of(t)].bfloat16()}),
        t.update({table_of(t): t[table_of(t)].bfloat16().float()}),
    ),
    "no head": lambda t: t.pop(HEAD),
    "no table": lambda t: t.update({HEAD: t.pop(table_of(t))}),
    "another name": lambda t: t.update({f"model.{HEAD}": t.pop(HEAD)}),
}


@pytest.mark.parametrize("tied", [True, False, None])
@pytest.mark.parametrize("stored", STORED)
@pytest.mark.parametrize("name", ["e2b", "gemma3"])
def test_the_head_and_the_table_are_those_that_transformers_reads(own, tmp_path, name, stored, tied):
    folder = change(shutil.copytree(own(name), tmp_path / name), STORED[stored])
    say_tied(folder, tied)
    model, report = load_with_report(AutoModelForCausalLM, folder, dtype=torch.float32)
    if report["missing_keys"]:  # transformers draws them at random
        with pytest.raises(GemmaError, match=f"no {HEAD}" if stored == "no head" else "embed_tokens"):
            Checkpoint.open(folder)
        return
    logits = Checkpoint.open(folder)
    weights = model.state_dict()
    head, table = weights["lm_head.weight"], weights["model.embed_tokens.weight"]
    assert logits.config.own_head is not torch.equal(head, table)
    assert np.array_equal(logits.read("embed_tokens.weight"), table.numpy())
    read = np.concatenate(
        list(logits.read_rows(HEAD if logits.head else "embed_tokens.weight", range(tiny.VOCAB), 100))
    )
    assert np.array_equal(read, head.numpy())
    assert (HEAD in logits.unused) == (stored.startswith("equal"))


@pytest.mark.parametrize("outer", [True, False, None])
@pytest.mark.parametrize("inner", [True, False])
def test_of_a_multimodal_folder_the_outer_config_says_whether_it_is_tied(tmp_path, outer, inner):
    folder = tiny.write("e2b", tmp_path, layout="released")
    config = json.loads((folder / "config.json").read_text())
    config["text_config"]["tie_word_embeddings"] = inner
    say_tied(folder, outer, config)
    if Gemma4Config.from_pretrained(folder).tie_word_embeddings:
        assert not Checkpoint.open(folder).config.own_head
    else:
        with pytest.raises(GemmaError, match=f"no {HEAD}"):
            Checkpoint.open(folder)


def test_gemma_3_calls_it_by_another_name_where_its_parts_have_one(own, tmp_path):
    """As transformers' conversion of the first multimodal folders of Gemma 3; no Gemma 4 has such a name."""
    edit = lambda t: t.update({f"language_model.{HEAD}": t.pop(HEAD)})  # noqa: E731
    assert Checkpoint.open(change(shutil.copytree(own("gemma3"), tmp_path / "a"), edit)).config.own_head
    with pytest.raises(GemmaError, match=f"unexpected: language_model.{HEAD}"):
        Checkpoint.open(change(shutil.copytree(own("e2b"), tmp_path / "b"), edit))


@dataclasses.dataclass(frozen=True)
class Watched:
    """A matrix of a checkpoint that remembers which rows were read."""

    values: np.ndarray
    read: list[slice]
    dtype: str = "F32"
    source_name: str = ""
    origin: str = ""

    @property
    def shape(self) -> tuple[int, ...]:
        return self.values.shape

    def opened(self):
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def __getitem__(self, rows: slice) -> np.ndarray:
        self.read.append(rows)
        return self.values[rows]


def test_a_head_is_compared_in_pieces_until_one_differs():
    table = np.ones((5 * PIECE, 2), np.float32)
    changed = table.copy()
    changed[PIECE + 1, 1] = 2
    a, b = Watched(table, []), Watched(changed, [])
    assert not same_values(a, b)
    assert a.read == b.read == [slice(0, PIECE), slice(PIECE, 2 * PIECE)]
    assert same_values(Watched(table, []), Watched(table.copy(), []))
    assert not same_values(Watched(table, []), Watched(table[:-1], []))


# ---- what targets answer ----


@pytest.mark.slow
@pytest.mark.parametrize("name", ["e2b", "gemma3"])
def test_a_float_artifact_answers_what_transformers_answers(own, tmp_path, name):
    export_bundle(own(name), tmp_path / "x.bundle", ["onnx"], RECIPES["float"])
    expected, tied = answers(own(name))
    answered = OnnxEngine.open(Bundle.open(tmp_path / "x.bundle"), 1).prefill(IDS, len(IDS)).logits
    assert relative(answered, expected) <= NEAR
    assert relative(tied, expected) > 0.1


@pytest.mark.slow
def test_the_sample_answers_what_transformers_answers(tmp_path):
    folder = shutil.copytree(SAMPLE, tmp_path / "sample")
    change(folder, lambda t: t.update({HEAD: drawn_head(t[table_of(t)]).bfloat16()}))
    export_bundle(folder, tmp_path / "x.bundle", ["onnx"], RECIPES["float"])
    expected, tied = answers(folder)
    answered = OnnxEngine.open(Bundle.open(tmp_path / "x.bundle"), 1).prefill(IDS, len(IDS)).logits
    assert relative(answered, expected) <= NEAR
    assert relative(tied, expected) > 0.1


@pytest.mark.slow
def test_a_float_package_of_core_ml_answers_what_transformers_answers(own, tmp_path, monkeypatch):
    pytest.importorskip("coremltools", reason="the extra coreml is not installed")
    from export import to_coreml
    from export.to_coreml.engine import CoreMLEngine
    from export.to_coreml.settings import Settings

    target = to_coreml.target(Settings(tokens=16))
    settings = ExportSettings(proof=ProofSettings("few"))
    export_bundle(own("gemma3"), tmp_path / "x.bundle", [target], RECIPES["float"], settings=settings)
    expected, tied = answers(own("gemma3"))
    answered = CoreMLEngine.open(Bundle.open(tmp_path / "x.bundle"), "float32").prefill(IDS).logits
    assert relative(answered[-1], expected[-1]) <= NEAR
    assert relative(tied[-1], expected[-1]) > 0.1


@pytest.mark.slow
def test_a_program_of_executorch_answers_what_transformers_answers(own, tmp_path):
    """In 8 bits, with activations rounded by row."""
    pytest.importorskip("executorch", reason="the extra executorch is not installed")
    export_bundle(own("gemma3"), tmp_path / "x.bundle", ["executorch"], RECIPES["int8"])
    expected, tied = answers(own("gemma3"))
    answered = ExecutorchEngine.open(Bundle.open(tmp_path / "x.bundle"), threads=1).prefill(IDS).logits
    assert relative(answered[-1], expected[-1]) <= 0.1
    assert relative(tied[-1], expected[-1]) > 0.5


@pytest.mark.slow
def test_a_calibrated_bundle_holds_it_at_8_bits_in_one_stage(own, tmp_path):
    export_bundle(own("e2b"), tmp_path / "x.bundle", ["onnx"], RECIPES["int4"], settings=SHORT_TEXT)
    bundle = Bundle.open(tmp_path / "x.bundle")
    head = load_file(own("e2b") / WEIGHTS)[HEAD].numpy()
    logits = np.zeros_like(head)
    for parameters, pieces in stored_weights(bundle.path(bundle.manifest.artifacts["onnx"].file)):
        for start, values in pieces if parameters == ["head.weight"] else ():
            logits[start : start + len(values)] = values
    assert (np.abs(logits - head) <= 0.51 * np.abs(head).max(1, keepdims=True) / 127).mean() > 0.9
    assert bundle.manifest.model.rescored == 0
    assert bundle.manifest.recipe.rules[0] == ["head", "int8/row"]
    assert bundle.manifest.model.parameters["head"] == head.size
    assert "a head of its own" in bundle.manifest.recipe.summary


@pytest.mark.parametrize("name", [name for name in RECIPES if name != RELEASED])
def test_every_recipe_for_floats_stores_the_head_that_there_is(own, tmp_path, name):
    """Calibration changes no more than how it is rounded."""
    source = Checkpoint.open(own("e2b"))
    recipe = suited(RECIPES[name], source.config)
    weights, _ = quantize_weights(source, storage_plan(source, recipe), tmp_path)
    head = load_file(own("e2b") / WEIGHTS)[HEAD].numpy()
    assert recipe.rescored == 0
    assert recipe.scheme("head").bits in (0, 8)
    assert relative(weights.floats("head.weight"), head) < 0.006
    assert suited(RECIPES[name], Checkpoint.open(tiny.write("e2b", tmp_path / "tied")).config) == RECIPES[name]


# ---- releases of integers ----


@pytest.fixture
def release(generated, tmp_path) -> Path:
    """A release whose head has its rows in another order."""
    folder = shutil.copytree(generated("e2b-qat-mobile-tiny"), tmp_path / "release")
    parts = (HEAD, f"{HEAD}_scale")
    return change(folder, lambda t: t.update({name: t[name].flip(0).contiguous() for name in parts}))


@pytest.mark.slow
def test_a_release_of_integers_with_its_own_head_answers_what_transformers_answers(release, tmp_path):
    """With float caches, the projection as released and no ranges: what is left are the integers."""
    exact = dataclasses.replace(RECIPES[RELEASED], cache=FLOAT, rules=RECIPES["float"].rules)
    change(release, lambda t: [value.zero_() for key, value in t.items() if key.endswith("activation_scale")])
    export_bundle(release, tmp_path / "x.bundle", [to_onnx.target(Settings(accuracy=1))], exact)
    bundle, model = Bundle.open(tmp_path / "x.bundle"), reference(release, static=True)
    expected = model(input_ids=torch.from_numpy(IDS)[None]).logits[0].numpy()
    assert relative(OnnxEngine.open(bundle, 1).prefill(IDS, len(IDS)).logits, expected) <= 1e-3
    assert relative(expected[:, ::-1], expected) > 0.1  # those of the table
    rules = dict(reversed(bundle.manifest.recipe.rules))  # the first wins
    assert (rules["head"], rules["rows.tokens"], bundle.manifest.model.rescored) == ("int2/row", "int2/row", 0)


@pytest.mark.parametrize(
    ("part", "edit"),
    [
        (HEAD, lambda codes: codes[5].bitwise_not_()),
        (f"{HEAD}_scale", lambda scales: scales[1020].mul_(2)),
        (HEAD, lambda codes: None),
    ],
)
def test_a_release_has_a_head_of_its_own_where_an_integer_or_a_scale_differs(generated, tmp_path, part, edit):
    folder = shutil.copytree(generated("e2b-qat-mobile-tiny"), tmp_path / "source")
    before = load_file(folder / WEIGHTS)[part]
    source = Checkpoint.open(change(folder, lambda t: edit(t[part])))
    assert source.config.own_head is not torch.equal(before, load_file(folder / WEIGHTS)[part])
    assert source.config.own_head is (HEAD in source.entries)


def test_a_release_may_have_a_head_of_floats(release, tmp_path):
    values = torch.randn(1024, 64)

    def edit(stored):
        for name in [name for name in stored if name.startswith("lm_head.")]:
            del stored[name]
        stored[HEAD] = values

    change(release, edit)
    source = Checkpoint.open(release)
    weights, _ = quantize_weights(source, storage_plan(source, suited(RECIPES[RELEASED], source.config)), tmp_path)
    assert relative(weights.floats("head.weight"), values.numpy()) < 0.006


def test_a_head_that_was_trained_for_4_bits_is_stored_as_it_is(own, tmp_path):
    """Beside a token table that was not."""
    folder = shutil.copytree(own("e2b"), tmp_path / "source")

    def edit(stored):
        for name, value in stored.items():
            if name == HEAD or ("_proj.weight" in name and "per_layer" not in name):
                made, _ = quantize(value.bfloat16().float().numpy(), INT4_B32, "absmax")
                scales = np.repeat(made.scales.astype(np.float16).astype(np.float32), 32, 1)[:, : value.shape[1]]
                stored[name] = torch.from_numpy(made.codes() * scales).bfloat16()

    source = Checkpoint.open(change(folder, edit))
    assert HEAD in source.on_grid
    assert "embed_tokens.weight" not in source.on_grid
    weights, _ = quantize_weights(source, storage_plan(source, suited(RECIPES[RELEASED], source.config)), tmp_path)
    assert torch.equal(torch.from_numpy(weights.floats("head.weight")).bfloat16(), load_file(folder / WEIGHTS)[HEAD])


# ---- what can not be ----


@pytest.mark.slow
@pytest.mark.parametrize(
    ("recipe", "figure"),
    [("float", "largest relative difference of a logit"), ("int4-datafree", "top-1 agreement with the float model")],
)
@pytest.mark.parametrize("accept_loss", [False, True])
def test_a_head_that_is_dropped_is_seen_by_the_proof(own, tmp_path, monkeypatch, recipe, figure, accept_loss):
    monkeypatch.setattr(checkpoint_module, "own_head", lambda logits: False)
    with pytest.raises(GemmaError, match=f"{figure} is"):
        export_bundle(own("gemma3"), tmp_path / "x.bundle", ["onnx"], RECIPES[recipe], accept_loss=accept_loss)


@pytest.mark.parametrize(
    ("edit", "named"),
    [
        (lambda t: t.update({HEAD: torch.zeros(tiny.VOCAB, 32)}), f"1 misshapen: {HEAD} [384, 32] instead of"),
        (lambda t: t.update({HEAD: torch.zeros(tiny.VOCAB + 16, 64)}), f"1 misshapen: {HEAD} [400, 64] instead of"),
        (lambda t: t.update({HEAD: torch.zeros(())}), f"1 misshapen: {HEAD} [] instead of"),
        (lambda t: t.update({HEAD: t[HEAD].to(torch.int32)}), f"of an unsupported dtype: {HEAD} I32"),
        (lambda t: t[HEAD][380].fill_(float("nan")), f"{HEAD}: 64 values are NaN or Inf"),
        (lambda t: t[HEAD][1, 1].fill_(float("inf")), f"{HEAD}: 1 values are NaN or Inf"),
        (lambda t: t.update({f"model.{HEAD}": t[HEAD].clone()}), f"{HEAD} is stored twice"),
        (lambda t: t.update({"lm_head.bias": torch.zeros(tiny.VOCAB)}), "1 unexpected: lm_head.bias"),
    ],
)
def test_a_head_that_can_not_be_is_refused_in_a_sentence(own, tmp_path, capsys, edit, named):
    folder = change(shutil.copytree(own("e2b"), tmp_path / "source"), edit)
    assert main(["export", str(folder), "-o", str(tmp_path / "x.bundle")]) == 1
    err = capsys.readouterr().err
    assert named in err
    assert "Traceback" not in err
    assert "calibrating" not in err
    assert not (tmp_path / "x.bundle").exists()


@pytest.mark.parametrize("value", [0.0, float("nan")])
def test_a_scale_of_a_released_head_that_is_none_is_refused(release, tmp_path, capsys, value):
    change(release, lambda t: t[f"{HEAD}_scale"][3].fill_(value))
    assert main(["export", str(release), "-o", str(tmp_path / "x.bundle")]) == 1
    assert f"{HEAD}_scale: 1 scales are zero, NaN or Inf" in capsys.readouterr().err


def test_inspect_says_that_it_is_its_own_and_counts_it(own, checkpoint):
    untied_facts, tied_facts = facts(str(own("e2b"))), facts(str(checkpoint("e2b")))
    model = AutoModelForCausalLM.from_pretrained(own("e2b"), dtype=torch.float32)
    assert sum(untied_facts["parameters"].values()) == sum(one.numel() for one in model.state_dict().values())
    assert untied_facts["head"].startswith("of its own")
    assert "head" not in tied_facts
    size = tiny.VOCAB * 64
    assert untied_facts["parameters"]["head"] == untied_facts["parameters"]["token embeddings"] == size
    assert untied_facts["recipes"]["float"] == tied_facts["recipes"]["float"]  # rows beside a head, as ever
    assert untied_facts["recipes"]["int4-head8"] == tied_facts["recipes"]["int4-head8"]
    assert untied_facts["recipes"]["int4-b32"]["resident"] > tied_facts["recipes"]["int4-b32"]["resident"]
