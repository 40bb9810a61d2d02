"""A bundle that is open: what all conversations with it share, loaded once."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from weakref import WeakSet

from ..bundle.bundle import Bundle
from ..engine.contract import Weights, check_threads, closed
from ..engine.engine import DEFAULT, check_engine, open_weights
from ..errors import RequestError
from ..language.control_tokens import ControlTokens
from ..language.tokenizer import Tokenizer
from ..machine.available_memory import available
from .context_length import check_context, chosen_context
from .session import Session
from .structured import Grammars


class Model:
    """Weights, tokenizer, grammars and row tables of a bundle; `session` begins a conversation over them.

    Several sessions may answer at once, each in a thread of its own.  `close`, or leaving a `with` block, frees what
    was loaded.
    """

    def __init__(
        self,
        bundle: Bundle,
        engine: str = DEFAULT,
        threads: int = 0,
        context: int = 0,
        *,
        weights: Weights | None = None,
    ) -> None:
        """Loads what is in an open bundle, and does not ask whether memory holds it, which `open` does.

        `context` limits the tokens of prompt and answers; 0: to what the artifact can.  `weights` are this bundle's
        own, if they are loaded already; `engine` and `threads` then mean nothing.  Raises GemmaError if a part of the
        bundle can not be loaded.
        """
        self.bundle, self.manifest = bundle, bundle.manifest
        if weights:
            self._load_text()
        self.weights = weights or open_weights(engine, bundle, threads, self._load_text)
        most = self.weights.model.context
        self.context = min(context or most, most)
        self._sessions: WeakSet[Session] = WeakSet()
        self._closed = False

    @classmethod
    def open(cls, path: str | Path, *, engine: str = DEFAULT, threads: int = 0, context: int = 0) -> Model:
        """Opens the folder of a bundle and loads it.

        `threads` 0 takes the cores that are idle.  `context` is the most tokens of prompt and answers of a session;
        0 takes the longest that memory holds, at most the model's.  Memory is asked for one session.
        Raises GemmaError for an engine that there is not, for numbers below zero, for a context that the model does not
        have or that does not fit, and for a bundle that can not be opened or loaded.
        """
        check_engine(engine)
        check_threads(threads)
        check_context(context)
        check_path(path)
        bundle = Bundle.open(Path(path))
        # What this process has already counts twice: a margin.
        context = chosen_context(bundle.manifest, engine, context, available())
        return cls(bundle, engine, threads, context)

    def _load_text(self) -> None:
        self.tokenizer = Tokenizer.of(self.bundle)
        self.control = ControlTokens.of(self.tokenizer.pieces.token_to_id)
        self.grammars = Grammars(self.bundle, self.tokenizer.pieces)

    def session(self, *, trust_control_tokens: bool = False) -> Session:
        """A new conversation.

        trust_control_tokens: what looks like a control token in a message or a tool is one, instead of text.
        Raises GemmaError if the model is closed.
        """
        if self._closed:
            raise closed()
        session = Session(self, self.weights.engine(), trust_control_tokens=trust_control_tokens)
        self._sessions.add(session)
        return session

    def close(self) -> None:
        """Ends the answers that run, and frees the weights.  A session of the model raises GemmaError from here on."""
        if self._closed:
            return
        self._closed = True
        for session in list(self._sessions):
            session.close("model")
        self.grammars.close()
        self.weights.close()

    def __enter__(self) -> Model:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def check_path(path: str | Path) -> None:
    """Raises RequestError for what no file system has as a path."""
    hint = "give the folder of a bundle"
    if not isinstance(path, str | Path):
        raise RequestError(f"the path must be a text or a Path, not {path!r:.40}", hint)
    try:
        Path(path).is_dir()
    except OSError as error:
        raise RequestError(f"the path {str(path)!r:.40} can not be opened: {error.strerror}", hint) from error
