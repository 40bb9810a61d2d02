"""What masks cost: `python tests/sample/masks.py BUNDLE` prints the time of a mask and what decoding loses.

The same tokens are decoded with and without masks: a pattern that allows any text, and a JSON schema.
"""

from __future__ import annotations

import statistics
import sys
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from runtime.language.events import End  # noqa: E402
from runtime.session.model import Model  # noqa: E402
from runtime.session.options import Options  # noqa: E402
from runtime.session.session import Session  # noqa: E402
from runtime.session.structured import JsonSchema, Matcher, Regex, ResponseFormat  # noqa: E402

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
FORMS: dict[str, ResponseFormat | None] = {
    "free": None,
    "pattern": Regex("(?s:.{2000,})"),
    "schema": JsonSchema(SCHEMA),
}
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


def rate(session: Session, form: ResponseFormat | None, tokens: int) -> float:
    session.reset()
    *_, end = session.chat(
        ASKED, Options(temperature=1.0, top_k=0, top_p=1.0, seed=0, max_new_tokens=tokens, response_format=form)
    )
    assert isinstance(end, End)
    return end.decode_tok_s


def main(folder: Path, threads: int = 1, tokens: int = 150, rounds: int = 11) -> None:
    spent: list[float] = []
    timed(spent)
    session = Model.open(folder, threads=threads).session()
    session.manifest.generation.stop[:] = [0]  # free answers as long as the others
    rates: dict[str, list[float]] = {name: [] for name in FORMS}
    masks: dict[str, list[float]] = {name: [] for name in FORMS}
    for _ in range(rounds):  # in turns, so that what else runs slows all of them
        for name, form in FORMS.items():
            spent.clear()
            rates[name].append(rate(session, form, tokens))
            masks[name] += spent
    free = statistics.median(rates["free"])
    print(f"free: {free:.1f} tokens/s, median of {rounds}")
    for name in list(FORMS)[1:]:
        p50, p99 = np.percentile(masks[name], [50, 99]) * 1e6
        made = statistics.median(rates[name])
        lost = 100 * (1 - statistics.median(b / a for a, b in zip(rates["free"], rates[name], strict=True)))
        print(f"{name}: mask {p50:.0f} us (p50), {p99:.0f} us (p99); {made:.1f} tokens/s, {lost:.1f} % slower")


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
