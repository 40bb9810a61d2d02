"""What the static ranges of a release are worth: the sample that was trained with some, with them and without.

    python tests/sample/activations.py

Of 120 held-out questions the answers that are right word for word, and nats a token over questions and answers: the
float sample; its release in transformers with its ranges and without; and its bundle, of this exporter and as one was
that dropped the ranges.  Dropping them may cost answers, or gain some.  The last line is JSON.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from transformers import Gemma4ForCausalLM

from export.checkpoint.checkpoint import Checkpoint
from export.pipeline import export_bundle
from export.targets import find_target
from quantize.recipe import RECIPES, RELEASED
from runtime.bundle.bundle import Bundle
from runtime.engine.contract import Engine

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.sample.release import QUESTIONS, SAMPLE, sample_release  # noqa: E402

END = 106
Ids = NDArray[np.int64]
Floats = NDArray[np.float32]
Read = Callable[[Ids], Floats]  # tokens (T,) to logits (T, vocab)


def conversations() -> list[tuple[Ids, Ids]]:
    """Prompts and answers, as tokens; an answer ends with the end of its turn."""
    tokenizer = Tokenizer.from_file(str(SAMPLE / "tokenizer.json"))

    def ids(text: str) -> list[int]:
        return tokenizer.encode(text, add_special_tokens=False).ids

    asked = json.loads(QUESTIONS.read_text(encoding="utf-8"))
    return [(np.array(ids(one["prompt"])), np.array([*ids(one["answer"]), END])) for one in asked]


def measured(read: Read, asked: list[tuple[Ids, Ids]]) -> dict[str, float]:
    """Answers that the best token of every step gives, and nats a token over all that was read."""
    right, nats, count = 0, 0.0, 0
    for prompt, answer in asked:
        ids = np.concatenate([prompt, answer])
        logits = read(ids[:-1]).astype(np.float64)
        said = logits[len(prompt) - 1 :].argmax(-1)
        right += bool((said == answer).all())
        highest = logits.max(-1, keepdims=True)
        logs = logits - highest - np.log(np.exp(logits - highest).sum(-1, keepdims=True))
        nats -= float(logs[np.arange(len(ids) - 1), ids[1:]].sum())
        count += len(ids) - 1
    return {"right": right, "asked": len(asked), "nats": nats / count}


def of_transformers(folder: Path, *, static: bool = True) -> Read:
    model = Gemma4ForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    if not static:
        for name, value in model.named_parameters():
            if name.endswith("activation_scale"):
                value.data.zero_()

    @torch.no_grad()
    def read(ids: Ids) -> Floats:
        logits: Floats = model(input_ids=torch.from_numpy(ids)[None]).logits[0].numpy()
        return logits

    return read


def of_decoder(decoder: Engine) -> Read:
    def read(ids: Ids) -> Floats:
        decoder.reset()
        return decoder.prefill(ids, len(ids)).logits.copy()

    return read


def bundle_of(release: Path | Checkpoint, folder: Path, target: str = "onnx") -> Read:
    """As it ships."""
    export_bundle(release, folder, [target], RECIPES[RELEASED])
    return of_decoder(find_target(target).runners[-1].open(Bundle.open(folder)))


def without_ranges(release: Path) -> Checkpoint:
    """As a release was read that had none."""
    found = Checkpoint.open(release)
    return dataclasses.replace(found, config=dataclasses.replace(found.config, activation_scales={}))


def main() -> int:
    asked = conversations()
    with tempfile.TemporaryDirectory() as name:
        release = sample_release(Path(name) / "release")
        readers = {
            "float sample": of_transformers(SAMPLE),
            "release, transformers, ranges on": of_transformers(release),
            "release, transformers, ranges dropped": of_transformers(release, static=False),
            "bundle": bundle_of(release, Path(name) / "on.bundle"),
            "bundle, ranges dropped": bundle_of(without_ranges(release), Path(name) / "off.bundle"),
        }
        figures = {kind: measured(read, asked) for kind, read in readers.items()}
    print("| | right | nats a token |\n|---|---|---|")
    for kind, found in figures.items():
        print(f"| {kind} | {found['right']:.0f} of {found['asked']:.0f} | {found['nats']:.3f} |")
    print(json.dumps(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
