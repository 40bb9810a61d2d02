"""A conversation with a bundle: tokens as they come, stop ids, cancel, turns without re-reading."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np

from ..bundle.bundle import Bundle
from ..calls.tool_schema import Tool, chosen_tools, declarations, read_call, strict_tools
from ..engine.chunk import chunks
from ..engine.contract import Cancelled, Engine, Floats
from ..engine.engine import DEFAULT, open_engine
from ..engine.onnx import OnnxEngine, State
from ..engine.sampler import Sampler, Sampling
from ..errors import ContextFull, GemmaError
from ..language.control_tokens import ControlTokens
from ..language.events import End, Event, Stop, Token
from ..language.tokenizer import Message, Tokenizer
from ..machine.resident_memory import trim_heap
from .answer_reader import AnswerReader
from .answer_turn import AnswerTurn
from .prefix_cache import PrefixCache
from .prompt import prompt_of
from .saved import read_session, write_session
from .steering import Steering
from .structured import Grammars, ResponseFormat


@dataclass
class Prepared:
    """An answer that is checked and ready, for one `Session.answer`."""

    prompt: list[int]
    reader: AnswerReader
    steering: Steering
    limit: int | None
    begun: bool = False


class Session:
    """One conversation, and one answer at a time.  `cancel` and `prepare` are for any thread."""

    def __init__(
        self,
        bundle: Bundle,
        threads: int = 0,
        context: int = 0,
        engine: str = DEFAULT,
        *,
        trust_control_tokens: bool = False,
        decoder: Engine | None = None,
    ) -> None:
        """`context` limits the tokens of prompt and answer; 0: to what the model, or the artifact, can.

        trust_control_tokens: what looks like a control token in a message or a tool is one, instead of text.
        decoder: of this bundle, if it is open already; `engine` and `threads` then mean nothing.
        Raises GemmaError if a part of the bundle can not be loaded.
        """
        self.bundle = bundle
        self.manifest = bundle.manifest
        self.trust_control_tokens = trust_control_tokens
        if decoder:
            self._load_tokenizer()
        self.decoder = decoder or open_engine(engine, bundle, threads, self._load_tokenizer)
        self.context = min(context or self.decoder.model.context, self.decoder.model.context)
        self.cache = PrefixCache(self.decoder)
        self._cancelled = threading.Event()
        self._turn = AnswerTurn()

    @classmethod
    def open(cls, folder: Path, threads: int = 0) -> Session:
        return cls(Bundle.open(folder), threads)

    def _load_tokenizer(self) -> None:
        self.tokenizer = Tokenizer.of(self.bundle)
        self.control = ControlTokens.of(self.tokenizer.pieces.token_to_id)
        self.grammars = Grammars(self.bundle, self.tokenizer.pieces)

    def defaults(self, seed: int | None = None) -> Sampling:
        """The sampling that the checkpoint's generation_config asks for."""
        made = self.manifest.generation
        return Sampling(made.temperature if made.do_sample else 0.0, made.top_k, made.top_p, seed)

    def cancel(self) -> None:
        """End the running answer within one token, from any thread."""
        self._cancelled.set()
        self.decoder.cancel()

    @property
    def ids(self) -> list[int]:
        """The tokens that the caches hold."""
        return self.cache.ids

    def reset(self) -> None:
        """Forget the conversation; an answer that is half read ends."""
        with self._turn.taken():
            self.cache.reset()

    def chat(
        self,
        messages: Sequence[Message],
        sampling: Sampling | None = None,
        max_new_tokens: int | None = None,
        *,
        tools: Sequence[Tool] = (),
        thinking: bool = False,
        thinking_budget: int | None = None,
        response_format: ResponseFormat | None = None,
        constrain_calls: bool = False,
        tool_choice: str = "auto",
    ) -> Iterator[Event]:
        """Answer messages: text, thoughts and tool calls as they come, then one End.

        tools: JSON schemas or Python functions that the model may call; it stops for their responses,
        which go into the messages after `assistant_message(events)`.
        thinking_budget: the thought is closed after so many tokens.
        response_format: what the text must be; thoughts and calls are free.
        constrain_calls: only declared names, and arguments by their schemas.  A tool that is declared with
        "strict": True asks for the same; those beside it are constrained where their schemas can be held.
        tool_choice: "auto", "none" for no calls, "required" for a call, or the name of the tool to call;
        calls that are asked for are constrained.
        Raises GemmaError, before anything runs, for messages, tools or a format that can not be used; and
        while the answer is read, if another has begun since, or another thread reads one.
        """
        prepared = self.prepare(
            messages,
            sampling,
            max_new_tokens,
            tools=tools,
            thinking=thinking,
            thinking_budget=thinking_budget,
            response_format=response_format,
            constrain_calls=constrain_calls,
            tool_choice=tool_choice,
        )
        return self.answer(prepared)

    def prepare(
        self,
        messages: Sequence[Message],
        sampling: Sampling | None = None,
        max_new_tokens: int | None = None,
        *,
        tools: Sequence[Tool] = (),
        thinking: bool = False,
        thinking_budget: int | None = None,
        response_format: ResponseFormat | None = None,
        constrain_calls: bool = False,
        tool_choice: str = "auto",
    ) -> Prepared:
        """What `chat` does before anything runs, also while another answer does; `answer` goes on from there."""
        declared = declarations(tools)
        self._check_abilities(declared, thinking, thinking_budget)
        chosen = chosen_tools(declared, tool_choice)
        must_call = tool_choice not in ("auto", "none")
        strict = strict_tools(chosen, constrain_calls, must_call)
        trust = self.trust_control_tokens
        prompt = prompt_of(self.tokenizer, messages, declared, thinking=thinking, trust_control_tokens=trust)
        self._check(prompt, max_new_tokens)
        reader = AnswerReader(self.tokenizer, self.control, prompt, lambda call: read_call(chosen, call))
        steering = Steering(
            Sampler(sampling or self.defaults()),
            reader,
            self.tokenizer,
            self.control,
            self.manifest.generation.stop,
            budget=thinking_budget,
            thinking=thinking,
            calling=bool(chosen),
            must_call=must_call,
            response=self.grammars.response(response_format) if response_format else None,
            calls=self.grammars.calls(chosen, strict, self.control) if strict or must_call else None,
        )
        return Prepared(prompt, reader, steering, max_new_tokens)

    def answer(self, prepared: Prepared) -> Iterator[Event]:
        """Raises GemmaError for an answer that was given already, or while another thread reads one."""
        if prepared.begun:
            raise GemmaError("this answer was given already", "prepare it once more")
        tokens = self._generate(prepared.prompt, prepared.steering, prepared.limit)
        events = self._turn.events(self._events(tokens, prepared.reader, prepared.steering), self._begin())
        prepared.begun = True
        return events

    def _check_abilities(self, declared: Sequence[object], thinking: bool, budget: int | None) -> None:
        if declared and not self.control.can_call:
            raise GemmaError(f"{self.bundle.folder}: this model knows no tool calls", "leave the tools out")
        if thinking and not self.control.can_think:
            raise GemmaError(f"{self.bundle.folder}: this model knows no thoughts", "leave thinking out")
        if budget is not None and (budget < 0 or not thinking):
            raise GemmaError(f"thinking budget {budget}: not a number from 0 up, with thinking on", "leave it out")

    def _events(self, answer: Iterator[Token | End], reader: AnswerReader, steering: Steering) -> Iterator[Event]:
        for event in answer:
            if isinstance(event, Token):
                said = reader.push(event.id)
                steering.follow(event.id)
                yield from said
                continue
            yield from reader.finish()
            stop: Stop = "tool_calls" if event.stop == "stop" and reader.calls else event.stop
            yield replace(event, stop=stop, thought_tokens=reader.thought_tokens)

    def save(self, path: Path) -> None:
        """Write what was read and said so far to a file, for `load` of a session with the same bundle.

        Raises GemmaError for another engine than onnxruntime.
        """
        with self._turn.inside():
            decoder = self._open_caches()
            write_session(path, self.bundle, self.ids, cast("list[State]", self.cache.ends), decoder)

    def load(self, path: Path) -> None:
        """Go on where the saved session was: what a next prompt shares with it is not read again.

        Raises GemmaError for a file that is damaged, or of another bundle; the session is then as before.
        """
        decoder = self._open_caches()
        saved = read_session(path, self.bundle, self.context)
        with self._turn.taken():
            self.cache.reset()
            decoder.fill(len(saved.ids), saved.pairs)
            self.cache.ids, self.cache.ends = saved.ids, [*saved.ends]

    def _open_caches(self) -> OnnxEngine:
        """The decoder, if it keeps its caches itself."""
        if not isinstance(self.decoder, OnnxEngine):
            raise GemmaError("sessions are saved and loaded with the engine onnx only", "leave --engine out")
        return self.decoder

    def generate(
        self, prompt: Sequence[int], sampling: Sampling | None = None, max_new_tokens: int | None = None
    ) -> Iterator[Token | End]:
        """Stream the tokens that follow a prompt, then one End.

        A prompt that begins with what the caches hold is read from there on.  The stop token itself
        is not part of the stream.  Raises GemmaError for an empty prompt, or one over the context.
        """
        self._check(prompt, max_new_tokens)
        tokens = self._generate(list(prompt), Sampler(sampling or self.defaults()), max_new_tokens)
        return self._turn.events(tokens, self._begin())

    def _begin(self) -> int:
        """The number of a new answer; the one before ends here.

        An earlier `cancel` is forgotten.  One that comes from here on counts, also before the first token is asked for.
        """
        with self._turn.taken() as number:
            self._cancelled.clear()
            self.decoder.resume()
            return number

    def _check(self, prompt: Sequence[int], max_new_tokens: int | None) -> None:
        if not prompt:
            raise GemmaError("the prompt is empty", "give at least one token")
        if len(prompt) > self.context:
            raise ContextFull(f"a prompt of {len(prompt)} tokens: the context is {self.context}", "shorten the prompt")
        if max_new_tokens is not None and max_new_tokens < 1:
            raise GemmaError(f"max new tokens {max_new_tokens}: not a number from 1 up", "leave it out for no limit")

    def _generate(self, prompt: list[int], choose: Callable[[Floats], int], limit: int | None) -> Iterator[Token | End]:
        stream = self.tokenizer.stream()
        started, reused = time.perf_counter(), self.cache.reuse(prompt)
        first = spent = 0.0
        made = 0
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
                made += 1
                yield Token(token, stream.push(token))
                if made == limit:
                    break
                if self.decoder.position >= self.context:
                    stop = "context"
                    break
                if self._cancelled.is_set():
                    raise Cancelled
                begun = time.perf_counter()
                logits = self._read([token])
                spent += time.perf_counter() - begun
        except Cancelled:
            stop = "cancelled"
        trim_heap()
        yield End(
            stop=stop,
            prompt_tokens=len(prompt),
            reused=reused,
            new_tokens=made,
            ttft_s=first,
            prefill_tok_s=(len(prompt) - reused) / first if first else 0.0,
            decode_tok_s=(made - 1) / spent if spent else 0.0,
        )

    def _read(self, ids: list[int]) -> Floats:
        """Read tokens, a chunk at a time, and keep `ids` in step with the caches."""
        array = np.array(ids, np.int64)
        for table in self.decoder.tables.values():
            table.prefetch(array)
        for piece in chunks(self.decoder.position, len(ids)):
            if self._cancelled.is_set():
                raise Cancelled
            logits = self.decoder.forward(array[piece]).logits
            self.cache.ids += ids[piece]
        last: Floats = logits[-1]
        return last
