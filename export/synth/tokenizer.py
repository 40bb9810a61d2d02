"""A tokenizer for generated checkpoints: of the released size, and about as many tokens to a text.

It has learned from no text.  Control tokens and bytes come first, then all strings of up to four of
"▁" (a space) and a to z, the shorter first, each merged from one letter less and one more, until the
vocabulary is full.  What is none of these letters costs a token a byte.
"""

from __future__ import annotations

from itertools import islice, product

from tokenizers import Tokenizer, decoders, models, normalizers

CONTROL = {
    0: "<pad>", 1: "<eos>", 2: "<bos>", 3: "<unk>", 4: "<mask>", 46: "<|tool>", 47: "<tool|>",
    48: "<|tool_call>", 49: "<tool_call|>", 50: "<|tool_response>", 51: "<tool_response|>",
    52: '<|"|>', 98: "<|think|>", 100: "<|channel>", 101: "<channel|>", 105: "<|turn>", 106: "<turn|>",
}  # fmt: skip
CONTROLS = 107
LETTERS = "▁abcdefghijklmnopqrstuvwxyz"
LONGEST = 4


def synth_tokenizer(vocab: int) -> Tokenizer:
    """Byte fallback takes 256 of the vocabulary, so it holds 363 at least."""
    control = [CONTROL.get(i, f"<unused{i}>") for i in range(CONTROLS)]
    names = control + [f"<0x{i:02X}>" for i in range(256)]
    strings = ("".join(letters) for length in range(1, LONGEST + 1) for letters in product(LETTERS, repeat=length))
    pieces = list(islice(strings, vocab - len(names)))
    merges = [(piece[:-1], piece[-1]) for piece in pieces if len(piece) > 1]
    numbered = {name: i for i, name in enumerate(names + pieces)}
    tokenizer = Tokenizer(
        models.BPE(vocab=numbered, merges=merges, byte_fallback=True, fuse_unk=True, unk_token="<unk>")
    )
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.add_special_tokens(control)
    return tokenizer
