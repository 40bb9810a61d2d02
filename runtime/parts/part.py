"""A part's ONNX artifact in onnxruntime: named arrays in, named arrays out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import onnxruntime as ort
from numpy.typing import NDArray

from ..bundle.bundle import Bundle
from ..bundle.manifest import Artifact, Part, Tensor
from ..errors import BundleError, GemmaError, RequestError
from ..machine.idle_cores import idle_cores
from .arrays import EXPORT_AGAIN, Arrays, check_arrays

TYPES = {  # of onnxruntime, by the manifest's
    "float32": "tensor(float)",
    "float16": "tensor(float16)",
    "int8": "tensor(int8)",
    "uint8": "tensor(uint8)",
    "int32": "tensor(int32)",
    "int64": "tensor(int64)",
    "bool": "tensor(bool)",
}


def part_of(bundle: Bundle, name: str) -> Part:
    """Return a part of a bundle by its name.  Raises BundleError if the bundle has none of that name."""
    part = bundle.manifest.parts.get(name)
    if part is None:
        names = ", ".join(bundle.manifest.parts) or "none"
        raise BundleError(f"{bundle.folder}: no part {name!r}, the bundle's are: {names}", "export it with that part")
    return part


class OnnxPart:
    """A part that was loaded.  `settings` are the manifest's; not for two threads at once."""

    def __init__(self, bundle: Bundle, name: str, threads: int = 0) -> None:
        """Load the ONNX artifact of a part; 0 threads are the cores that are idle.

        Raises BundleError if the bundle has no such part, or none for onnxruntime, if onnxruntime refuses the graph,
        or if the graph has other inputs and outputs than bundle.json says.
        """
        if threads < 0:
            raise RequestError(f"threads must be 0 or more, not {threads}", "0 takes the cores that are idle")
        part = part_of(bundle, name)
        artifact = part.artifacts.get("onnx")
        if artifact is None:
            targets = ", ".join([*part.artifacts, *part.functions]) or "nothing"
            raise BundleError(
                f"{bundle.folder}: the part {name!r} has no ONNX artifact; it has {targets}", EXPORT_AGAIN
            )
        self.name, self.settings, self.artifact = name, part.settings, artifact
        self._source = f"{bundle.folder}: part {name!r}"
        self._session = load(bundle, artifact, threads or idle_cores())
        check_ends(self._source, artifact.inputs, self._session.get_inputs())
        check_ends(self._source, artifact.outputs, self._session.get_outputs())

    def run(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """Run the graph once, and return its outputs by name.

        Raises GemmaError if inputs or outputs are not what bundle.json says, or onnxruntime fails.
        """
        sizes: dict[str, int] = {}
        check_arrays(self._source, self.artifact.inputs, inputs, sizes, self.artifact.context)
        names = [tensor.name for tensor in self.artifact.outputs]
        try:
            values = self._session.run(names, dict(inputs))
        except Exception as error:  # onnxruntime's own exceptions derive from Exception
            raise GemmaError(f"{self._source}: onnxruntime: {error}", "check it with `gemma-edge verify`") from error
        outputs: dict[str, NDArray[Any]] = dict(zip(names, values, strict=True))
        check_arrays(self._source, self.artifact.outputs, outputs, sizes)
        return outputs


def load(bundle: Bundle, artifact: Artifact, threads: int) -> ort.InferenceSession:
    """Open a graph of the bundle.  Raises BundleError if onnxruntime cannot load it."""
    path = bundle.path(artifact.file)
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    options.enable_mem_pattern = False  # it would keep the memory of the largest call for the life of the session
    try:
        return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own exceptions derive from Exception
        raise BundleError(f"{path}: onnxruntime cannot load it: {error}", EXPORT_AGAIN) from error


def check_ends(source: str, tensors: Sequence[Tensor], nodes: Sequence[Any]) -> None:
    """Raise BundleError unless a graph's inputs, or its outputs, have the names, types and sizes of the manifest."""
    stated = {tensor.name: (TYPES.get(tensor.dtype), fixed(tensor.shape)) for tensor in tensors}
    stored = {node.name: (node.type, fixed(node.shape)) for node in nodes}
    wrong = sorted(name for name in stated.keys() | stored.keys() if stated.get(name) != stored.get(name))
    if wrong:
        raise BundleError(f"{source}: {', '.join(wrong)} of the graph are not as in bundle.json", EXPORT_AGAIN)


def fixed(shape: Sequence[int | str | None]) -> list[int | None]:
    """Return the sizes of a shape, None where one varies."""
    return [size if isinstance(size, int) else None for size in shape]
