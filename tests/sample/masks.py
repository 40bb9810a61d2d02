"""What masks cost: `python tests/sample/masks.py BUNDLE` prints the time of a mask and what decoding loses.

The same tokens are decoded with and without masks: a pattern that allows any text, and a JSON schema.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from runtime.sampler import Sampling  # noqa: E402
from runtime.session import Session  # noqa: E402
from runtime.structured import JsonSchema, Matcher, Regex  # noqa: E402

WORD = {"type": "string", "minLength": 3, "maxLength": 12}
ROW = {
    "type": "object",
    "properties": {
        "name": WORD,
        "kind": {"enum": ["river", "city", "hill"]},
        "size": {"type": "integer", "maximum": 999},
    },
    "required": ["name", "kind", "size"],
    "additionalProperties": False,
}
SCHEMA = {"type": "array", "items": ROW, "minItems": 12}
FORMS = {"pattern": Regex("(?s:.*)"), "schema": JsonSchema(SCHEMA)}
ASKED = [{"role": "user", "content": "What is the capital of Norway?"}]


def timed(spent: list[float]) -> None:
    """Collect the seconds of every mask."""
    compute = Matcher._compute

    def collecting(matcher: Matcher) -> object:
        begun = time.perf_counter()
        made = compute(matcher)
        spent.append(time.perf_counter() - begun)
        return made

    Matcher._compute = collecting  # type: ignore[assignment, method-assign]


def rate(session: Session, form: object, tokens: int) -> float:
    session.reset()
    *_, end = session.chat(ASKED, Sampling(1.0, seed=0), tokens, response_format=form)
    return end.decode_tok_s


def main(folder: Path, threads: int = 1, tokens: int = 150, repeat: int = 7) -> None:
    spent: list[float] = []
    timed(spent)
    session = Session.open(folder, threads)
    for name, form in FORMS.items():
        rate(session, form, 5)  # the grammar's first use compiles it
        spent.clear()
        with_masks = [rate(session, form, tokens) for _ in range(repeat)]
        p50, p99 = np.percentile(spent, [50, 99]) * 1e6
        print(f"{name}: mask {p50:.0f} us (p50), {p99:.0f} us (p99) of {len(spent)}; {max(with_masks):.1f} tokens/s")
    session.manifest.generation.stop.clear()  # free answers as long as the others
    free = max(rate(session, None, tokens) for _ in range(repeat))
    print(f"free: {free:.1f} tokens/s")


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
