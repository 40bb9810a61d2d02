"""The lowered graph in ExecuTorch: as onnx.py, over a program of two methods that own their caches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from types import ModuleType
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from ..arrays import Ids
from ..bundle.bundle import Bundle
from ..bundle.manifest import Manifest
from ..errors import BundleError, GemmaError, RequestError
from ..machine.idle_cores import idle_cores
from ..machine.load_beside import load_beside
from ..needs import needs
from .cache import KVCache, Rows
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
from .memory_plan import Plan
from .piece import Piece, check_piece
from .rotary import frequencies, rotary_rows
from .slots import Positions, Slots

FEW = 8  # tokens: as fast one by one as in a call of many


@dataclass(frozen=True)
class ExecutorchState:
    """What was read: positions by row of each kind of layer, and copies of the sliding layers' caches."""

    position: int
    held: dict[str, Positions]
    caches: dict[str, Any]


class ExecutorchWeights:
    """A bundle's ExecuTorch artifact, its row files and its head: what all conversations share.

    A program owns its caches, and its methods share their memory.  So each conversation loads a program of
    its own over the same file: a second one takes as much memory as the first, with the packed weights.  Rows, head
    and the pool of threads are shared.
    """

    def __init__(self, bundle: Bundle, threads: int = 0, beside: Callable[[], object] = lambda: None) -> None:
        """`beside` is called while the first program is loaded.

        Raises GemmaError if the bundle has no ExecuTorch artifact, the extra is missing, ExecuTorch refuses the
        program, or its parts do not fit.
        """
        check_threads(threads)
        artifact = bundle.manifest.artifacts.get("executorch")
        if artifact is None:
            artifacts = ", ".join(bundle.manifest.artifacts) or "nothing"
            raise BundleError(
                f"{bundle.folder} has no ExecuTorch artifact; it has {artifacts}",
                "export it again with targets=['executorch']",
            )
        model = bundle.manifest.model
        self.model = msgspec.structs.replace(model, context=min(model.context, artifact.context or model.context))
        self.tokens, self.threads = artifact.functions.get("prefill", 0), threads or idle_cores()
        self.path = bundle.path(artifact.file)
        self.inputs = {tensor.name: tensor.shape for tensor in artifact.inputs}
        self.tables = open_tables(bundle)
        check_tables(bundle, self.tables)
        self.head = open_head(bundle, self.tables)
        pool = imported("executorch.extension.pybindings.portable_lib")
        if pool._threadpool_get_thread_count() != self.threads:
            pool._unsafe_reset_threadpool(self.threads)
        self._unused: LoadedProgram | None = load_beside(lambda: LoadedProgram(self.path), beside)[0]
        self._check_fit(bundle, self._unused)
        self._closed = False

    @staticmethod
    def planned(manifest: Manifest, context: int, *, text: bool = False) -> Plan | None:
        """None: caches have one size, whatever the context, and what ExecuTorch packs is not known."""
        return None

    def engine(self) -> ExecutorchEngine:
        """One conversation: the program that was loaded to look at it, or one more."""
        self.check_open()
        program, self._unused = self._unused or LoadedProgram(self.path), None
        return ExecutorchEngine(self, program)

    def check_open(self) -> None:
        """Raises GemmaError once the weights are closed."""
        if self._closed:
            raise closed()

    def close(self) -> None:
        """Close the row files, and free a program that no conversation has; the others go with their engines."""
        self._closed, self._unused = True, None
        for table in self.tables.values():
            table.close()

    def _check_fit(self, bundle: Bundle, program: LoadedProgram) -> None:
        """Raises GemmaError unless the program's inputs and outputs are those of the manifest, and of its sizes."""
        metadata, model = program.method("decode").metadata, self.model
        inputs = [list(metadata.input_tensor_meta(index).sizes()) for index in range(metadata.num_inputs())]
        outputs = [list(metadata.output_tensor_meta(index).sizes()) for index in range(metadata.num_outputs())]
        own, dim = model.own_kv_layers, model.per_layer_dim
        widths = {
            "inputs_embeds": model.hidden_size,
            "per_layer_inputs": own * dim,
            "per_layer_inputs_kept": (model.layers - own) * dim,
            **{f"{kind}.{part}": rope.head_dim // 2 for kind, rope in model.rope.items() for part in ("cos", "sin")},
        }
        wrong = [name for name, width in widths.items() if width and self.inputs.get(name, [0])[-1] != width]
        kinds = {cache.kind for cache in model.caches}
        wrong += [f"{kind}.mask" for kind in kinds if not self._holds(kind)]
        if inputs != list(self.inputs.values()) or outputs != [[1, 1, model.vocab_size], [1, 1, model.hidden_size]]:
            wrong.append(self.path.name)
        if wrong or self.tokens < 1:
            raise BundleError(
                f"{bundle.folder}: {', '.join(wrong) or 'prefill'} do not have the sizes that bundle.json gives",
                "export the bundle again",
            )

    def _holds(self, kind: str) -> bool:
        """Whether the caches of a kind have rows enough."""
        rows = self.inputs.get(f"{kind}.mask", [0])[-1]
        needed = self.model.window + self.tokens - 1 if kind == "sliding" else self.model.context
        return isinstance(rows, int) and rows >= needed


class LoadedProgram:
    """A program with its caches.  A method is loaded when it is first asked for."""

    def __init__(self, path: Path) -> None:
        """Raises GemmaError if ExecuTorch refuses the file."""
        self._path = path
        self._program = self._said(lambda: imported("executorch.runtime").Runtime.get().load_program(path))
        self._methods = {"decode": self._loaded("decode")}

    def method(self, name: str) -> Any:
        """Raises GemmaError if ExecuTorch refuses the method."""
        if name not in self._methods:
            self._methods[name] = self._loaded(name)
        return self._methods[name]

    def _loaded(self, name: str) -> Any:
        return self._said(lambda: self._program.load_method(name))

    def _said(self, call: Callable[[], Any]) -> Any:
        """Raises GemmaError for what ExecuTorch raises."""
        try:
            return call()
        except (RuntimeError, ValueError, KeyError, MemoryError) as error:
            raise BundleError(f"{self._path}: ExecuTorch cannot load it: {error}", "export the bundle again") from error


class ExecutorchEngine:
    """One conversation over a bundle's ExecuTorch artifact.  `position` tokens are in the caches."""

    def __init__(self, weights: ExecutorchWeights, program: LoadedProgram) -> None:
        self.weights, self._program, self.tokens = weights, program, weights.tokens
        self.model, self.threads, self.tables, self.head = weights.model, weights.threads, weights.tables, weights.head
        self._inputs = weights.inputs
        self._torch = imported("torch")
        self._cancelled = Event()
        self.reset()

    @classmethod
    def open(cls, bundle: Bundle, threads: int = 0) -> ExecutorchEngine:
        """An engine whose weights nobody shares.  Raises GemmaError as ExecutorchWeights does."""
        return ExecutorchWeights(bundle, threads).engine()

    def plan(self, context: int) -> Plan | None:
        """None: there is no plan for ExecuTorch."""
        return None

    def caches(self) -> Sequence[KVCache] | None:
        """None: the program owns the caches."""
        return None

    def fill(self, position: int, arrays: Sequence[tuple[Rows, Rows]]) -> None:
        """Raises GemmaError: there are no caches to fill."""
        raise RequestError("the engine executorch keeps its caches itself", "use an engine that has `caches()`")

    def reset(self) -> None:
        """Forget everything read so far."""
        self.position = 0
        self._slots = {
            kind: Slots(int(self._inputs[f"{kind}.mask"][-1]), self.model.window if kind == "sliding" else 0)
            for kind in self.model.rope
        }
        self._frequencies = {kind: frequencies(rope) for kind, rope in self.model.rope.items()}

    def rewind(self, position: int) -> bool:
        """Forget what comes after `position`; false, and nothing changed, if a window has moved past it."""
        if not all(slots.reaches(position) for slots in self._slots.values()):
            return False
        for slots in self._slots.values():
            slots.rewind(position)
        self.position = position
        return True

    def save(self) -> ExecutorchState:
        """What was read so far, to come back to; for this engine, until it is reset.

        Rows of full layers that are in use are not written again: their numbers are enough.
        """
        held = {kind: slots.held.copy() for kind, slots in self._slots.items()}
        return ExecutorchState(self.position, held, {name: ring.clone() for name, ring in self._rings().items()})

    def restore(self, state: ExecutorchState) -> None:
        """Forget what was read after a `save`."""
        self.position = state.position
        for kind, held in state.held.items():
            self._slots[kind].held[:] = held
        for name, ring in self._rings().items():
            ring.copy_(state.caches[name])

    def _rings(self) -> dict[str, Any]:
        """The sliding layers' caches, as the program holds them."""
        layers = [cache.layer for cache in self.model.caches if cache.kind == "sliding"]
        names = [f"cache_{layer}_{part}" for layer in layers for part in PARTS]
        method = self._program.method("decode")._method
        return {name: method.get_attribute(name) for name in names}

    def cancel(self) -> None:
        """End the running `forward` after the call that runs now, from any thread."""
        self._cancelled.set()

    def resume(self) -> None:
        """Forget a `cancel` that came when no call was running."""
        self._cancelled.clear()

    def prefill(self, ids: Ids, kept: int = 1) -> Step:
        """Read a prompt; logits of its last `kept` positions."""
        self.weights.check_open()
        prefetch(self.tables, ids)
        return self.forward(Piece(ids, kept))

    def forward(self, piece: Piece) -> Step:
        """Read tokens; logits and hidden states of the last `kept`, which are read one by one.

        Raises GemmaError at the context limit and for a piece that can not be read, and Cancelled after `cancel`.
        """
        self.weights.check_open()
        check_piece(piece, self.position, self.model)
        tokens, before = len(piece.ids), len(piece.ids) - piece.kept
        whole = before // self.tokens * self.tokens
        for start in range(0, whole, self.tokens):
            self._read(piece.part(start, start + self.tokens))
        if before - whole > FEW:
            self._read(piece.part(whole, before))
            whole = before
        outputs = [self._step(piece.part(at, at + 1)) for at in range(whole, tokens)][-piece.kept :]
        logits, hidden = (np.concatenate([output[number][0] for output in outputs]) for number in range(2))
        if self.head:
            self.head.rescore(logits, hidden)
        return Step(logits, hidden)

    def _read(self, piece: Piece) -> None:
        """Keys and values of up to `tokens` tokens."""
        count = len(piece.ids)
        # The last token stands in for those that are not there: it writes what it has written, once more.
        places = np.minimum(np.arange(self.tokens), count - 1)
        self._execute("prefill", self._inputs_of(piece, places, whole=False))
        self.position += count

    def _step(self, piece: Piece) -> list[NDArray[np.float32]]:
        """Logits (1, 1, vocab) and hidden state (1, 1, hidden) of one token."""
        outputs = self._execute("decode", self._inputs_of(piece, np.array([0]), whole=True))
        self.position += 1
        return [output.numpy() for output in outputs]

    def _inputs_of(self, piece: Piece, places: Positions, *, whole: bool) -> list[NDArray[Any]]:
        """Inputs of a method, in order: of the tokens at some places of the piece."""
        own, positions, count = self.model.own_kv_layers, self.position + places, len(places)
        arrays: dict[str, NDArray[Any]] = {"inputs_embeds": piece.embeddings(self.tables["tokens"])[None, places]}
        if "per_layer" in self.tables:
            layers = slice(None) if whole else slice(0, own)
            rows = self.tables["per_layer"].rows(piece.row_ids, layers)[places]
            arrays["per_layer_inputs"] = rows[:, :own].reshape(1, count, -1)
            arrays["per_layer_inputs_kept"] = rows[:, own:].reshape(1, count, -1)
        for kind, frequency in self._frequencies.items():
            slots, (cos, sin) = self._slots[kind], rotary_rows(frequency, positions)
            arrays |= {f"{kind}.slots": slots.take(positions), f"{kind}.mask": slots.mask(positions)}
            arrays |= {f"{kind}.cos": cos, f"{kind}.sin": sin}
        names = [name for name in self._inputs if whole or name != "per_layer_inputs_kept"]
        return [np.ascontiguousarray(arrays[name]) for name in names]

    def _execute(self, name: str, inputs: list[NDArray[Any]]) -> Any:
        if self._cancelled.is_set():
            self.resume()
            raise Cancelled
        method = self._program.method(name)
        try:
            return method.execute([self._torch.from_numpy(array) for array in inputs])
        except RuntimeError as error:
            raise GemmaError(f"ExecuTorch failed: {error}", "check the bundle with `gemma-edge verify`") from error


PARTS = ("key", "value")


def imported(name: str) -> ModuleType:
    """A module of the extra `executorch`.  Raises NotInstalled if it is missing."""
    return needs(name, "executorch", "the engine executorch")
