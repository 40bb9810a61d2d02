"""A bundle that is open."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Unpack

from .conversation import ROUNDS, Session
from .options import Options
from .tools import Function

if TYPE_CHECKING:
    from runtime.session.model import Model as OpenBundle


class Model:
    """The weights of a bundle, loaded once for all conversations; `close`, or the end of a `with` block, frees them.

    Sessions may answer at once, each in a thread of its own.
    """

    def __init__(self, bundle: OpenBundle) -> None:
        """Use `Model.open`."""
        self._bundle = bundle

    @classmethod
    def open(cls, path: str | Path, *, context: int = 0, engine: str = "onnx", threads: int = 0) -> Model:
        """Open the folder of a bundle and load it.

        context: the most tokens of a conversation; 0 takes the longest that memory holds, at most the model's.
        engine: "onnx" or "executorch"; threads: 0 takes the cores that are idle.
        Raises BundleError for what is no sound bundle, RequestError for what it can not be opened with, ContextFull
        for a context that memory does not hold, and NotInstalled for a package that the engine needs.

        While it loads, some settings of the whole process change and come back; with ExecuTorch, whose threads are
        the process's, their number stays.
        """
        from runtime.session.model import Model as OpenBundle  # and with it onnxruntime, tokenizers, numpy

        return cls(OpenBundle.open(path, context=context, engine=engine, threads=threads))

    @property
    def context(self) -> int:
        """The most tokens that a conversation can have."""
        return self._bundle.context

    def session(self, *, system: str | None = None) -> Session:
        """A new conversation.  `system` is what the model is told before the first turn."""
        return Session(self._bundle.session(), system)

    def ask(
        self,
        text: str,
        *,
        system: str | None = None,
        tools: Sequence[Function] = (),
        rounds: int = ROUNDS,
        **options: Unpack[Options],
    ) -> str:
        """Answer one question, in a conversation of its own.  Raises what `Session.say` raises."""
        with self.session(system=system) as session:
            return session.ask(text, tools=tools, rounds=rounds, **options)

    def close(self) -> None:
        """End the answers that run, and free the weights."""
        self._bundle.close()

    def __enter__(self) -> Model:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()
