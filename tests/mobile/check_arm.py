"""The golden answers of a bundle on this processor: `check_arm.py BUNDLE [--plain]`; its last line is JSON.

--plain: without KleidiAI, whatever the bundle says.  check_arm.sh runs it on an emulated ARM processor too.
"""

from __future__ import annotations

import json
import platform
import sys
from pathlib import Path

import msgspec

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from runtime.bundle.bundle import Bundle
from runtime.engine.onnx import OnnxEngine
from runtime.measure.golden import Goldens, check, record


def opened(folder: Path, *, plain: bool) -> Bundle:
    bundle = Bundle.open(folder)
    if plain:
        artifacts = bundle.manifest.artifacts
        artifacts["onnx"] = msgspec.structs.replace(artifacts["onnx"], kleidiai=False)
    return bundle


def main() -> None:
    folder, plain = Path(sys.argv[1]), "--plain" in sys.argv[2:]
    bundle = opened(folder, plain=plain)
    decoder = OnnxEngine.open(bundle, threads=1)
    goldens = msgspec.json.decode(bundle.path(bundle.manifest.golden).read_bytes(), type=Goldens)
    worst, equal, steps = 0.0, 0, 0
    for golden in goldens.prompts:
        ids = record(decoder, golden.prompt, len(golden.ids)).ids
        found = check(decoder, golden, goldens.tolerance)
        same = sum(mine == theirs for mine, theirs in zip(ids, golden.ids, strict=True))
        print(f"{found.worst:8.4f} of {goldens.tolerance:.4f}  {same:3d} of {len(ids)} tokens equal  {ids}")
        worst, equal, steps = max(worst, found.worst), equal + same, steps + len(ids)
        if not found.passes(goldens.tolerance):
            raise SystemExit(f"{platform.machine()}: the golden answer does not hold")
    figures = {"machine": platform.machine(), "kleidiai": bundle.manifest.artifacts["onnx"].kleidiai}
    print(json.dumps({**figures, "worst": round(worst, 4), "equal": equal, "steps": steps}))


if __name__ == "__main__":
    main()
