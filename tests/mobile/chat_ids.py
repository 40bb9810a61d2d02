"""Ids of conversations whose texts stay text, by transformers and tokenizers alone: no code of the runtime.

A text is swapped for a word that the template can only copy.  So it is known of each character of what transformers
renders whether the template wrote it or copied it, and only what it wrote is searched for control tokens.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from transformers import PreTrainedTokenizerFast

Message = Mapping[str, Any]
WORD = "Copied{}Text"
COPIED = re.compile(r"Copied(\d+)Text")
TEXTS = ("content", "reasoning")


class ChatIds:
    def __init__(self, tokenizer: Path, template: str, special_tokens: Mapping[str, str]) -> None:
        """special_tokens: by names that transformers has ("bos_token", "eos_token" …)."""
        self.tokenizer = PreTrainedTokenizerFast(
            tokenizer_file=str(tokenizer), chat_template=template, **special_tokens
        )
        self.special = {
            added.content: number for number, added in self.tokenizer.added_tokens_decoder.items() if added.special
        }
        longest_first = sorted(self.special, key=len, reverse=True)
        self.written = re.compile("|".join(map(re.escape, longest_first)))

    def trusted(self, messages: Sequence[Message], **options: Any) -> list[int]:
        """What transformers gives: control tokens in texts are control tokens."""
        rows = [dict(message) for message in messages]
        ids = self.tokenizer.apply_chat_template(rows, add_generation_prompt=True, return_dict=False, **options)
        return cast(list[int], ids)

    def __call__(self, messages: Sequence[Message], **options: Any) -> list[int]:
        texts: list[str] = []
        swapped = [
            {name: swap(value, texts) if name in TEXTS else value for name, value in message.items()}
            for message in messages
        ]
        rendered = self.tokenizer.apply_chat_template(swapped, add_generation_prompt=True, tokenize=False, **options)
        assert isinstance(rendered, str)
        ids: list[int] = []
        plain = ""
        for index, piece in enumerate(COPIED.split(rendered)):
            if index % 2:
                plain += texts[int(piece)]
                continue
            at = 0
            for token in self.written.finditer(piece):
                ids += [*self.as_text(plain + piece[at : token.start()]), self.special[token[0]]]
                plain, at = "", token.end()
            plain += piece[at:]
        return ids + self.as_text(plain)

    def as_text(self, text: str) -> list[int]:
        """Ids of a text in which tokens that are added but not special are matched, and special ones are not."""
        backend = self.tokenizer.backend_tokenizer
        backend.encode_special_tokens = True
        ids: list[int] = backend.encode(text, add_special_tokens=False).ids
        backend.encode_special_tokens = False
        return ids


def swap(text: str, texts: list[str]) -> str:
    """The text with a word in place of what a template that trims leaves of it."""
    kept = text.strip()
    if not kept:
        return text
    texts.append(kept)
    return text.replace(kept, WORD.format(len(texts) - 1))
