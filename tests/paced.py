"""An engine that does something before each of its calls: it waits, counts, or holds a test's thread."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from runtime.bundle.bundle import Bundle
from runtime.engine.contract import Step
from runtime.engine.onnx import OnnxEngine, OnnxWeights
from runtime.engine.piece import Piece
from runtime.session.model import Model
from runtime.session.session import Session


class PacedWeights(OnnxWeights):
    """onnxruntime's, on one thread."""

    def __init__(self, bundle: Bundle, before: Callable[[Piece], object]) -> None:
        super().__init__(bundle, 1)
        self.before = before

    def engine(self) -> OnnxEngine:
        return PacedEngine(self, self.before)


class PacedEngine(OnnxEngine):
    def __init__(self, weights: OnnxWeights, before: Callable[[Piece], object]) -> None:
        super().__init__(weights)
        self.before = before

    def forward(self, piece: Piece) -> Step:
        self.before(piece)
        return super().forward(piece)


@dataclass
class Pause:
    """Seconds before a call, which a test may change."""

    seconds: float

    def __call__(self, piece: Piece) -> None:
        time.sleep(self.seconds)


def paced(folder: Path, before: Callable[[Piece], object]) -> Session:
    """A session of the bundle; `before` is told each piece that its engine is about to read."""
    bundle = Bundle.open(folder)
    return Model(bundle, weights=PacedWeights(bundle, before)).session()
