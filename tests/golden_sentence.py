"""What transformers says with the sample, greedily, in float32: ids that no bundle had a part in.

`make golden` writes them, tests/golden/sentence.json, again.  Only a new sample needs it.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from tokenizers import Tokenizer
from transformers import Gemma4ForCausalLM

ROOT = Path(__file__).resolve().parent
SAMPLE = ROOT / "sample" / "checkpoint"
GOLDEN = ROOT / "golden" / "sentence.json"
# Control tokens are written out: neither a chat template nor our tokenizer has a part in the prompt.
PROMPT = "<bos><|turn>user\nTell me about Norway.<turn|>\n<|turn>model\n"
STEPS = 64


@torch.no_grad()
def greedy(prompt: list[int], stop: list[int]) -> list[int]:
    """The ids of an answer, up to and with the token that ends it."""
    model = Gemma4ForCausalLM.from_pretrained(SAMPLE, dtype=torch.float32)
    ids = list(prompt)
    while len(ids) < len(prompt) + STEPS and (len(ids) == len(prompt) or ids[-1] not in stop):
        ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
    return ids[len(prompt) :]


def answer() -> dict[str, object]:
    tokenizer = Tokenizer.from_file(str(SAMPLE / "tokenizer.json"))
    stop = json.loads((SAMPLE / "generation_config.json").read_text())["eos_token_id"]
    prompt = tokenizer.encode(PROMPT, add_special_tokens=False).ids
    ids = greedy(prompt, stop)
    return {"prompt": PROMPT, "prompt_ids": prompt, "ids": ids, "text": tokenizer.decode(ids, skip_special_tokens=True)}
