"""What runs a bundle: an engine by its artifact's name."""

from __future__ import annotations

from collections.abc import Callable

from ..bundle.bundle import Bundle
from ..bundle.manifest import Manifest
from ..errors import BundleError, RequestError
from .contract import Engine, Weights
from .executorch import ExecutorchWeights
from .memory_plan import Plan, Planned
from .onnx import OnnxWeights

ENGINES: dict[str, type[Weights]] = {
    "onnx": OnnxWeights,
    "executorch": ExecutorchWeights,
}
DEFAULT = "onnx"


def check_engine(engine: str) -> None:
    """Raises GemmaError for a name that no engine here has."""
    if not isinstance(engine, str) or engine not in ENGINES:
        raise RequestError(f"there is no engine {engine!r}", f"choose from {', '.join(ENGINES)}")


def open_weights(engine: str, bundle: Bundle, threads: int = 0, beside: Callable[[], object] = lambda: None) -> Weights:
    """`beside` is called while the artifact loads.  Raises GemmaError if the bundle has no artifact of that name."""
    check_engine(engine)
    return ENGINES[engine](bundle, threads, beside)


def open_engine(engine: str, bundle: Bundle, threads: int = 0) -> Engine:
    """An engine whose weights nobody shares.  Raises GemmaError if the bundle has no artifact of that name."""
    return open_weights(engine, bundle, threads).engine()


def first_engine(manifest: Manifest) -> str:
    """The engine whose answers are golden.  Raises GemmaError if none runs here."""
    name = next((name for name in ENGINES if name in manifest.artifacts), None)
    if name is None:
        artifacts = ", ".join(manifest.artifacts) or "nothing"
        raise BundleError(
            f"the bundle has no artifact that runs here; it has {artifacts}", f"export it with targets=['{DEFAULT}']"
        )
    return name


def longest(manifest: Manifest, engine: str) -> int:
    """Most positions of a model in an engine."""
    artifact = manifest.artifacts.get(engine)
    most = manifest.model.context
    return min(most, artifact.context) if artifact and artifact.context else most


def first_planner(manifest: Manifest, *, text: bool = False) -> Planned | None:
    """The memory plan in the first engine that runs the bundle and has one."""
    plans = (planner(manifest, engine, text=text) for engine in ENGINES if engine in manifest.artifacts)
    return next((plan for plan in plans if plan), None)


def planner(manifest: Manifest, engine: str, *, text: bool = False) -> Planned | None:
    """The memory plan of a bundle in an engine, as a function of the context; None where the engine has no plan.

    `text`: with the tokenizer, and with the ends of turns.  Raises GemmaError if the bundle has no such artifact.
    """
    planned = ENGINES[engine].planned
    if planned(manifest, 1, text=text) is None:
        return None

    def plan(context: int) -> Plan:
        of_context = planned(manifest, context, text=text)
        assert of_context is not None
        return of_context

    return plan
