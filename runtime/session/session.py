"""A conversation with a bundle: tokens as they come, stop ids, cancel, turns without re-reading."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from ..arrays import Floats
from ..calls.tool_schema import Declaration, chosen_tools, declarations, read_call, strict_tools
from ..engine.cache import CacheState, KVCache
from ..engine.contract import Cancelled, Engine, prefetch
from ..engine.piece import Piece, in_calls
from ..engine.sampler import Sampler, Sampling
from ..errors import ContextFull, RequestError
from ..language.events import End, Event, Stop, Token
from ..language.stop_text import cut
from ..language.tokenizer import Message
from ..machine.resident_memory import trim_heap
from ..machine.tune import is_tuned
from .answer import Answer
from .answer_reader import AnswerReader
from .answer_turn import AnswerTurn
from .constrained_sampler import ConstrainedSampler
from .options import Options, check_limit
from .prefix_cache import PrefixCache
from .prompt import prompt_of
from .saved import read_session, write_session
from .structured import Matcher

if TYPE_CHECKING:
    from .model import Model


DEFAULTS = Options()


@dataclass
class Prepared:
    """An answer that is checked and ready, for one `Session.answer`."""

    prompt: list[int]
    answer: Answer
    choose: ConstrainedSampler
    options: Options
    begun: bool = False


class Session:
    """One conversation, and one answer at a time; `Model.session` begins it.

    `cancel`, `prepare` and `close` are for any thread.
    """

    def __init__(self, model: Model, engine: Engine, *, trust_control_tokens: bool = False) -> None:
        """`engine` is of the model's weights, and of nobody else.

        trust_control_tokens: what looks like a control token in a message or a tool is one, instead of text.
        """
        self.model, self.engine, self.trust_control_tokens = model, engine, trust_control_tokens
        self.bundle, self.manifest, self.context = model.bundle, model.manifest, model.context
        self.tokenizer, self.control, self.grammars = model.tokenizer, model.control, model.grammars
        self.cache = PrefixCache(engine)
        self._cancelled = threading.Event()
        self._turn = AnswerTurn()

    def cancel(self) -> None:
        """End the running answer within one token, from any thread."""
        self._cancelled.set()
        self.engine.cancel()

    def close(self, what: str = "session") -> None:
        """End the running answer; whatever is asked from here on raises GemmaError: `what` is closed."""
        self._turn.close(self.cancel, what)

    @property
    def ids(self) -> list[int]:
        """The tokens that the caches hold."""
        return self.cache.ids

    def reset(self) -> None:
        """Forget the conversation; an answer that is half read ends."""
        with self._turn.taken():
            self.cache.reset()

    def chat(self, messages: Sequence[Message], options: Options = DEFAULTS) -> Iterator[Event]:
        """Answer messages: text, thoughts and tool calls as they come, then one End.

        Raises GemmaError, before anything runs, for messages or options that can not be used; and while the answer is
        read, if another has begun since, or another thread reads one.
        """
        return self.answer(self.prepare(messages, options))

    def prepare(self, messages: Sequence[Message], options: Options = DEFAULTS) -> Prepared:
        """What `chat` does before anything runs, also while another answer does; `answer` goes on from there."""
        self._turn.check_open()
        options.check()
        declared = declarations(options.tools)
        self._check_abilities(declared, options)
        chosen = chosen_tools(declared, options.tool_choice)
        sampler = Sampler(options.sampling(self.manifest.generation))
        trust = self.trust_control_tokens
        prompt = prompt_of(self.tokenizer, messages, declared, thinking=options.thinking, trust_control_tokens=trust)
        self._check_length(prompt)
        reader = AnswerReader(self.tokenizer, self.control, prompt, lambda call: read_call(chosen, call))
        answer = Answer(
            reader,
            self.tokenizer,
            self.control,
            self.manifest.generation.stop,
            options,
            calling=bool(chosen),
            response=self.grammars.response(options.response_format) if options.response_format else None,
            calls=self._grammar_of_calls(chosen, options),
        )
        return Prepared(prompt, answer, ConstrainedSampler(sampler, answer), options)

    def answer(self, prepared: Prepared) -> Iterator[Event]:
        """Raises GemmaError for an answer that was given already, or while another thread reads one."""
        if prepared.begun:
            raise RequestError("this answer was already given", "prepare it again")
        options = prepared.options
        tokens = self._generate(prepared.prompt, prepared.choose, options.max_new_tokens)
        events = cut(self._events(tokens, prepared.answer), options.stop, options.one_call, self._cancelled.set)
        events = self._turn.events(events, self._begin())
        prepared.begun = True
        return events

    def _check_abilities(self, declared: Sequence[object], options: Options) -> None:
        if declared and not self.control.can_call:
            raise RequestError(
                f"{self.bundle.folder}: this model cannot call tools (it has no tokens for calls)",
                "leave the tools out",
            )
        if options.thinking and not self.control.can_think:
            raise RequestError(
                f"{self.bundle.folder}: this model cannot think first (it has no thought channel)", "leave thinking out"
            )

    def _grammar_of_calls(self, chosen: Sequence[Declaration], options: Options) -> Callable[[], Matcher] | None:
        """Makes the matcher of a call, where calls are constrained."""
        strict = strict_tools(chosen, options.constrain_calls, options.must_call)
        return self.grammars.calls(chosen, strict, self.control) if strict or options.must_call else None

    def _events(self, tokens: Iterator[Token | End], answer: Answer) -> Iterator[Event]:
        for event in tokens:
            if isinstance(event, Token):
                yield from answer.push(event.id)
                continue
            yield from answer.finish()
            stop: Stop = "tool_calls" if event.stop == "stop" and answer.calls else event.stop
            yield replace(event, stop=stop, thought_tokens=answer.thought_tokens)

    def save(self, path: Path) -> None:
        """Write what was read and said so far to a file, for `load` of a session with the same bundle.

        Raises GemmaError for an engine that keeps its caches to itself, and in the middle of an answer that was
        given up.
        """
        with self._turn.inside():
            caches = self._open_caches()
            if len(self.ids) != self.engine.position:
                raise RequestError(
                    "the session was interrupted while it read a prompt", "ask it something first, then save it"
                )
            ends = cast("list[CacheState]", self.cache.ends)  # of an engine that has caches
            write_session(path, self.bundle, self.ids, ends, caches)

    def load(self, path: Path) -> None:
        """Go on where the saved session was: what a next prompt shares with it is not read again.

        Raises GemmaError for a file that is damaged, or of another bundle; the session is then as before.
        """
        self._open_caches()
        saved = read_session(path, self.bundle, self.context)
        with self._turn.taken():
            self.cache.reset()
            self.engine.fill(len(saved.ids), saved.pairs)
            self.cache.ids, self.cache.ends = saved.ids, [*saved.ends]

    def _open_caches(self) -> Sequence[KVCache]:
        """The caches, if the engine does not keep them to itself."""
        caches = self.engine.caches()
        if caches is None:
            raise RequestError(
                "sessions of this engine cannot be saved or loaded, because it keeps its caches itself",
                "open the model with the engine onnx",
            )
        return caches

    def generate(
        self, prompt: Sequence[int], sampling: Sampling | None = None, max_new_tokens: int | None = None
    ) -> Iterator[Token | End]:
        """Stream the tokens that follow a prompt, then one End.

        A prompt that begins with what the caches hold is read from there on.  The stop token itself
        is not part of the stream.  Raises GemmaError for an empty prompt, or one over the context.
        """
        check_limit(max_new_tokens)
        self._check_length(prompt)
        sampler = Sampler(sampling or DEFAULTS.sampling(self.manifest.generation))
        tokens = self._generate(list(prompt), sampler, max_new_tokens)
        return self._turn.events(tokens, self._begin())

    def _begin(self) -> int:
        """The number of a new answer; the one before ends here.

        An earlier `cancel` is forgotten.  One that comes from here on counts, also before the first token is asked for.
        """
        with self._turn.taken() as number:
            self._cancelled.clear()
            self.engine.resume()
            return number

    def _check_length(self, prompt: Sequence[int]) -> None:
        if not prompt:
            raise RequestError("the prompt is empty", "give at least one token")
        if len(prompt) > self.context:
            raise ContextFull(
                f"the prompt has {len(prompt)} tokens, but the context is {self.context}", "shorten the prompt"
            )

    def _generate(self, prompt: list[int], choose: Callable[[Floats], int], limit: int | None) -> Iterator[Token | End]:
        stream = self.tokenizer.stream()
        started, reused = time.perf_counter(), self.cache.reuse(prompt)
        first = spent = 0.0
        count = 0
        stop: Stop = "length"
        try:
            logits = self._read(prompt[reused:])
            self.cache.mark_turn()
            first = time.perf_counter() - started
            while True:
                token = choose(logits)
                if token in self.manifest.generation.stop:
                    stop = "stop"
                    break
                count += 1
                yield Token(token, stream.push(token))
                if count == limit:
                    break
                if self.engine.position >= self.context:
                    stop = "context"
                    break
                if self._cancelled.is_set():
                    raise Cancelled
                begun = time.perf_counter()
                logits = self._read([token])
                spent += time.perf_counter() - begun
        except Cancelled:
            stop = "cancelled"
        if is_tuned():
            trim_heap()
        yield End(
            stop=stop,
            prompt_tokens=len(prompt),
            reused=reused,
            new_tokens=count,
            ttft_s=first,
            prefill_tok_s=(len(prompt) - reused) / first if first else 0.0,
            decode_tok_s=(count - 1) / spent if spent else 0.0,
        )

    def _read(self, ids: list[int]) -> Floats:
        """Read tokens, a chunk at a time, and keep `ids` in step with the caches."""
        whole = Piece(np.array(ids, np.int64))
        prefetch(self.engine.tables, whole.row_ids)
        for piece in in_calls(whole, self.engine.position):
            if self._cancelled.is_set():
                raise Cancelled
            logits = self.engine.forward(piece).logits
            self.cache.ids += piece.ids.tolist()
        last: Floats = logits[-1]
        return last
