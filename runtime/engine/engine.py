"""What runs a bundle: an engine by its artifact's name."""

from __future__ import annotations

from collections.abc import Callable

from ..bundle.bundle import Bundle
from ..bundle.manifest import Manifest
from ..errors import GemmaError
from .contract import Engine
from .executorch import ExecutorchEngine
from .onnx import OnnxEngine

ENGINES: dict[str, Callable[[Bundle, int, Callable[[], object]], Engine]] = {
    "onnx": OnnxEngine,
    "executorch": ExecutorchEngine,
}
DEFAULT = "onnx"


def open_engine(engine: str, bundle: Bundle, threads: int = 0, beside: Callable[[], object] = lambda: None) -> Engine:
    """`beside` is called while the engine loads.  Raises GemmaError if the bundle has no such artifact."""
    return ENGINES[engine](bundle, threads, beside)


def first_engine(manifest: Manifest) -> str:
    """The engine whose answers are golden.  Raises GemmaError if none runs here."""
    found = next((name for name in ENGINES if name in manifest.artifacts), None)
    if found is None:
        made = ", ".join(manifest.artifacts) or "nothing"
        raise GemmaError(f"the bundle has no artifact that runs here; it has {made}", f"export it with --to {DEFAULT}")
    return found


def longest(manifest: Manifest, engine: str) -> int:
    """Most positions of a model in an engine."""
    artifact = manifest.artifacts.get(engine)
    most = manifest.model.context
    return min(most, artifact.context) if artifact and artifact.context else most
