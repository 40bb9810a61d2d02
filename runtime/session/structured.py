"""Answers of a given form: a grammar says, token by token, what may come next.

llguidance makes the masks, in a thread of its own, while the model runs.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
from tokenizers import Tokenizer as Pieces

from ..arrays import Ids
from ..bundle.bundle import Bundle
from ..calls.grammar import call_grammar
from ..calls.tool_schema import Declaration
from ..errors import BundleError, GemmaError, RequestError
from ..language.answer_forms import Choice as Choice
from ..language.answer_forms import JsonSchema as JsonSchema
from ..language.answer_forms import Regex as Regex
from ..language.answer_forms import ResponseFormat as ResponseFormat
from ..language.control_tokens import ControlTokens
from ..schema.guidance import AS_TEXT, load_llguidance
from ..schema.json_form import json_grammar


class Matcher:
    """Where an answer is in its grammar.  `started` once a token was taken."""

    def __init__(self, matcher: Any, tokens: int, vocab: int, pool: ThreadPoolExecutor) -> None:
        """The tokenizer has `tokens`, the model `vocab`: what it has no logit for is never allowed."""
        self._matcher, self._vocab, self._pool = matcher, vocab, pool
        self._bits = np.zeros(-(-tokens // 32), np.int32)
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
            raise RequestError(f"the response format failed: {self._matcher.get_error():.300}", "ask for a simpler one")
        allowed = np.flatnonzero(np.unpackbits(self._bits.view(np.uint8), count=self._vocab, bitorder="little"))
        if not len(allowed):
            raise RequestError("the response format: no token of the model can follow here", "ask for another one")
        return allowed


class Grammars:
    """Grammars over the tokens of a bundle; llguidance is loaded when the first is asked for."""

    def __init__(self, bundle: Bundle, pieces: Pieces) -> None:
        """`pieces` is the bundle's tokenizer, as it is loaded."""
        self._bundle, self._pieces = bundle, pieces
        self._tokens: Any = None
        self._pool = ThreadPoolExecutor(1, "mask")

    def close(self) -> None:
        """End the thread of the masks; one that is being made is not waited for."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def response(self, asked: ResponseFormat) -> Matcher:
        """Raises GemmaError for a format that has no grammar, or if llguidance is not installed."""
        what = f"the pattern {asked.pattern!r:.40}" if isinstance(asked, Regex) else "the response format"
        return self.matcher(self.compiled(asked), what)

    def calls(
        self, declared: Sequence[Declaration], strict: Collection[str], control: ControlTokens
    ) -> Callable[[], Matcher]:
        """Makes the matcher of a call, from behind its first token to its last.

        Tools whose schemas have no grammar may have any arguments, unless they are in `strict`: then a
        GemmaError names the tool and the keyword.
        """
        free = {tool["function"]["name"] for tool in declared if not self._holds(tool, strict, control)}
        grammar = call_grammar(declared, control.call_end, control.quote, free)
        return lambda: self.matcher(grammar)

    def _holds(self, tool: Declaration, strict: Collection[str], control: ControlTokens) -> bool:
        name = tool["function"]["name"]
        try:
            self._checked(call_grammar([tool], control.call_end, control.quote), f"calls of {name}")
        except GemmaError:
            if name in strict:
                raise
            return False
        return True

    def compiled(self, asked: ResponseFormat) -> str:
        guidance = load_llguidance()
        if isinstance(asked, Regex):
            return f"{AS_TEXT}start: /{guidance.regex_to_lark(asked.pattern, '')}/\n"
        if isinstance(asked, Choice):
            return f"{AS_TEXT}start: " + " | ".join(json.dumps(choice) for choice in asked.choices)
        return json_grammar(asked.schema)

    def matcher(self, grammar: str, what: str = "the response format") -> Matcher:
        vocab = self._bundle.manifest.model.vocab_size
        matcher = self._checked(grammar, what)
        return Matcher(matcher, self._tokens.vocab_size, vocab, self._pool)

    def _checked(self, grammar: str, what: str) -> Any:
        guidance = load_llguidance()
        if self._tokens is None:
            self._tokens = self._read_tokens(guidance)
        matcher = guidance.LLMatcher(self._tokens, grammar, log_level=0)
        if matcher.is_error():
            raise RequestError(f"{what}: {reason(matcher.get_error()):.300}", "leave out what is not supported")
        return matcher

    def _read_tokens(self, guidance: Any) -> Any:
        manifest = self._bundle.manifest
        path = self._bundle.path(manifest.tokenizer)
        try:
            size = max(token_count(self._pieces), manifest.model.vocab_size)
            return guidance.LLTokenizer(str(path), size, manifest.generation.stop)
        except ValueError as error:
            raise BundleError(f"{path}: llguidance cannot read it: {error}", "export the bundle again") from error


def reason(words: str) -> str:
    """What llguidance says without the grammar, which it writes out behind; a pattern's own error stands last."""
    first, *others = words.splitlines() or [words]
    return next((line.removeprefix("error: ") for line in others if line.startswith("error: ")), first)


def token_count(pieces: Pieces) -> int:
    """One more than the last id; Gemma 3 270M's tokenizer has one that its model has no row for."""
    return max([pieces.get_vocab_size(with_added_tokens=False) - 1, *pieces.get_added_tokens_decoder()]) + 1
