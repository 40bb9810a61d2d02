"""`python tests/mobile/write_coreml.py BUNDLE OUT`: features of a saved Core ML package, and what its calls are fed.

OUT/package.json: of a function, features by name with dtype and shape, as they are in the package's specification.
OUT/calls.jsonl: of a call, its masks and numbers, as the exporter's own decoder feeds them.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from coremltools.proto import Model_pb2

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))

from export.to_coreml.engine import CoreMLEngine  # noqa: E402
from runtime.bundle.bundle import Bundle  # noqa: E402
from runtime.engine.piece import Piece  # noqa: E402

DTYPES = {65568: "float32", 65552: "float16", 131104: "int32"}  # MLMultiArrayDataType
CALLS = ((0, 1), (0, 5), (3, 128), (40, 1), (500, 77), (2000, 1), (2000, 128))  # position, tokens


def main(folder: Path, out: Path) -> None:
    if out.exists():
        shutil.rmtree(out)
    shutil.copytree(folder, out / "bundle")
    bundle = Bundle.open(out / "bundle")
    program = bundle.path(bundle.manifest.artifacts["coreml"].file)
    (out / "package.json").write_text(json.dumps(features(program.read_bytes()), indent=1))
    (out / "calls.jsonl").write_text("".join(json.dumps(one) + "\n" for one in calls(bundle)))


def features(program: bytes) -> dict[str, dict[str, dict[str, Any]]]:
    """{function: {"inputs" | "outputs" | "states": {name: {"dtype", "shape"}}}}"""
    spec = Model_pb2.Model.FromString(program)  # coremltools' own loader writes into the package
    return {
        function.name: {
            "inputs": {one.name: array(one.type.multiArrayType) for one in function.input},
            "outputs": {one.name: array(one.type.multiArrayType) for one in function.output},
            "states": {one.name: array(one.type.stateType.arrayType) for one in function.state},
        }
        for function in spec.description.functions
    }


def array(found: Any) -> dict[str, Any]:
    return {"dtype": DTYPES[found.dataType], "shape": list(found.shape)}


def calls(bundle: Bundle) -> Iterator[dict[str, Any]]:
    decoder = CoreMLEngine.open(bundle)
    for position, tokens in CALLS:
        decoder.position = position
        fed = decoder._feeds(Piece(np.arange(tokens) + 5))
        masks = {name: hashlib.sha256(one.tobytes()).hexdigest() for name, one in fed.items() if name.endswith("_mask")}
        numbers = {name: int(fed[name][0]) for name in ("position", "kept", "tokens") if name in fed}
        yield {"position": position, "tokens": tokens, "masks": masks, "numbers": numbers}


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
