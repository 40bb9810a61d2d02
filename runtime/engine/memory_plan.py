"""How much memory a bundle takes at its peak, for a context length, before it is loaded.

The parts are what onnx.py and cache.py allocate, row by row; what onnxruntime allocates is in the
manifest, computed by the exporter from the graph's own tensors.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..bundle.kv_bytes import row_bytes
from ..bundle.manifest import Artifact, Cache, Manifest, ModelFacts
from ..bundle.row_cache import ROWS
from ..errors import BundleError, ContextFull
from .cache import SLACK, STEP, TURNS
from .chunk import CHUNK, chunks

BASE = 74_000_000  # Python, numpy, and onnxruntime with a session that has run: without its weights
TEXT = 1_400  # for a token of the vocabulary, while tokenizer.json is read: Gemma's own has two merges for each


@dataclass(frozen=True)
class Plan:
    """Bytes at the peak of a process that reads `context` tokens.

    base: interpreter and libraries; weights: the graph's, packed; loading: more while they are
    packed; rows: recent rows of the two-stage head; tokenizer: 0 without text; caches: keys and
    values; rotary: positions of a call; growing: an old array beside the new one; activations: of a
    chunk of a prompt; scores: what attention holds of it; floats: int8 caches while it reads them
    """

    context: int
    base: int
    weights: int
    loading: int
    rows: int
    tokenizer: int
    caches: int
    rotary: int
    growing: int
    activations: int
    scores: int
    floats: int

    @property
    def peak(self) -> int:
        call = self.rotary + self.activations + self.scores + self.floats
        running = self.tokenizer + self.caches + self.growing + call
        return self.base + self.weights + self.rows + max(self.loading, running)


Planned = Callable[[int], Plan]  # of a context, for one bundle and one engine


def plan(manifest: Manifest, context: int, *, text: bool = False) -> Plan:
    """`text`: with the tokenizer and the ends of turns, which a benchmark does without.

    Raises GemmaError for a bundle without an ONNX artifact.
    """
    model, artifact = manifest.model, manifest.artifacts.get("onnx")
    if artifact is None:
        raise BundleError(
            f"the bundle has no ONNX artifact; it has {', '.join(manifest.artifacts) or 'nothing'}",
            "export it with targets=['onnx']",
        )
    reached = min(context, model.context)
    rows = -(-reached // STEP) * STEP
    full = [cache for cache in model.caches if cache.kind == "full"]
    kept = sum(cache_bytes(model, cache, 0) for cache in model.caches if cache.kind == "sliding") if text else 0
    return Plan(
        context=reached,
        base=BASE,
        weights=artifact.memory.weights or manifest.files[artifact.weights].size,
        loading=artifact.memory.loading,
        rows=head_rows(model),
        tokenizer=TEXT * model.vocab_size if text else 0,
        caches=sum(cache_bytes(model, cache, rows) for cache in model.caches) + TURNS * kept,
        rotary=rotary_bytes(model, min(reached, CHUNK)),
        growing=max((cache_bytes(model, cache, rows - STEP) // 2 for cache in full), default=0),
        activations=activations(model, artifact, min(reached, CHUNK)),
        scores=artifact.memory.score * scores(reached),
        floats=artifact.memory.row * min(reached, artifact.memory.rows),
    )


def cache_bytes(model: ModelFacts, cache: Cache, rows: int) -> int:
    held = model.window + max(CHUNK, SLACK) if cache.kind == "sliding" else rows
    return row_bytes(cache, cache.dtype) * held


def rotary_bytes(model: ModelFacts, tokens: int) -> int:
    """Cosines and sines of a call's positions, for every kind of layer."""
    return sum(2 * 4 * tokens * (rope.head_dim // 2) for rope in model.rope.values())


def head_rows(model: ModelFacts) -> int:
    """Raw 8-bit rows that the two-stage head keeps, and the place of each."""
    if not model.rescored:
        return 0
    return max(ROWS, model.rescored) * (model.hidden_size + 12) + 4 * model.vocab_size


def activations(model: ModelFacts, artifact: Artifact, tokens: int) -> int:
    """Return the bytes of a call: what the graph holds at its widest, and rows, raw and as floats."""
    rows = tokens * (2 + 4) * (model.hidden_size + model.layers * model.per_layer_dim)
    return tokens * artifact.memory.token + rows + 4 * 4 * model.vocab_size


def scores(context: int) -> int:
    """The most tokens of a call times positions that they see."""
    most: int = max((piece.stop - piece.start) * piece.stop for piece in chunks(0, context))
    return most


def longest_context(plan: Planned, most: int, room: int) -> int:
    """The most tokens, in steps of the caches and at most `most`, that fit `room` bytes; 0 if none do."""
    steps = range(-(-most // STEP) + 1)
    low, high = 0, steps[-1]
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if plan(middle * STEP).peak <= room else (low, middle - 1)
    return min(low * STEP, most)


def check_room(plan: Planned, most: int, context: int, room: int) -> None:
    """Raises GemmaError, with what would fit, if a context does not fit `room` bytes."""
    needed = plan(context).peak
    if needed <= room:
        return
    fitting = longest_context(plan, most, room)
    hint = f"{fitting} tokens fit; ask for no more" if fitting else "free some memory, or export with fewer bits"
    raise ContextFull(
        f"a context of {context} tokens needs {needed / 1e6:,.0f} MB, but only {room / 1e6:,.0f} MB are available", hint
    )
