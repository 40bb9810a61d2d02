"""What an export of the sample measures: another processor rounds otherwise, and comes near these.

    python tests/measured.py

prints it as JSON, with the hashes of what no processor changes.  The instructions that torch takes can be chosen by
ATEN_CPU_CAPABILITY.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

ROOT = Path(__file__).resolve().parent
if __name__ == "__main__":
    sys.path.insert(0, str(ROOT.parent))

import torch  # noqa: E402

from export.checkpoint.checkpoint import Checkpoint  # noqa: E402
from export.pipeline import export_bundle, prepare  # noqa: E402
from export.reference import FloatSource, hidden_states  # noqa: E402
from export.weights.cache_scales import Ranges  # noqa: E402
from quantize.recipe import RECIPES  # noqa: E402
from tests.bundle_bytes import SAMPLE, hashes  # noqa: E402

GOLDEN = ROOT / "golden" / "measured.json"
RECIPE = "int4-datafree"
DIGITS = 6


def measured(bundle: Path) -> dict[str, Any]:
    """Scales of caches, the figures of parity.json and the answers of golden.json."""
    parity, golden = (json.loads((bundle / f"{name}.json").read_text()) for name in ("parity", "golden"))
    return {
        "cache scales": cache_scales(),
        "parity": {report["artifact"]: report["against"] for report in parity["reports"]},
        "golden": [{name: prompt[name] for name in ("prompt", "ids", "top_logits")} for prompt in golden["prompts"]],
    }


def cache_scales() -> dict[str, list[float]]:
    """By parameter, all values of (1, kv_heads, 1, dim) in one line."""
    checkpoint = Checkpoint.open(SAMPLE)
    ranges = Ranges(checkpoint.config, {})
    ids = prepare(checkpoint, {}, RECIPES[RECIPE]).ids
    hidden_states(FloatSource(checkpoint), ids[None], ranges.see)
    return {name: [float(f"{value:.{DIGITS}g}") for value in scale.ravel()] for name, scale in ranges.scales().items()}


def export_and_measure() -> dict[str, Any]:
    """Export the sample; what was measured, and the hashes of what was not."""
    with TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
        bundle, bytes_folder = Path(folder) / "x.bundle", Path(folder) / "bytes"
        bytes_folder.mkdir()
        export_bundle(SAMPLE, bundle, ["onnx"], RECIPES[RECIPE])
        return {"measured": measured(bundle), "hashes": hashes(RECIPE, bytes_folder)}


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    result = export_and_measure()
    result["capability"] = torch.backends.cpu.get_cpu_capability()
    print(json.dumps(result))
