"""Which program runs a bundle: the engine's name is its artifact's."""

from __future__ import annotations

from collections.abc import Callable

from .bundle import Bundle
from .decoder import Decoder
from .executorch_decoder import ExecutorchDecoder

ENGINES: dict[str, type[Decoder] | type[ExecutorchDecoder]] = {"onnx": Decoder, "executorch": ExecutorchDecoder}
DEFAULT = "onnx"


def open_decoder(
    engine: str, bundle: Bundle, threads: int = 0, beside: Callable[[], object] = lambda: None
) -> Decoder | ExecutorchDecoder:
    """`beside` is called while the engine loads.  Raises GemmaError if the bundle or this machine has no such engine."""
    return ENGINES[engine](bundle, threads, beside)
