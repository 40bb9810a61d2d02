"""The real Gemma 3 270M against transformers and a peer.  `make test-real` first makes what is read here."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import cache
from pathlib import Path

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
TRANSFORMERS = 24.875  # perplexity of the checkpoint on the same 40 windows, float32


def last_json(*command: str | Path) -> dict:
    """Run a command, show what it prints, and read its last line."""
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    print(done.stdout)
    return json.loads(done.stdout.splitlines()[-1])


def bundle(recipe: str) -> Path:
    return MADE / f"{recipe}.bundle"


def continued(recipe: str, prompt: str) -> dict:
    options = ("--raw", "--temperature", "0", "--max-new-tokens", str(NEW_TOKENS), "--json")
    return last_json(GEMMA_EDGE, "run", bundle(recipe), prompt, *options)


@cache
def perplexity(recipe: str) -> float:
    found = last_json(GEMMA_EDGE, "eval", bundle(recipe), "--text", TEXT, "--windows", "40", "--json")
    return found["bundles"][0]["perplexity"]


@pytest.fixture(scope="module")
def reference():
    """transformers' greedy ids of a prompt's ids."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(CHECKPOINT, dtype=torch.float32)

    def greedy(ids: list[int]) -> list[int]:
        made = model.generate(torch.tensor([ids]), max_new_tokens=NEW_TOKENS, do_sample=False)
        return made[0, len(ids) :].tolist()

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


@pytest.mark.parametrize("recipe", ["int4", "int4-head8"])
def test_int4_perplexity_beats_plain_rounding(recipe):
    assert perplexity(recipe) < perplexity("int4-absmax")


def test_int4_linears_with_an_8_bit_head_keep_their_perplexity():
    assert perplexity("int4-head8") <= 34


def test_the_two_stage_head_costs_little():
    """Its 4-bit tail, beyond the logits that are computed again, is seen by perplexity alone."""
    assert perplexity("int4") <= 1.03 * perplexity("int4-head8")


def test_faster_than_genai_in_half_its_memory():
    python = MADE / "genai" / "bin" / "python"
    command = (sys.executable, HERE / "peer_genai.py", "compare", bundle("int4"), MADE / "genai-int4")
    found = last_json(*command, "--peer-python", python)
    assert found["decode_tok_s"]["ratio"] > 1
    assert found["prefill_tok_s"]["ratio"] > 1
    assert found["peak_rss_bytes"]["ratio"] < 0.5
