"""The ONNX artifact computed in float32: what ships rounds activations to 8 bits, and this tells what that adds."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import onnx

from runtime.bundle.bundle import Bundle, describe
from runtime.bundle.manifest import Manifest
from runtime.engine.onnx import OnnxEngine

from ..targets import single_stage

FLOAT32 = 1  # MatMulNBits' accuracy_level


def open_exact(bundle: Bundle) -> OnnxEngine:
    """An engine of the same files, but for the graph's attribute and the second stage of the head.

    They are linked beside the bundle while it opens.
    """
    bundle = single_stage(bundle)
    artifact = bundle.manifest.artifacts["onnx"]
    with TemporaryDirectory(dir=bundle.folder.parent) as scratch:
        place = Path(scratch)
        for name in used(bundle.manifest):
            (place / name).parent.mkdir(exist_ok=True)
            os.link(bundle.path(name), place / name)
        graph = onnx.load(bundle.path(artifact.file), load_external_data=False)
        (place / artifact.file).write_bytes(exact(graph).SerializeToString())
        return OnnxEngine.open(
            Bundle(place, msgspec.structs.replace(bundle.manifest, files=describe(place, hashed=False)))
        )


def used(manifest: Manifest) -> list[str]:
    return [manifest.artifacts["onnx"].data, *(table.file for table in manifest.tables.values())]


def exact(graph: onnx.ModelProto) -> onnx.ModelProto:
    for node in graph.graph.node:
        for attribute in node.attribute:
            if attribute.name == "accuracy_level":
                attribute.i = FLOAT32
    return graph
