"""Checkpoints and bundles that many tests share, made once a run."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers.utils import logging

from export.calibrate.amounts import TextAmounts
from export.pipeline import export_bundle
from export.prove.runs import ProofSettings
from export.request import AS_SHIPPED, ExportSettings
from export.synth.shapes import named_shape
from export.synth.write import synthesize
from quantize.recipe import RECIPES
from tests import ranged, tiny

torch.set_num_threads(1)  # tiny tensors: handing them out costs twenty times more than the work
logging.set_verbosity_error()
logging.disable_progress_bar()

SHORT_TEXT = ExportSettings(TextAmounts(written_for_quick=512, written_for_gptq=512, sequence=16))
SAMPLE = Path(__file__).parent / "sample" / "checkpoint"


@pytest.fixture(autouse=True)
def no_gradients() -> object:
    with torch.no_grad():
        yield


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    folders: dict[str, Path] = {}

    def make(name: str) -> Path:
        if name not in folders:
            folders[name] = tiny.write(name, tmp_path_factory.mktemp("checkpoints") / name)
        return folders[name]

    return make


@pytest.fixture(scope="session")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """`generated("e2b-tiny")`: a folder of random values in a shape that `synth` knows."""
    folders: dict[str, Path] = {}

    def make(name: str) -> Path:
        if name not in folders:
            folders[name] = tmp_path_factory.mktemp("generated") / name
            synthesize(named_shape(name), folders[name], 0, replace=False)
        return folders[name]

    return make


@pytest.fixture(scope="session")
def ranged_release(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """`ranged_release("e2b-qat-mobile-tiny")`: a generated release with static ranges that clip and decide."""
    folders: dict[str, Path] = {}

    def make(name: str) -> Path:
        if name not in folders:
            folders[name] = tmp_path_factory.mktemp("ranged") / name
            synthesize(named_shape(name), folders[name], 0, replace=False)
            ranged.make(folders[name])
        return folders[name]

    return make


@pytest.fixture(scope="session")
def bundle(checkpoint: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """`bundle("e2b", "float")`: a bundle of a tiny checkpoint, or of the sample."""
    folders: dict[tuple[str, str], Path] = {}

    def make(name: str, recipe: str = "float") -> Path:
        if (name, recipe) not in folders:
            source = SAMPLE if name == "sample" else checkpoint(name)
            folders[name, recipe] = tmp_path_factory.mktemp("bundles") / f"{name}-{recipe}.bundle"
            settings = AS_SHIPPED if name == "sample" else SHORT_TEXT  # random weights have nothing to say
            with contextlib.redirect_stderr(io.StringIO()):  # whoever asks for a bundle reads a stream of its own
                export_bundle(source, folders[name, recipe], ["onnx"], RECIPES[recipe], settings=settings)
        return folders[name, recipe]

    return make


@pytest.fixture(scope="session")
def coreml_bundle(checkpoint: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """`coreml_bundle("e2b", "int4-datafree")`: Core ML alone, calls of 16 tokens, compared in a few places."""
    pytest.importorskip("coremltools", reason="the extra coreml is not installed")
    from export import to_coreml
    from export.to_coreml.settings import Settings

    folders: dict[tuple[str, str], Path] = {}

    def make(name: str, recipe: str) -> Path:
        if (name, recipe) not in folders:
            folders[name, recipe] = tmp_path_factory.mktemp("coreml") / f"{name}-{recipe}.bundle"
            settings = ExportSettings(proof=ProofSettings("few", compared_rows=2))
            target = to_coreml.target(Settings(tokens=16))
            export_bundle(checkpoint(name), folders[name, recipe], [target], RECIPES[recipe], settings=settings)
        return folders[name, recipe]

    return make
