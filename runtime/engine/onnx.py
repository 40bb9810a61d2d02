"""The lowered graph in onnxruntime: token ids in, logits out, keys and values kept between calls."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from ..arrays import Floats, Ids
from ..bundle.bundle import Bundle
from ..bundle.manifest import Manifest
from ..bundle.row_table import RowTable
from ..errors import BundleError, GemmaError
from ..machine.idle_cores import idle_cores
from ..machine.load_beside import load_beside
from ..machine.mapped_weights import drop_clean_pages
from .cache import STEP, CacheState, FullCache, KVCache, Rows, WindowCache
from .chunk import CHUNK
from .contract import (
    Cancelled,
    Step,
    check_tables,
    check_threads,
    closed,
    open_head,
    open_tables,
    prefetch,
)
from .memory_plan import Plan, plan
from .piece import Piece, check_piece, in_calls
from .rotary import RotaryRows

PLAIN_ARM = "mlas.disable_kleidiai"
TILES = "ORT_GQA_DISABLE_FLASH_ATTENTION"
OPENING = threading.Lock()


@dataclass
class Call:
    """Arrays of one call shape, bound once: (tokens in, positions kept)."""

    binding: Any
    inputs: dict[str, NDArray[Any]]
    logits: Floats  # (kept, vocab)
    hidden: Floats  # (kept, hidden)


class OnnxWeights:
    """A bundle's ONNX artifact in onnxruntime, its row files and its head: what all conversations share.

    onnxruntime runs several calls at once, each with arrays and options of its own.
    """

    def __init__(self, bundle: Bundle, threads: int = 0, beside: Callable[[], object] = lambda: None) -> None:
        """`beside` is called while onnxruntime loads the artifact.

        Raises GemmaError if the bundle has no ONNX artifact, onnxruntime refuses it, or its parts do not fit.
        """
        check_threads(threads)
        self.manifest = manifest = bundle.manifest
        self.model = manifest.model
        self.threads = threads or idle_cores()
        self._session: ort.InferenceSession | None = load(bundle, self.threads, beside)
        artifact = manifest.artifacts["onnx"]
        drop_clean_pages(bundle.path(artifact.data))
        self.inputs = {tensor.name for tensor in artifact.inputs}
        self.outputs = {tensor.name for tensor in artifact.outputs}
        self.tables = open_tables(bundle)
        check_fit(bundle, self.session, self.tables)
        self.head = open_head(bundle, self.tables)

    @property
    def session(self) -> ort.InferenceSession:
        """Raises GemmaError once the weights are closed."""
        if self._session is None:
            raise closed()
        return self._session

    def check_open(self) -> None:
        """Raises GemmaError once the weights are closed."""
        if self._session is None:
            raise closed()

    @staticmethod
    def planned(manifest: Manifest, context: int, *, text: bool = False) -> Plan | None:
        """Raises GemmaError for a bundle without an ONNX artifact."""
        return plan(manifest, context, text=text)

    def engine(self) -> OnnxEngine:
        """One conversation's caches over these weights."""
        return OnnxEngine(self)

    def close(self) -> None:
        """Free the weights and the row files; a call that runs keeps the weights until it ends."""
        self._session = None
        for table in self.tables.values():
            table.close()


class OnnxEngine:
    """One conversation over a bundle's ONNX artifact.  `position` tokens are in the caches."""

    def __init__(self, weights: OnnxWeights, chunk: int = CHUNK) -> None:
        """`chunk`: the most tokens of a call."""
        self.weights = weights
        self.model, self.threads, self.tables, self.head = weights.model, weights.threads, weights.tables, weights.head
        self._chunk = chunk
        self._options = ort.RunOptions()
        self._calls: dict[tuple[int, int], Call] = {}
        self.reset()

    @classmethod
    def open(cls, bundle: Bundle, threads: int = 0) -> OnnxEngine:
        """An engine whose weights nobody shares.  Raises GemmaError as OnnxWeights does."""
        return cls(OnnxWeights(bundle, threads))

    def plan(self, context: int) -> Plan | None:
        """What a process takes at its peak that reads `context` tokens, in bytes by part."""
        return plan(self.weights.manifest, context)

    def caches(self) -> Sequence[KVCache] | None:
        """Keys and values of the layers that own some, in the order of the manifest."""
        return self._caches

    def reset(self) -> None:
        """Forget everything read so far."""
        self.position = 0
        self._caches: list[KVCache] = [
            WindowCache(spec, self.model.window, self._chunk) if spec.kind == "sliding" else FullCache(spec)
            for spec in self.model.caches
        ]
        self._rotary: dict[str, RotaryRows] = {}
        self._rows = 0  # of the rotary tables
        self._calls.clear()

    def rewind(self, position: int) -> bool:
        """Forget what comes after `position`; false, and nothing changed, if a window has moved past it."""
        before = [cache.length for cache in self._caches]
        rewound = [cache.rewind(position, self.position) for cache in self._caches]
        if all(rewound):
            self.position = position
            return True
        for cache, length in zip(self._caches, before, strict=True):
            cache.length = length
        return False

    def save(self) -> CacheState:
        """What was read so far, to come back to; for this engine, until it is reset."""
        return CacheState(self.position, tuple(cache.save() for cache in self._caches))

    def restore(self, state: CacheState) -> None:
        """Forget what was read after a `save`."""
        self.position = state.position
        for cache, saved in zip(self._caches, state.caches, strict=True):
            cache.restore(saved)

    def fill(self, position: int, arrays: Sequence[tuple[Rows, Rows]]) -> None:
        """Go on where another engine of this bundle was: the rows in use of its caches, keys and values."""
        self.reset()
        for cache, (key, value) in zip(self._caches, arrays, strict=True):
            cache.fill(key, value)
        self.position = position

    def cancel(self) -> None:
        """Stop the running call, from any thread."""
        self._options.terminate = True

    def resume(self) -> None:
        """Forget a `cancel` that came when no call was running."""
        self._options = ort.RunOptions()

    def prefill(self, ids: Ids, kept: int = 1) -> Step:
        """Read a prompt in chunks; logits of its last `kept` positions, which must fit the last chunk."""
        self.weights.check_open()
        prefetch(self.tables, ids)
        for piece in in_calls(Piece(ids, kept), self.position, self._chunk):
            step = self.forward(piece)
        return step

    def forward(self, piece: Piece) -> Step:
        """Read the tokens of one call; logits and hidden states of the last `kept`.

        Raises GemmaError at the context limit and for a piece that can not be read, and Cancelled after `cancel`.
        """
        self.weights.check_open()
        check_piece(piece, self.position, self.model)
        tokens, kept = len(piece.ids), piece.kept
        self._make_room(tokens)
        call = self._calls.get((tokens, kept)) or self._bind(tokens, kept)
        self._fill(call.inputs, piece)
        self._run(call)
        self.position += tokens
        for cache in self._caches:
            cache.length += tokens
        if self.head:
            self.head.rescore(call.logits, call.hidden)
        return Step(call.logits, call.hidden)

    def _make_room(self, tokens: int) -> None:
        moved = [cache.make_room(tokens) for cache in self._caches]
        needed = max([self.position + tokens, *(cache.key.shape[2] for cache in self._caches)])
        grown = needed > self._rows
        if any(moved) or grown:
            self._calls.clear()
        if grown:
            self._rows = -(-needed // STEP) * STEP
            self._rotary = {kind: RotaryRows(rope, self._rows) for kind, rope in self.model.rope.items()}

    def _bind(self, tokens: int, kept: int) -> Call:
        """Make and bind the arrays of a call; the binding holds pointers, the Call holds the arrays."""
        binding, inputs = self.weights.session.io_binding(), self._arrays(tokens, kept)
        for kind, rows in self._rotary.items():
            inputs[f"{kind}.cos"], inputs[f"{kind}.sin"] = rows.cos, rows.sin
        for name, array in inputs.items():
            if name in self.weights.inputs:
                binding.bind_input(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)
        for cache in self._caches:
            own = cache.spec.layer
            readers = [f"present.{layer}" for layer, source in enumerate(self.model.sources) if source == own]
            if f"kept.{own}.key" in self.weights.outputs:
                readers.append(f"kept.{own}")
            for part, array in (("key", cache.key), ("value", cache.value)):
                where = ("cpu", 0, array.dtype, array.shape, array.ctypes.data)
                binding.bind_input(f"past.{own}.{part}", *where)
                for reader in readers:
                    binding.bind_output(f"{reader}.{part}", *where)
        logits = np.empty((kept, self.model.vocab_size), np.float32)
        hidden = np.empty((kept, self.model.hidden_size), np.float32)
        for name, array in (("logits", logits), ("hidden", hidden)):
            binding.bind_output(name, "cpu", 0, array.dtype, (1, *array.shape), array.ctypes.data)
        call = Call(binding, inputs, logits, hidden)
        if tokens == 1:
            self._calls[tokens, kept] = call
        return call

    def _arrays(self, tokens: int, kept: int) -> dict[str, NDArray[Any]]:
        own, dim = self.model.own_kv_layers, self.model.per_layer_dim
        arrays: dict[str, NDArray[Any]] = {
            "inputs_embeds": np.empty((1, tokens, self.model.hidden_size), np.float32),
            "per_layer_inputs": np.empty((1, tokens, own * dim), np.float32),
            "per_layer_inputs_kept": np.empty((1, kept, (self.model.layers - own) * dim), np.float32),
            "positions": np.arange(tokens, dtype=np.int64)[None],  # rows of the rotary tables
            "positions_kept": np.arange(tokens - kept, tokens, dtype=np.int64)[None],
            "kept": np.arange(tokens - kept, tokens, dtype=np.int64),
        }
        for kind in ("full", "sliding"):
            arrays[f"{kind}.last"], arrays[f"{kind}.total"] = np.empty(1, np.int32), np.empty((), np.int32)
        return arrays

    def _fill(self, inputs: dict[str, NDArray[Any]], piece: Piece) -> None:
        ids, kept, own = piece.row_ids, piece.kept, self.model.own_kv_layers
        tokens = len(ids)
        inputs["inputs_embeds"][0] = piece.embeddings(self.tables["tokens"])
        if "per_layer" in self.tables:
            table = self.tables["per_layer"]
            inputs["per_layer_inputs"][0] = table.rows(ids, slice(0, own)).reshape(tokens, -1)
            if own < self.model.layers:
                inputs["per_layer_inputs_kept"][0] = table.rows(ids[-kept:], slice(own, None)).reshape(kept, -1)
        for rotary in self._rotary.values():
            rotary.fill(np.arange(self.position, self.position + tokens))
        for cache in self._caches:
            total = cache.length + tokens
            inputs[f"{cache.spec.kind}.last"][:], inputs[f"{cache.spec.kind}.total"][...] = total - 1, total

    def _run(self, call: Call) -> None:
        session = self.weights.session
        try:
            session.run_with_iobinding(call.binding, self._options)
        except Exception as error:  # onnxruntime's own exceptions derive from Exception
            if self._options.terminate:
                self.resume()
                raise Cancelled from error
            raise GemmaError(f"onnxruntime failed: {error}", "check the bundle with `gemma-edge verify`") from error


def check_fit(bundle: Bundle, session: ort.InferenceSession, tables: dict[str, RowTable]) -> None:
    """Raises GemmaError unless graph and row files have the sizes that the manifest gives."""
    model = bundle.manifest.model
    last = {tensor.name: tensor.shape[-1:] for tensor in [*session.get_inputs(), *session.get_outputs()]}
    widths = {
        "inputs_embeds": model.hidden_size,
        "per_layer_inputs": model.own_kv_layers * model.per_layer_dim,
        "per_layer_inputs_kept": (model.layers - model.own_kv_layers) * model.per_layer_dim,
        "logits": model.vocab_size,
        "hidden": model.hidden_size,
    }
    wrong = [name for name, width in widths.items() if width and last.get(name) != [width]]
    if wrong:
        raise BundleError(
            f"{bundle.folder}: {', '.join(wrong)} do not have the sizes that bundle.json gives",
            "export the bundle again",
        )
    check_tables(bundle, tables)


def opened(path: str, options: ort.SessionOptions) -> ort.InferenceSession:
    try:
        return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own exceptions derive from Exception
        raise BundleError(f"{path}: onnxruntime cannot load it: {error}", "export the bundle again") from error


def load(
    bundle: Bundle,
    threads: int,
    beside: Callable[[], object],
    read: Callable[[str, ort.SessionOptions], ort.InferenceSession] = opened,
) -> ort.InferenceSession:
    """The artifact in onnxruntime, which `read` asks for it; `beside` is called meanwhile."""
    artifact = bundle.manifest.artifacts.get("onnx")
    if artifact is None:
        artifacts = ", ".join(bundle.manifest.artifacts) or "nothing"
        raise BundleError(
            f"{bundle.folder} has no ONNX artifact; it has {artifacts}", "export it again with targets=['onnx']"
        )
    bundle.path(artifact.data)
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    # A per-run memory plan would keep the largest chunk's activations for the life of the session.
    options.enable_mem_pattern = False
    if not artifact.kleidiai:
        options.add_session_config_entry(PLAIN_ARM, "1")
    path = bundle.path(artifact.file)
    with plain_attention(whole=any(cache.dtype == "int8" for cache in bundle.manifest.model.caches)):
        return load_beside(lambda: read(str(path), options), beside)[0]


@contextmanager
def plain_attention(*, whole: bool) -> Iterator[None]:
    """onnxruntime computes all scores of a call at once, instead of tile by tile, in the session that the block opens.

    With int8 caches a step is a tenth faster.  Only the environment tells it, when its operators are made: the
    variable is there for that time, and sessions of this process are opened one after the other, so that each has
    its own.  Whoever set the variable keeps it.
    """
    with OPENING:
        if not whole or TILES in os.environ:
            yield
            return
        os.environ[TILES] = "1"
        try:
            yield
        finally:
            del os.environ[TILES]
