"""Answers of a given form: a grammar says, token by token, what may come next.

llguidance makes the masks, in a thread of its own, while the model runs.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .bundle import Bundle
from .call_grammar import call_grammar
from .errors import GemmaError
from .tool_schema import Declaration

Ids = NDArray[np.int64]  # of the tokens that a mask allows, ascending


@dataclass(frozen=True)
class JsonSchema:
    """An answer in JSON that the schema describes."""

    schema: Mapping[str, Any]


@dataclass(frozen=True)
class Regex:
    """An answer that the pattern matches as a whole."""

    pattern: str


@dataclass(frozen=True)
class Choice:
    """One of some answers."""

    choices: Sequence[str]


ResponseFormat = JsonSchema | Regex | Choice


class Matcher:
    """Where an answer is in its grammar.  `started` once a token was taken."""

    def __init__(self, matcher: Any, vocab: int, pool: ThreadPoolExecutor) -> None:
        self._matcher, self._vocab, self._pool = matcher, vocab, pool
        self._bits = np.zeros(-(-vocab // 32), np.int32)
        self.started = False
        self._mask: Future[Ids] = pool.submit(self._compute)

    def allowed(self) -> Ids:
        """The tokens that may come next, ascending; those that end the answer once it is complete."""
        return self._mask.result()

    def take(self, token: int) -> None:
        """Go on behind a token that was allowed, and begin the next mask."""
        self._mask.result()
        self.started = True
        self._mask = self._pool.submit(self._advance, token)

    def _advance(self, token: int) -> Ids:
        self._matcher.consume_token(token)
        return self._compute()

    def _compute(self) -> Ids:
        self._matcher.unsafe_compute_mask_ptr(self._bits.ctypes.data, self._bits.nbytes)
        if self._matcher.is_error():
            raise GemmaError(f"the response format: {self._matcher.get_error():.300}", "ask for a simpler one")
        return np.flatnonzero(np.unpackbits(self._bits.view(np.uint8), count=self._vocab, bitorder="little"))


class Grammars:
    """Grammars over the tokens of a bundle; llguidance is loaded when the first is asked for."""

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle
        self._tokens: Any = None
        self._pool = ThreadPoolExecutor(1, "mask")

    def response(self, asked: ResponseFormat) -> Matcher:
        """Raises GemmaError for a format that has no grammar, or if llguidance is not installed."""
        return self.matcher(self.compiled(asked))

    def calls(self, declared: Sequence[Declaration], call_end: int, quote: int) -> Callable[[], Matcher]:
        """Makes the matcher of a call, from behind its first token to its last."""
        grammar = call_grammar(declared, call_end, quote)
        return lambda: self.matcher(grammar)

    def compiled(self, asked: ResponseFormat) -> str:
        guidance = load_llguidance()
        if isinstance(asked, Regex):
            return str(guidance.LLMatcher.grammar_from_regex(asked.pattern))
        if isinstance(asked, Choice):
            if not asked.choices or not all(asked.choices):
                raise GemmaError(f"the choices {list(asked.choices)!r:.80} are not answers", "give some, none empty")
            return "start: " + " | ".join(json.dumps(choice) for choice in asked.choices)
        options = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
        try:
            return str(guidance.LLMatcher.grammar_from_json_schema(json.dumps(asked.schema), overrides=options))
        except (TypeError, ValueError) as error:
            raise GemmaError(f"the schema: {error}", "give a JSON schema") from error

    def matcher(self, grammar: str) -> Matcher:
        guidance, vocab = load_llguidance(), self._bundle.manifest.model.vocab_size
        if self._tokens is None:
            self._tokens = self._read_tokens(guidance)
        made = guidance.LLMatcher(self._tokens, grammar, log_level=0)
        if made.is_error():
            raise GemmaError(f"the response format: {made.get_error():.300}", "leave out what is not supported")
        return Matcher(made, vocab, self._pool)

    def _read_tokens(self, guidance: Any) -> Any:
        manifest = self._bundle.manifest
        path = self._bundle.path(manifest.tokenizer)
        try:
            return guidance.LLTokenizer(str(path), manifest.model.vocab_size, manifest.generation.stop)
        except ValueError as error:
            raise GemmaError(f"{path}: llguidance refuses it: {error}", "export the bundle again") from error


def load_llguidance() -> Any:
    try:
        import llguidance
    except ModuleNotFoundError as error:
        raise GemmaError(
            "structured answers need the package llguidance, which is not installed",
            "pip install 'gemma-edge[structured]'",
        ) from error
    return llguidance
