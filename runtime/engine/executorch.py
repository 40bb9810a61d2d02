"""The lowered graph in ExecuTorch: as onnx.py, over a program of two methods that own their caches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from threading import Event
from types import ModuleType
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from ..bundle.bundle import Bundle
from ..errors import GemmaError
from ..machine.idle_cores import idle_cores
from ..machine.load_beside import load_beside
from ..needs import needs
from .contract import Cancelled, Ids, Step, check_tables, open_head, open_tables
from .rotary import frequencies, rotary_rows
from .slots import Positions, Slots

FEW = 8  # tokens: as fast one by one as in a call of many


@dataclass(frozen=True)
class State:
    """What was read: positions by row of each kind of layer, and copies of the sliding layers' caches."""

    position: int
    held: dict[str, Positions]
    caches: dict[str, Any]


class ExecutorchEngine:
    """Feeds a bundle's ExecuTorch artifact.  `position` tokens are in the caches."""

    def __init__(self, bundle: Bundle, threads: int = 0, beside: Callable[[], object] = lambda: None) -> None:
        """`beside` is called while the program is loaded.

        Raises GemmaError if the bundle has no ExecuTorch artifact, the extra is missing, ExecuTorch refuses the
        program, or its parts do not fit.
        """
        if threads < 0:
            raise GemmaError(f"threads {threads}: not a number from 0 up", "0 takes the cores that are idle")
        artifact = bundle.manifest.artifacts.get("executorch")
        if artifact is None:
            made = ", ".join(bundle.manifest.artifacts) or "nothing"
            raise GemmaError(
                f"{bundle.folder}: no ExecuTorch artifact, only {made}", "export it again with --to executorch"
            )
        model = bundle.manifest.model
        self.model = msgspec.structs.replace(model, context=min(model.context, artifact.context or model.context))
        self.tokens, self.threads = artifact.functions.get("prefill", 0), threads or idle_cores()
        self._torch = imported("torch")
        self._path = bundle.path(artifact.file)
        self._inputs = {tensor.name: tensor.shape for tensor in artifact.inputs}
        self.tables = open_tables(bundle)
        check_tables(bundle, self.tables)
        self.head = open_head(bundle, self.tables)
        pool = imported("executorch.extension.pybindings.portable_lib")
        if pool._threadpool_get_thread_count() != self.threads:
            pool._unsafe_reset_threadpool(self.threads)
        self._program = load_beside(self._load, beside)[0]
        self._methods = {"decode": self._method("decode")}
        self._check_fit(bundle)
        self._cancelled = Event()
        self.reset()

    def _load(self) -> Any:
        return self._said(lambda: imported("executorch.runtime").Runtime.get().load_program(self._path))

    def _method(self, name: str) -> Any:
        return self._said(lambda: self._program.load_method(name))

    def _said(self, call: Callable[[], Any]) -> Any:
        """Raises GemmaError for what ExecuTorch raises."""
        try:
            return call()
        except (RuntimeError, ValueError, KeyError, MemoryError) as error:
            raise GemmaError(f"{self._path}: ExecuTorch refuses it: {error}", "export the bundle again") from error

    def _check_fit(self, bundle: Bundle) -> None:
        """Raises GemmaError unless the program's inputs and outputs are those of the manifest, and of its sizes."""
        found, model = self._methods["decode"].metadata, self.model
        inputs = [list(found.input_tensor_meta(index).sizes()) for index in range(found.num_inputs())]
        outputs = [list(found.output_tensor_meta(index).sizes()) for index in range(found.num_outputs())]
        own, dim = model.own_kv_layers, model.per_layer_dim
        widths = {
            "inputs_embeds": model.hidden_size,
            "per_layer_inputs": own * dim,
            "per_layer_inputs_kept": (model.layers - own) * dim,
            **{f"{kind}.{part}": rope.head_dim // 2 for kind, rope in model.rope.items() for part in ("cos", "sin")},
        }
        wrong = [name for name, width in widths.items() if width and self._inputs.get(name, [0])[-1] != width]
        kinds = {cache.kind for cache in model.caches}
        wrong += [f"{kind}.mask" for kind in kinds if not self._holds(kind)]
        if inputs != list(self._inputs.values()) or outputs != [[1, 1, model.vocab_size], [1, 1, model.hidden_size]]:
            wrong.append(self._path.name)
        if wrong or self.tokens < 1:
            raise GemmaError(
                f"{bundle.folder}: {', '.join(wrong) or 'prefill'} are not of the sizes in bundle.json",
                "export the bundle again",
            )

    def _holds(self, kind: str) -> bool:
        """Whether the caches of a kind have rows enough."""
        rows = self._inputs.get(f"{kind}.mask", [0])[-1]
        needed = self.model.window + self.tokens - 1 if kind == "sliding" else self.model.context
        return isinstance(rows, int) and rows >= needed

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

    def save(self) -> State:
        """What was read so far, to come back to; for this decoder, until it is reset.

        Rows of full layers that are in use are not written again: their numbers are enough.
        """
        held = {kind: slots.held.copy() for kind, slots in self._slots.items()}
        return State(self.position, held, {name: one.clone() for name, one in self._rings().items()})

    def restore(self, state: State) -> None:
        """Forget what was read after a `save`."""
        self.position = state.position
        for kind, held in state.held.items():
            self._slots[kind].held[:] = held
        for name, one in self._rings().items():
            one.copy_(state.caches[name])

    def _rings(self) -> dict[str, Any]:
        """The sliding layers' caches, as the program holds them."""
        names = [f"cache_{one.layer}_{part}" for one in self.model.caches if one.kind == "sliding" for part in PARTS]
        method = self._methods["decode"]._method
        return {name: method.get_attribute(name) for name in names}

    def cancel(self) -> None:
        """End the running `forward` after the call that runs now, from any thread."""
        self._cancelled.set()

    def resume(self) -> None:
        """Forget a `cancel` that came when no call was running."""
        self._cancelled.clear()

    def prefill(self, ids: Ids, kept: int = 1) -> Step:
        """Read a prompt; logits of its last `kept` positions."""
        for table in self.tables.values():
            table.prefetch(ids)
        return self.forward(ids, kept)

    def forward(self, ids: Ids, kept: int = 1) -> Step:
        """Read tokens; logits and hidden states of the last `kept`, which are read one by one.

        Raises GemmaError at the context limit, and Cancelled after `cancel`.
        """
        if self.position + len(ids) > self.model.context:
            raise GemmaError(
                f"{self.position + len(ids)} tokens: the context of this artifact is {self.model.context}",
                "start a new conversation, or shorten the prompt",
            )
        before = ids[: len(ids) - kept]
        whole = len(before) // self.tokens * self.tokens
        for start in range(0, whole, self.tokens):
            self._read(before[start : start + self.tokens])
        rest = before[whole:]
        if len(rest) > FEW:
            self._read(rest)
            rest = rest[:0]
        outputs = [self._step(token) for token in np.split(ids[len(before) - len(rest) :], kept + len(rest))]
        logits = np.concatenate([one[0][0] for one in outputs[-kept:]])
        hidden = np.concatenate([one[1][0] for one in outputs[-kept:]])
        if self.head:
            self.head.rescore(logits, hidden)
        return Step(logits, hidden)

    def _read(self, ids: Ids) -> None:
        """Keys and values of up to `tokens` tokens."""
        if "prefill" not in self._methods:
            self._methods["prefill"] = self._method("prefill")
        count = len(ids)
        # The last token stands in for those that are not there: it writes what it has written, once more.
        padded = np.concatenate([ids, np.repeat(ids[-1:], self.tokens - count)])
        positions = np.minimum(np.arange(self.tokens), count - 1) + self.position
        self._execute("prefill", self._fed(padded, positions, whole=False))
        self.position += count

    def _step(self, token: Ids) -> list[NDArray[np.float32]]:
        """Logits (1, 1, vocab) and hidden state (1, 1, hidden) of a token (1,)."""
        found = self._execute("decode", self._fed(token, np.array([self.position]), whole=True))
        self.position += 1
        return [one.numpy() for one in found]

    def _fed(self, ids: Ids, positions: Positions, *, whole: bool) -> list[NDArray[Any]]:
        """Inputs of a method, in order."""
        own = self.model.own_kv_layers
        given: dict[str, NDArray[Any]] = {"inputs_embeds": self.tables["tokens"].rows(ids)[None, :, 0]}
        if "per_layer" in self.tables:
            rows = self.tables["per_layer"].rows(ids, slice(None) if whole else slice(0, own))
            given["per_layer_inputs"] = rows[:, :own].reshape(1, len(ids), -1)
            given["per_layer_inputs_kept"] = rows[:, own:].reshape(1, len(ids), -1)
        for kind, frequency in self._frequencies.items():
            slots, (cos, sin) = self._slots[kind], rotary_rows(frequency, positions)
            given |= {f"{kind}.slots": slots.take(positions), f"{kind}.mask": slots.mask(positions)}
            given |= {f"{kind}.cos": cos, f"{kind}.sin": sin}
        names = [name for name in self._inputs if whole or name != "per_layer_inputs_kept"]
        return [np.ascontiguousarray(given[name]) for name in names]

    def _execute(self, name: str, inputs: list[NDArray[Any]]) -> Any:
        if self._cancelled.is_set():
            self.resume()
            raise Cancelled
        try:
            return self._methods[name].execute([self._torch.from_numpy(one) for one in inputs])
        except RuntimeError as error:
            raise GemmaError(f"ExecuTorch: {error}", "check the bundle with `gemma-edge verify`") from error


PARTS = ("key", "value")


def imported(name: str) -> ModuleType:
    """A module of the extra `executorch`.  Raises NotInstalled if it is missing."""
    return needs(name, "executorch", "the engine executorch")
