"""`python tests/mobile/write_executorch.py BUNDLE OUT`: what a bundle's ExecuTorch artifact answers in Python.

OUT/answers.jsonl: of a `prompt`, the greedy `ids` after it and the last `logits`; each goes on from the one before
as far as their beginnings agree.
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

from runtime.bundle import Bundle  # noqa: E402
from runtime.sampler import Sampling  # noqa: E402
from runtime.session import Session  # noqa: E402

TOKENS = 24


def main(folder: Path, out: Path) -> None:
    if out.exists():
        shutil.rmtree(out)
    shutil.copytree(folder, out / "bundle")
    (out / "answers.jsonl").write_text("".join(json.dumps(one) + "\n" for one in answers(out / "bundle")))


def answers(folder: Path) -> Iterator[dict[str, Any]]:
    session = Session(Bundle.open(folder), threads=1, engine="executorch")
    for prompt in prompts(session.manifest.model.vocab_size, session.decoder.model.window):
        *said, end = session.generate(prompt, Sampling(0.0), TOKENS)
        last = session.decoder.forward(np.array([7])).logits[-1]
        session.reset()
        yield {
            "prompt": prompt, "ids": [token.id for token in said], "stop": end.stop,
            "logits": base64.b64encode(last.astype("<f4").tobytes()).decode(),
        }  # fmt: skip


def prompts(vocab: int, window: int) -> list[list[int]]:
    """One token, a few, a call and more, and past the window."""
    ids = (np.arange(3 * window + 200) * 37 % (vocab - 10) + 5).tolist()
    return [ids[:1], ids[3:10], ids[:60], ids[5:150], ids[: 2 * window + 131]]


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
