"""A bundle's Core ML artifact run in numpy, with the contract of runtime/engine: what verify and goldens read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Event

import msgspec
import numpy as np

from runtime.bundle.bundle import Bundle
from runtime.bundle.manifest import Manifest
from runtime.engine.cache import KVCache, Rows
from runtime.engine.contract import Cancelled, Step, open_head, open_tables
from runtime.engine.memory_plan import Plan
from runtime.engine.piece import Piece, check_piece
from runtime.engine.rotary import rotary_table
from runtime.errors import GemmaError

from ..model.arrays import Array, Floats, Ids
from .evaluator import Precision, Program, States

UNSEEN = np.float32(-3e4)  # added to the score of a key that a query does not see; float16 has it too
FEW_TOKENS = 4  # tokens that are read one by one: a call of many costs more


@dataclass(frozen=True)
class CoreMLState:
    position: int
    states: States


class CoreMLWeights:
    """A bundle's Core ML artifact as numpy runs it, its row files and its head: what all conversations share."""

    threads = 1

    def __init__(
        self,
        bundle: Bundle,
        threads: int = 0,
        beside: Callable[[], object] = lambda: None,
        *,
        precision: Precision = "float32",
    ) -> None:
        """numpy takes the threads that it takes.

        Raises GemmaError if the bundle has no Core ML artifact, or it can not be read.
        """
        artifact = bundle.manifest.artifacts.get("coreml")
        if artifact is None:
            artifacts = ", ".join(bundle.manifest.artifacts) or "nothing"
            raise GemmaError(
                f"{bundle.folder} has no Core ML artifact; it has {artifacts}",
                "export it again with targets=['coreml']",
            )
        beside()
        self.tables = open_tables(bundle)
        self.head = open_head(bundle, self.tables)
        self.tokens = artifact.functions["prefill"]
        self.rows = {state.name.split("_")[0]: int(state.shape[2]) for state in artifact.states}
        model = bundle.manifest.model
        self.model = msgspec.structs.replace(model, context=min(model.context, self.rows.get("full", model.context)))
        self.program = Program.open(bundle.path(artifact.file), precision)

    @staticmethod
    def planned(manifest: Manifest, context: int, *, text: bool = False) -> Plan | None:
        """None: what Core ML takes is not known here."""
        return None

    def engine(self) -> CoreMLEngine:
        """One conversation's states over these weights."""
        return CoreMLEngine(self)

    def close(self) -> None:
        """Close the row files."""
        for table in self.tables.values():
            table.close()


class CoreMLEngine:
    """One conversation over a bundle's Core ML artifact.  `position` tokens are in the states."""

    def __init__(self, weights: CoreMLWeights) -> None:
        self.weights, self.program, self.tokens, self.rows = weights, weights.program, weights.tokens, weights.rows
        self.model, self.threads, self.tables, self.head = weights.model, weights.threads, weights.tables, weights.head
        self._rope = {kind: rotary_table(self.model.rope[kind], self.model.context + self.tokens) for kind in self.rows}
        self._cancelled = Event()
        self.reset()

    @classmethod
    def open(cls, bundle: Bundle, precision: Precision = "float32") -> CoreMLEngine:
        """An engine whose weights nobody shares.  Raises GemmaError as CoreMLWeights does."""
        return cls(CoreMLWeights(bundle, precision=precision))

    def cancel(self) -> None:
        """End the running `forward` after the call that runs now, from any thread."""
        self._cancelled.set()

    def resume(self) -> None:
        """Forget a `cancel` that came when no call was running."""
        self._cancelled.clear()

    def plan(self, context: int) -> Plan | None:
        """None: there is no plan for Core ML."""
        return None

    def caches(self) -> Sequence[KVCache] | None:
        """None: the program owns the caches."""
        return None

    def fill(self, position: int, arrays: Sequence[tuple[Rows, Rows]]) -> None:
        """Raises GemmaError: there are no caches to fill."""
        raise GemmaError("Core ML keeps its caches itself", "use an engine that has `caches()`")

    def reset(self) -> None:
        """Forget everything read so far."""
        self.position = 0
        self.states = self.program.new_states("decode")

    def save(self) -> CoreMLState:
        """Give what was read so far, to come back to."""
        return CoreMLState(self.position, {name: rows.copy() for name, rows in self.states.items()})

    def restore(self, state: CoreMLState) -> None:
        """Forget what was read after a `save`."""
        self.position, self.states = state.position, {name: rows.copy() for name, rows in state.states.items()}

    def rewind(self, position: int) -> bool:
        """Forget what comes after `position`; false, and nothing changed, if a window has moved past it."""
        back, rows = self.position - position, self.rows.get("sliding", 0)
        if rows and max(0, min(self.position, rows) - back) < min(position, self.model.window - 1):
            return False
        for name in ("sliding_key", "sliding_value"):
            if name in self.states and back:
                self.states[name] = np.roll(self.states[name], back, 2)
        self.position = position
        return True

    def prefill(self, ids: Ids, kept: int = 1) -> Step:
        """Read a prompt; logits of its last `kept` positions."""
        return self.forward(Piece(ids, kept))

    def forward(self, piece: Piece) -> Step:
        """Read tokens, many at a time as far as only the last of them is kept; logits of the last `kept`.

        Raises GemmaError at the context limit, for a piece that can not be read, and for logits that are not finite.
        """
        check_piece(piece, self.position, self.model)
        tokens, kept = len(piece.ids), piece.kept
        alone = tokens - kept + 1  # tokens of which the last is the first that is kept
        steps = self._read(piece.part(0, alone))
        steps += [self._call(piece.part(at, at + 1)) for at in range(alone, tokens)]
        logits, hidden = (np.concatenate([step[i] for step in steps[-kept:]]) for i in range(2))
        if self.head:
            self.head.rescore(logits, hidden)
        return Step(logits, hidden)

    def _read(self, piece: Piece) -> list[tuple[Floats, Floats]]:
        """Calls of many tokens, then of one where few are left or the states have no room for a call's padding."""
        steps, start, tokens = [], 0, len(piece.ids)
        while start < tokens:
            many = tokens - start > FEW_TOKENS and self._fits()
            count = min(self.tokens, tokens - start) if many else 1
            steps.append(self._call(piece.part(start, start + count)))
            start += count
        return steps

    def _fits(self) -> bool:
        return self.position + self.tokens <= self.rows.get("full", self.position + self.tokens)

    def _call(self, piece: Piece) -> tuple[Floats, Floats]:
        """Logits (1, vocab) and hidden states (1, hidden) after one call."""
        outputs = self._run("decode" if len(piece.ids) == 1 else "prefill", self._feeds(piece))
        self.position += len(piece.ids)
        logits, hidden = outputs["logits"][0], outputs["hidden"][0]
        if not np.isfinite(logits).all():
            raise GemmaError(
                f"the Core ML artifact gives logits that are not finite, at position {self.position - 1}",
                "float16 is too narrow for this model; use another target",
            )
        return logits, hidden

    def _run(self, function: str, feeds: dict[str, Array]) -> dict[str, Array]:
        if self._cancelled.is_set():
            self.resume()
            raise Cancelled
        return self.program.run(function, feeds, self.states)

    def _feeds(self, piece: Piece) -> dict[str, Array]:
        """Inputs of a call, by name; the rows after the tokens are zeros."""
        ids = piece.row_ids
        count, own, model = len(ids), self.model.own_kv_layers, self.model
        size = 1 if count == 1 else self.tokens
        feeds: dict[str, Array] = {
            "inputs_embeds": padded(piece.embeddings(self.tables["tokens"]), size)[None],
            "position": np.array([self.position], np.int32),
        }
        if size > 1:
            feeds |= {"kept": np.array([count - 1], np.int32), "tokens": np.array([count], np.int32)}
        if "per_layer" in self.tables:
            rows = self.tables["per_layer"].rows(ids, slice(0, own)).reshape(count, -1)
            feeds["per_layer_inputs"] = padded(rows, size)[None]
            if own < model.layers:
                feeds["per_layer_inputs_kept"] = (
                    self.tables["per_layer"].rows(ids[-1:], slice(own, None)).reshape(1, 1, -1)
                )
        for kind, past in self.rows.items():
            for part, table in zip(("cos", "sin"), self._rope[kind], strict=True):
                feeds[f"{kind}_{part}"] = table[None, None, self.position : self.position + size]
            feeds[f"{kind}_mask"] = mask(kind, self.position, size, past, model.window)[None, None]
        return feeds


def padded(rows: Floats, size: int) -> Floats:
    """(n, m) to (size, m)."""
    return np.pad(rows, ((0, size - len(rows)), (0, 0)))


def mask(kind: str, position: int, size: int, past: int, window: int) -> Floats:
    """(size, past + size): zero where a query sees a key.

    Columns are the rows of the state, of a full layer from position 0 on, of a sliding layer up to the last
    position; then the call's own tokens.
    """
    queries = position + np.arange(size)[:, None]
    first = 0 if kind == "full" else position - past
    rows = first + np.arange(past)
    known = (rows >= 0) & (rows < position)
    keys = np.concatenate([rows, position + np.arange(size)])
    seen = np.concatenate([known, np.ones(size, bool)]) & (keys <= queries)
    if kind == "sliding":
        seen &= queries - keys < window
    return np.where(seen, np.float32(0), UNSEEN)
