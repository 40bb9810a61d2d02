"""`python tests/mobile/write_executorch.py OUT`: a small program for ExecuTorch, and what it answers in Python.

OUT/bundle: of three layers with random weights, because lowering takes seconds a layer; calls of 16 tokens.
OUT/answers.jsonl: of a `prompt`, the greedy `ids` after it, why it stopped, and the `logits` after token 7 behind.
"""

from __future__ import annotations

import base64
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))

from export import to_executorch  # noqa: E402
from export.pipeline import export_bundle  # noqa: E402
from export.to_executorch.settings import Settings  # noqa: E402
from quantize.recipe import RECIPES  # noqa: E402
from runtime.engine.piece import Piece  # noqa: E402
from runtime.engine.sampler import Sampling  # noqa: E402
from runtime.language.events import End, Token  # noqa: E402
from runtime.session.model import Model  # noqa: E402
from tests import tiny  # noqa: E402

TOKENS = 24
CALL = 16  # tokens of prefill: more than a tiny window
LAYERS = {"num_hidden_layers": 3, "layer_types": [tiny.SLIDING, tiny.FULL, tiny.FULL], "num_kv_shared_layers": 1}


def main(out: Path) -> None:
    if out.exists():
        shutil.rmtree(out)
    out.mkdir(parents=True)
    tiny.CONFIGS["e2b"] |= LAYERS
    target = to_executorch.target(Settings(tokens=CALL))
    export_bundle(tiny.write("e2b", out / "checkpoint"), out / "bundle", [target], RECIPES["int4-datafree"])
    (out / "answers.jsonl").write_text("".join(json.dumps(one) + "\n" for one in answers(out / "bundle")))


def answers(folder: Path) -> Iterator[dict[str, Any]]:
    session = Model.open(folder, threads=1, engine="executorch").session()
    for prompt in prompts(session.manifest.model.vocab_size, session.engine.model.window):
        *said, end = session.generate(prompt, Sampling(0.0), TOKENS)
        assert isinstance(end, End)
        last = session.engine.forward(Piece(np.array([7]))).logits[-1]
        session.reset()
        yield {
            "prompt": prompt, "ids": [token.id for token in said if isinstance(token, Token)], "stop": end.stop,
            "logits": base64.b64encode(last.astype("<f4").tobytes()).decode(),
        }  # fmt: skip


def prompts(vocab: int, window: int) -> list[list[int]]:
    """One token, a few, a call, a call and more, and far past the window."""
    ids = (np.arange(200) * 37 % (vocab - 10) + 5).tolist()
    return [ids[:1], ids[3:10], ids[: CALL + 1], ids[5 : 2 * CALL + window], ids[:180]]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
