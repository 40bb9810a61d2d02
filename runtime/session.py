"""A conversation with a bundle: tokens as they come, stop ids, cancel, turns without re-reading."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from .bundle import Bundle
from .decoder import CHUNK, Cancelled, Floats
from .engine import DEFAULT, open_decoder
from .errors import GemmaError
from .sampler import Sampler, Sampling
from .tokenizer import Message, Tokenizer

Stop = Literal["stop", "length", "context", "cancelled"]


@dataclass(frozen=True)
class Token:
    id: int
    text: str  # what this token adds; empty while a character is incomplete


@dataclass(frozen=True)
class End:
    """Why and how an answer ended.  `reused` prompt tokens were in the caches already."""

    stop: Stop
    prompt_tokens: int
    reused: int
    new_tokens: int
    ttft_s: float
    prefill_tok_s: float
    decode_tok_s: float


class Session:
    """One conversation.  Not for two threads at once, except `cancel`."""

    def __init__(self, bundle: Bundle, threads: int = 0, context: int = 0, engine: str = DEFAULT) -> None:
        """`context` limits the tokens of prompt and answer; 0: to what the model, or the artifact, can.

        Raises GemmaError if a part of the bundle can not be loaded.
        """
        self.bundle = bundle
        self.manifest = bundle.manifest
        self.decoder = open_decoder(engine, bundle, threads, self._load_tokenizer)
        self.context = min(context or self.decoder.model.context, self.decoder.model.context)
        self.ids: list[int] = []  # what the caches hold
        self._cancelled = threading.Event()

    @classmethod
    def open(cls, folder: Path, threads: int = 0) -> Session:
        return cls(Bundle.open(folder), threads)

    def _load_tokenizer(self) -> None:
        self.tokenizer = Tokenizer.of(self.bundle)

    def defaults(self, seed: int | None = None) -> Sampling:
        """The sampling that the checkpoint's generation_config asks for."""
        made = self.manifest.generation
        return Sampling(made.temperature if made.do_sample else 0.0, made.top_k, made.top_p, seed)

    def cancel(self) -> None:
        """End the running answer within one token, from any thread."""
        self._cancelled.set()
        self.decoder.cancel()

    def reset(self) -> None:
        self.ids = []
        self.decoder.reset()

    def chat(
        self, messages: Sequence[Message], sampling: Sampling | None = None, max_new_tokens: int | None = None
    ) -> Iterator[Token | End]:
        """Answer messages through the chat template; as `generate`."""
        return self.generate(self.tokenizer.chat(messages), sampling, max_new_tokens)

    def generate(
        self, prompt: Sequence[int], sampling: Sampling | None = None, max_new_tokens: int | None = None
    ) -> Iterator[Token | End]:
        """Stream the tokens that follow a prompt, then one End.

        A prompt that begins with what the caches hold is read from there on.  The stop token itself
        is not part of the stream.  Raises GemmaError for an empty prompt, or one over the context.
        """
        self._check(prompt, max_new_tokens)
        return self._generate(list(prompt), sampling or self.defaults(), max_new_tokens)

    def _check(self, prompt: Sequence[int], max_new_tokens: int | None) -> None:
        if not prompt:
            raise GemmaError("the prompt is empty", "give at least one token")
        if len(prompt) > self.context:
            raise GemmaError(f"a prompt of {len(prompt)} tokens: the context is {self.context}", "shorten the prompt")
        if max_new_tokens is not None and max_new_tokens < 1:
            raise GemmaError(f"max new tokens {max_new_tokens}: not a number from 1 up", "leave it out for no limit")

    def _generate(self, prompt: list[int], sampling: Sampling, limit: int | None) -> Iterator[Token | End]:
        self._cancelled.clear()
        self.decoder.resume()
        sampler, stream = Sampler(sampling), self.tokenizer.stream()
        started, reused = time.perf_counter(), self._reuse(prompt)
        first = spent = 0.0
        made, stop = 0, "length"
        try:
            logits = self._read(prompt[reused:])
            first = time.perf_counter() - started
            while True:
                token = sampler(logits)
                if token in self.manifest.generation.stop:
                    stop = "stop"
                    break
                made += 1
                yield Token(token, stream.push(token))
                if made == limit:
                    break
                if self.decoder.position >= self.context:
                    stop = "context"
                    break
                if self._cancelled.is_set():
                    raise Cancelled
                begun = time.perf_counter()
                logits = self._read([token])
                spent += time.perf_counter() - begun
        except Cancelled:
            stop = "cancelled"
        yield End(
            stop=stop,  # type: ignore[arg-type]
            prompt_tokens=len(prompt),
            reused=reused,
            new_tokens=made,
            ttft_s=first,
            prefill_tok_s=(len(prompt) - reused) / first if first else 0.0,
            decode_tok_s=(made - 1) / spent if spent else 0.0,
        )

    def _reuse(self, prompt: list[int]) -> int:
        """Tokens of the prompt that are in the caches; one at least is always read again for its logits."""
        if len(self.ids) != self.decoder.position:  # an interrupt came between the two
            self.reset()
        shared = common_prefix(self.ids, prompt[:-1])
        if shared < len(self.ids) and not self.decoder.rewind(shared):
            self.decoder.reset()
            shared = 0
        self.ids = self.ids[:shared]
        return shared

    def _read(self, ids: list[int]) -> Floats:
        """Read tokens, a chunk at a time, and keep `ids` in step with the caches."""
        array = np.array(ids, np.int64)
        for table in self.decoder.tables.values():
            table.prefetch(array)
        for start in range(0, len(ids), CHUNK):
            if self._cancelled.is_set():
                raise Cancelled
            piece = array[start : start + CHUNK]
            logits = self.decoder.forward(piece).logits
            self.ids += piece.tolist()
        last: Floats = logits[-1]
        return last


def common_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    for index, (x, y) in enumerate(zip(a, b, strict=False)):
        if x != y:
            return index
    return min(len(a), len(b))
