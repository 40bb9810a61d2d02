"""The .pte of tiny models: exact weights, the numbers of the same forms in torch, nothing outside XNNPACK."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch

pytest.importorskip("executorch", reason="the extra executorch is not installed")

from export import executorch_methods, executorch_operators, targets, to_executorch  # noqa: E402
from export.capture import capture  # noqa: E402
from export.checkpoint import Checkpoint  # noqa: E402
from export.pipeline import export_bundle  # noqa: E402
from export.read_executorch import File, stored_weights  # noqa: E402
from export.verify import Report, check_weights  # noqa: E402
from export.weights import Weights, quantize_weights  # noqa: E402
from quantize.recipe import RECIPES, Gate, Recipe, rules  # noqa: E402
from quantize.scheme import Scheme  # noqa: E402
from runtime.bundle import Bundle  # noqa: E402
from runtime.cli import main  # noqa: E402
from runtime.decoder import Decoder  # noqa: E402
from runtime.errors import GemmaError  # noqa: E402
from runtime.executorch_decoder import ExecutorchDecoder  # noqa: E402

pytestmark = pytest.mark.slow
NEAR = 5e-3  # of the largest logit
TOKENS = 16  # of a call of prefill: more than a tiny window
# A container of every kind: 2 and 4 bits a row and in blocks, 8 bits a row and in blocks.
MIXED = Recipe(
    "mixed", "every container",
    rules(("rows.*", Scheme(8)), ("*per_layer_*", Scheme(8)), ("head", Scheme(4, 32)), ("*.q_proj", Scheme(2)),
          ("*.k_proj", Scheme(4)), ("*.o_proj", Scheme(8, 32)), ("*.up_proj", Scheme(2, 64)), ("*", Scheme(4, 32))),
    Gate(0, 100),
)  # fmt: skip


@dataclass(frozen=True)
class Lowered:
    folder: Path
    weights: Weights
    bundle: Bundle
    eager: ExecutorchDecoder  # the same methods, run by torch


@pytest.fixture(scope="module")
def lowered(checkpoint, tmp_path_factory):
    made: dict[str, Lowered] = {}

    def make(name: str) -> Lowered:
        if name not in made:
            made[name] = make_lowered(checkpoint(name), tmp_path_factory.mktemp(name) / "x.bundle")
        return made[name]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(to_executorch, "TOKENS", TOKENS)
        yield make
