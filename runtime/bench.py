"""Prefill and decode rates, time to first token, load time, memory, reads from flash."""

from __future__ import annotations

import resource
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np

from .bundle import Bundle
from .decoder import Decoder


class Settings(msgspec.Struct, frozen=True):
    threads: int
    prompt_tokens: int
    new_tokens: int
    context: int
    repeat: int


class Figures(msgspec.Struct, frozen=True):
    """Medians over the repetitions; spreads are (least, most)."""

    prefill_tok_s: float
    prefill_spread: tuple[float, float]
    decode_tok_s: float
    decode_spread: tuple[float, float]
    ttft_s: float
    load_s: float
    peak_rss_bytes: int
    flash_rows_per_token: float
    flash_bytes_per_token: float
    flash_faults_per_token: float
    settings: Settings


def measure(folder: Path, settings: Settings, progress: Callable[[], None] = lambda: None) -> Figures:
    """Random tokens, greedy; the first repetition warms up and is not counted.

    `context` tokens are in the caches before the prompt.  Raises GemmaError for a bundle that can not run.
    """
    begun = time.perf_counter()
    decoder = Decoder(Bundle.open(folder), settings.threads)
    load_s = time.perf_counter() - begun
    prompts, steps = list[float](), list[float]()
    for repetition in range(settings.repeat + 1):
        prompt_s, step_s = once(decoder, settings, np.random.default_rng(repetition))
        if repetition:
            prompts.append(prompt_s)
            steps.append(step_s)
        progress()
    prefill = [settings.prompt_tokens / seconds for seconds in prompts]
    decode = [1 / seconds for seconds in steps]
    counters = [table.counters for table in decoder.tables.values()]
    read = (settings.repeat + 1) * (settings.context + settings.prompt_tokens + settings.new_tokens)
    return Figures(
        prefill_tok_s=round(statistics.median(prefill), 2),
        prefill_spread=(round(min(prefill), 2), round(max(prefill), 2)),
        decode_tok_s=round(statistics.median(decode), 2),
        decode_spread=(round(min(decode), 2), round(max(decode), 2)),
        ttft_s=round(statistics.median(prompts), 4),
        load_s=round(load_s, 3),
        peak_rss_bytes=peak_rss(),
        flash_rows_per_token=round(sum(c.rows for c in counters) / read, 3),
        flash_bytes_per_token=round(sum(c.bytes for c in counters) / read, 1),
        flash_faults_per_token=round(sum(c.faults for c in counters) / read, 4),
        settings=msgspec.structs.replace(settings, threads=decoder.threads),
    )


def once(decoder: Decoder, settings: Settings, rng: np.random.Generator) -> tuple[float, float]:
    """Seconds to read a prompt and choose a token, and median seconds of a step after it."""
    vocabulary = decoder.model.vocab_size
    decoder.reset()
    if settings.context:
        decoder.prefill(rng.integers(0, vocabulary, settings.context))
    prompt = rng.integers(0, vocabulary, settings.prompt_tokens)
    begun = time.perf_counter()
    token = int(decoder.prefill(prompt).logits[-1].argmax())
    prompt_s = time.perf_counter() - begun
    steps = []
    for _ in range(settings.new_tokens):
        begun = time.perf_counter()
        token = int(decoder.forward(np.array([token])).logits[-1].argmax())
        steps.append(time.perf_counter() - begun)
    return prompt_s, statistics.median(steps)


def peak_rss() -> int:
    """Bytes; the largest the process has been.

    On Linux VmHWM: what getrusage says begins with the size of the process that started this one.
    """
    if sys.platform == "linux":
        status = Path("/proc/self/status").read_text(encoding="ascii")
        return int(status.split("VmHWM:")[1].split()[0]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
