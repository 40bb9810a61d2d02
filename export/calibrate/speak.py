"""The float model writes its own calibration text: sampled at temperature 1, many sequences at once.

What a model says calibrates it nearly as well as real text (DECISIONS.md).  A chat model writes both
sides of conversations, in its own template.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from runtime.language.tokenizer import Message, Tokenizer

from ..model.arrays import Ids
from ..model.config import LayerConfig
from ..model.decoder import KV, Layer
from ..reference import FloatSource, embedded, final_norm, per_layer_inputs, rotary_tables
from .amounts import TextAmounts
from .draw import draw

USER, MODEL = "\ue000", "\ue001"  # stand for what is to be written: of no vocabulary


@dataclass(frozen=True)
class TurnTexts:
    """The tokens that the model does not write: the beginning, and in rotation what follows each turn that it ends."""

    beginning: tuple[int, ...]
    follows: tuple[tuple[int, ...], ...]
    stop: frozenset[int]


def turn_texts(tokenizer: Tokenizer, stop: Sequence[int]) -> TurnTexts:
    """Take them from the chat template; without one, from a plain document.

    Raises GemmaError if the template fails.
    """
    ends = frozenset(stop)
    if not tokenizer.template:
        return TurnTexts((tokenizer.bos,), ((tokenizer.bos,),), ends)
    talk: list[Message] = [
        {"role": role, "content": text} for role, text in (("user", USER), ("assistant", MODEL), ("user", USER))
    ]
    begin, answer, again = tokenizer.render(talk).replace(MODEL, USER).split(USER)[:3]
    parts = [tuple(tokenizer.encode(text, bos=False)) for text in (begin, answer, again)]
    follows = tuple(part[1:] if part[:1] and part[0] in ends else part for part in parts[1:])
    return TurnTexts(parts[0], follows, ends)


@torch.no_grad()
def write(
    source: FloatSource,
    turns: TurnTexts,
    count: int,
    length: int,
    seed: int,
    layer_bytes: int = TextAmounts.layer_bytes,
    progress: Callable[[float], None] = lambda done: None,
) -> Ids:
    """Write sequences (count, length); `layer_bytes` of layers stay in memory."""
    chance = torch.Generator().manual_seed(seed)
    queues = [deque[int]() for _ in range(count)]  # tokens of turns that are not the model's to write
    ended = [0] * count  # turns, by sequence
    text = np.empty((count, length), np.int64)
    begun = min(len(turns.beginning), length)
    text[:, :begun] = turns.beginning[:begun]
    head, cap = source.stored("head.weight"), source.config.softcap
    for at, hidden in zip(range(begun, length), steps(source, text, begun, length, layer_bytes), strict=False):
        for row, token in enumerate(draw(hidden, head, cap, chance)):
            if queues[row]:
                token = queues[row].popleft()
            elif token in turns.stop and turns.follows:
                queues[row].extend(turns.follows[ended[row] % len(turns.follows)])
                ended[row] += 1
            text[row, at] = token
        progress(count)
    return text


def steps(
    source: FloatSource, text: Ids, begun: int, length: int, layer_bytes: int = TextAmounts.layer_bytes
) -> Iterator[Tensor]:
    """Normed hidden states (count, hidden) after what is in `text` so far; the caller fills in the next column."""
    config, count = source.config, len(text)
    ropes, layers, norm = rotary_tables(config, length), Layers(source, layer_bytes), final_norm(source)
    slices = per_layer_inputs(source)
    pasts: dict[int, KV] = {
        layer.index: (torch.zeros(count, layer.kv_heads, 0, layer.head_dim),) * 2
        for layer in config.layers
        if layer.owns_kv
    }
    first = 0
    for last in range(begun, length):
        ids = text[:, first:last]
        x, positions = embedded(source, ids), torch.arange(first, last)[None]
        inputs = slices(ids, x)
        for layer, module in zip(config.layers, layers, strict=True):
            per_layer, scales = inputs[layer.index] if inputs else None, module.self_attn.cache_scales
            x, kv = module(x, per_layer, positions, ropes[layer.kind], pasts[layer.source], scales)
            if layer.owns_kv:
                pasts[layer.index] = kv
        yield norm(x[:, -1])
        first = last


class Layers:
    """A model's layers as stored: some stay in memory, the others are read from the checkpoint at every pass."""

    def __init__(self, source: FloatSource, room: int) -> None:
        """`room`: bytes of the layers that stay in memory."""
        self.source, self.in_memory, self.room = source, dict[int, Layer](), room

    def __iter__(self) -> Iterator[Layer]:
        for layer in self.source.config.layers:
            module = self.in_memory.get(layer.index) or self.load(layer)
            size = sum(parameter.nbytes for parameter in module.parameters())
            if layer.index not in self.in_memory and size <= self.room:
                self.in_memory[layer.index] = module
                self.room -= size
            yield module

    def load(self, layer: LayerConfig) -> Layer:
        with torch.device("meta"):
            module = Layer(self.source.config, layer)
        values = {}
        for name, parameter in module.named_parameters():
            full = f"layers.{layer.index}.{name}"
            floats = parameter.dim() == 1
            values[name] = torch.from_numpy(self.source.floats(full)) if floats else self.source.stored(full)
        module.load_state_dict(values, assign=True)
        return module
