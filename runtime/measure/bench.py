"""Prefill and decode rates, time to first token, load time, memory, reads from flash."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import numpy as np

from ..bundle.bundle import Bundle
from ..bundle.kv_bytes import row_bytes, rows_seen
from ..bundle.manifest import Manifest
from ..engine.contract import Engine
from ..engine.engine import DEFAULT, open_engine
from ..engine.piece import Piece
from ..machine.bandwidth import read_bandwidth
from ..machine.resident_memory import peak_rss


class Settings(msgspec.Struct, frozen=True):
    threads: int
    prompt_tokens: int
    new_tokens: int
    context: int
    repeat: int


class At(msgspec.Struct, frozen=True):
    """Medians over the repetitions after `context` tokens; spreads are (least, most).

    peak_rss_bytes: so far, and contexts grow; planned_bytes: what the memory plan says;
    bytes_per_token: weights and caches that a step reads; read_gb_s: that times the decode rate
    """

    context: int
    prefill_tok_s: float
    prefill_spread: tuple[float, float]
    decode_tok_s: float
    decode_spread: tuple[float, float]
    ttft_s: float
    peak_rss_bytes: int
    planned_bytes: int
    bytes_per_token: int
    read_gb_s: float


class Figures(msgspec.Struct, frozen=True):
    """The figures of the first context, those of all, and the machine's read bandwidth on as many threads."""

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
    bandwidth_gb_s: float
    contexts: list[At]
    settings: Settings


def measure(
    folder: Path,
    settings: Settings,
    contexts: Sequence[int],
    progress: Callable[[], None] = lambda: None,
    engine: str = DEFAULT,
) -> Figures:
    """Random tokens, greedy; the first repetition at a context warms up and is not counted.

    A context is in the caches before the prompt, and read once.  Raises GemmaError for a bundle that can not run.
    """
    begun = time.perf_counter()
    bundle = Bundle.open(folder)
    decoder = open_engine(engine, bundle, settings.threads)
    load_s = time.perf_counter() - begun
    measured = [
        measure_at(decoder, bundle.manifest, settings, context, progress, engine) for context in sorted(contexts)
    ]
    counters = [table.counters for table in decoder.tables.values()]
    read = sum(contexts) + len(contexts) * (settings.repeat + 1) * (settings.prompt_tokens + settings.new_tokens)
    peak, first, threads = peak_rss(), measured[0], decoder.threads
    del decoder  # its memory, and its threads that wait busily
    return Figures(
        prefill_tok_s=first.prefill_tok_s,
        prefill_spread=first.prefill_spread,
        decode_tok_s=first.decode_tok_s,
        decode_spread=first.decode_spread,
        ttft_s=first.ttft_s,
        load_s=round(load_s, 3),
        peak_rss_bytes=peak,
        flash_rows_per_token=round(sum(c.rows for c in counters) / read, 3),
        flash_bytes_per_token=round(sum(c.bytes for c in counters) / read, 1),
        flash_faults_per_token=round(sum(c.faults for c in counters) / read, 4),
        bandwidth_gb_s=round(read_bandwidth(threads) / 1e9, 2),
        contexts=measured,
        settings=msgspec.structs.replace(settings, threads=threads, context=first.context),
    )


def measure_at(
    decoder: Engine,
    manifest: Manifest,
    settings: Settings,
    context: int,
    progress: Callable[[], None],
    engine: str,
) -> At:
    decoder.reset()
    if context:
        decoder.prefill(np.random.default_rng(0).integers(0, decoder.model.vocab_size, context))
    state, prefill, decode = decoder.save(), list[float](), list[float]()
    for repetition in range(settings.repeat + 1):
        decoder.restore(state)
        prompt_s, step_s = once(decoder, settings, np.random.default_rng(repetition))
        if repetition:
            prefill.append(settings.prompt_tokens / prompt_s)
            decode.append(1 / step_s)
        progress()
    rate, reached = statistics.median(decode), context + settings.prompt_tokens + settings.new_tokens
    planned = decoder.plan(reached)
    read = bytes_per_token(manifest, reached - settings.new_tokens // 2, engine)
    return At(
        context=context,
        prefill_tok_s=round(statistics.median(prefill), 2),
        prefill_spread=(round(min(prefill), 2), round(max(prefill), 2)),
        decode_tok_s=round(rate, 2),
        decode_spread=(round(min(decode), 2), round(max(decode), 2)),
        ttft_s=round(settings.prompt_tokens / statistics.median(prefill), 4),
        peak_rss_bytes=peak_rss(),
        planned_bytes=planned.peak if planned else 0,
        bytes_per_token=read,
        read_gb_s=round(rate * read / 1e9, 3),
    )


def once(decoder: Engine, settings: Settings, rng: np.random.Generator) -> tuple[float, float]:
    """Seconds to read a prompt and choose a token, and median seconds of a step after it."""
    prompt = rng.integers(0, decoder.model.vocab_size, settings.prompt_tokens)
    begun = time.perf_counter()
    token = int(decoder.prefill(prompt).logits[-1].argmax())
    prompt_s = time.perf_counter() - begun
    steps = []
    for _ in range(settings.new_tokens):
        begun = time.perf_counter()
        token = int(decoder.forward(Piece(np.array([token]))).logits[-1].argmax())
        steps.append(time.perf_counter() - begun)
    return prompt_s, statistics.median(steps)


def bytes_per_token(manifest: Manifest, position: int, engine: str = DEFAULT) -> int:
    """All weights of the graph, and the keys and values that every layer reads at a position."""
    model = manifest.model
    caches = {cache.layer: cache for cache in model.caches}
    read = [caches[source] for source in model.sources if source in caches]
    keys_values = sum(row_bytes(cache, cache.dtype) * rows_seen(cache, model.window, position) for cache in read)
    return manifest.files[manifest.artifacts[engine].weights].size + keys_values
