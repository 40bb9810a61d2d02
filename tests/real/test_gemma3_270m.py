"""The real Gemma 3 270M against transformers and a peer.  `make test-real` first makes what is read here."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.real

HERE = Path(__file__).parent
MADE = HERE.parent.parent / "build" / "real"
CHECKPOINT, TEXT = MADE / "gemma3-270m", MADE / "handbook.txt"
GEMMA_EDGE = Path(sys.executable).with_name("gemma-edge")
FACTS = {
    "Water boils at a temperature of": "100",
    "Paris is the capital of": "France",
    "The sun rises in the east and sets in the": "west",
}
NEW_TOKENS = 32
LIMITS = {"int4-b32": 26.8, "int4": 28.3, "int4-quick": 27.7, "own-text": 27.3, "datafree-head8": 34}
BUNDLES = ("float", "int8", *LIMITS, "int4-datafree", "int4-head8", "int4-head2", "int4-absmax")
TRANSFORMERS = 24.875  # perplexity of the checkpoint on the same 40 windows, float32


def last_json(*command: str | Path) -> dict[str, Any]:
    """Run a command, show what it prints, and read its last line."""
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    print(done.stdout)
    values: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return values


def bundle(recipe: str) -> Path:
    return MADE / f"{recipe}.bundle"


def continued(recipe: str, prompt: str) -> dict[str, Any]:
    options = ("--raw", "--temperature", "0", "--max-new-tokens", str(NEW_TOKENS), "--json")
    return last_json(GEMMA_EDGE, "run", bundle(recipe), prompt, *options)


@cache
def evaluated(*names: str) -> dict[str, dict[str, Any]]:
    """Figures of bundles on the handbook, against the float checkpoint."""
    options = ("--text", TEXT, "--windows", "40", "--against", CHECKPOINT, "--json")
    found = last_json(GEMMA_EDGE, "eval", *map(bundle, names), *options)
    return dict(zip(names, found["bundles"], strict=True))


def figures(name: str) -> dict[str, Any]:
    return evaluated(*BUNDLES)[name]


def perplexity(name: str) -> float:
    return float(figures(name)["perplexity"])


def decode_rates(*names: str, rounds: int = 5) -> dict[str, float]:
    """Medians over processes that take turns, so that all meet the same machine."""
    options = ("--prompt-tokens", "64", "--new-tokens", "128", "--repeat", "1", "--json")
    found: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(rounds):
        for name in names:
            found[name].append(last_json(GEMMA_EDGE, "bench", bundle(name), *options)["decode_tok_s"])
    return {name: statistics.median(rates) for name, rates in found.items()}


@pytest.fixture(scope="module")
def reference():
    """transformers' greedy ids of a prompt's ids."""
    import torch
    from transformers import AutoModelForCausalLM

    from tests.transformers_model import greedy as continued_greedily

    model = AutoModelForCausalLM.from_pretrained(CHECKPOINT, dtype=torch.float32)

    def greedy(ids: list[int]) -> list[int]:
        return continued_greedily(model, ids, NEW_TOKENS)

    return greedy


@pytest.mark.parametrize("prompt", FACTS)
def test_float_says_what_transformers_says(reference, prompt):
    found = continued("float", prompt)
    assert len(found["ids"]) == NEW_TOKENS
    assert found["ids"] == reference(found["prompt_ids"])


@pytest.mark.parametrize("recipe", ["int8", "int4"])
def test_integers_know_a_fact(recipe):
    assert any(fact in continued(recipe, prompt)["text"] for prompt, fact in FACTS.items())


def test_float_perplexity_is_that_of_transformers():
    assert perplexity("float") == pytest.approx(TRANSFORMERS, abs=0.05)


def test_int8_perplexity_is_that_of_float():
    assert perplexity("int8") == pytest.approx(perplexity("float"), rel=0.005)


@pytest.mark.parametrize(("name", "most"), LIMITS.items())
def test_int4_perplexity_is_within_its_limit(name, most):
    assert perplexity(name) <= most


def test_plain_rounding_is_worse_than_everything_else():
    assert all(perplexity(name) < perplexity("int4-absmax") for name in BUNDLES if name != "int4-absmax")


def test_calibrated_int4_keeps_the_distribution():
    assert figures("int4-b32")["divergence"]["mean_kl"] <= 0.08


@pytest.mark.parametrize("figure", ["agreement", "tv64"])
def test_the_two_stage_head_acts_like_an_8_bit_one(figure):
    two, eight = (figures(name)["divergence"][figure] for name in ("int4-b32", "int4-head8"))
    assert two == pytest.approx(eight, abs=0.002)


def test_the_two_stage_head_is_faster_than_an_8_bit_one():
    rates = decode_rates("int4-b32", "int4-head8")
    assert rates["int4-b32"] > rates["int4-head8"], rates


def test_faster_than_genai_in_half_its_memory():
    python = MADE / "genai" / "bin" / "python"
    command = (sys.executable, HERE / "peer_genai.py", "compare", bundle("int4"), MADE / "genai-int4")
    found = last_json(*command, "--peer-python", python)
    assert found["decode_tok_s"]["ratio"] > 1
    assert found["prefill_tok_s"]["ratio"] > 1
    assert found["peak_rss_bytes"]["ratio"] < 0.5
