"""A conversation with a bundle: tokens as they come, stop ids, cancel, turns without re-reading."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from .answer_reader import AnswerReader
from .bundle import Bundle
from .cache import TURNS
from .chunk import chunks
from .control_tokens import ControlTokens
from .decoder import Cancelled, Decoder, Floats
from .engine import DEFAULT, Mark, open_decoder
from .errors import GemmaError
from .events import End, Event, Stop, Token
from .messages import checked, with_responses
from .resident_memory import give_back
from .sampler import Sampler, Sampling
from .saved_session import read_session, write_session
from .steering import Steering
from .structured import Grammars, ResponseFormat
from .tokenizer import Message, Tokenizer
from .tool_schema import Tool, chosen_tools, declarations, for_template, read_call, strict_tools


class Session:
    """One conversation.  Not for two threads at once, except `cancel`."""

    def __init__(self, bundle: Bundle, threads: int = 0, context: int = 0, engine: str = DEFAULT) -> None:
        """`context` limits the tokens of prompt and answer; 0: to what the model, or the artifact, can.

        Raises GemmaError if a part of the bundle can not be loaded.
        """
        self.bundle = bundle
        self.manifest = bundle.manifest
        self.decoder = open_decoder(engine, bundle, threads, self._load_tokenizer)
        self.context = min(context or self.decoder.model.context, self.decoder.model.context)
        self.ids: list[int] = []  # what the caches hold
        self._checkpoints: list[Mark] = []  # at the ends of turns, from the first to the last
        self._cancelled = threading.Event()

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

    def reset(self) -> None:
        self.ids = []
        self._checkpoints.clear()
        self.decoder.reset()

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
        Raises GemmaError, before anything runs, for messages, tools or a format that can not be used.
        """
        declared = declarations(tools)
        self._check_abilities(declared, thinking, thinking_budget)
        chosen = chosen_tools(declared, tool_choice)
        must_call = tool_choice not in ("auto", "none")
        strict = strict_tools(chosen, constrain_calls, must_call)
        turns = checked(messages)
        if "tool_responses" in self.tokenizer.template:
            turns = with_responses(turns)
        prompt = self.tokenizer.chat(
            turns, tools=[for_template(tool) for tool in declared] or None, enable_thinking=thinking
        )
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
        self._begin()
        return self._events(self._generate(prompt, steering, max_new_tokens), reader, steering)

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
        write_session(path, self.bundle, self.ids, self._open_caches())

    def load(self, path: Path) -> None:
        """Go on where the saved session was: what a next prompt shares with it is not read again.

        Raises GemmaError for a file that is damaged, or of another bundle; the session is then as before.
        """
        decoder = self._open_caches()
        ids, arrays = read_session(path, self.bundle, self.context)
        self.reset()
        decoder.fill(len(ids), arrays)
        self.ids = ids

    def _open_caches(self) -> Decoder:
        """The decoder, if it keeps its caches itself."""
        if not isinstance(self.decoder, Decoder):
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
        self._begin()
        return self._generate(list(prompt), Sampler(sampling or self.defaults()), max_new_tokens)

    def _begin(self) -> None:
        """Forget an earlier `cancel`.  One that comes from here on counts, also before the first token is asked for."""
        self._cancelled.clear()
        self.decoder.resume()

    def _check(self, prompt: Sequence[int], max_new_tokens: int | None) -> None:
        if not prompt:
            raise GemmaError("the prompt is empty", "give at least one token")
        if len(prompt) > self.context:
            raise GemmaError(f"a prompt of {len(prompt)} tokens: the context is {self.context}", "shorten the prompt")
        if max_new_tokens is not None and max_new_tokens < 1:
            raise GemmaError(f"max new tokens {max_new_tokens}: not a number from 1 up", "leave it out for no limit")

    def _generate(self, prompt: list[int], choose: Callable[[Floats], int], limit: int | None) -> Iterator[Token | End]:
        stream = self.tokenizer.stream()
        started, reused = time.perf_counter(), self._reuse(prompt)
        first = spent = 0.0
        made = 0
        stop: Stop = "length"
        try:
            logits = self._read(prompt[reused:])
            self._mark_turn()
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
        give_back()
        yield End(
            stop=stop,
            prompt_tokens=len(prompt),
            reused=reused,
            new_tokens=made,
            ttft_s=first,
            prefill_tok_s=(len(prompt) - reused) / first if first else 0.0,
            decode_tok_s=(made - 1) / spent if spent else 0.0,
        )

    def _reuse(self, prompt: list[int]) -> int:
        """Tokens of the prompt that are in the caches; one at least is always read again for its logits."""
        if len(self.ids) != self.decoder.position:  # an interrupt came between the two
            self.reset()
        shared = common_prefix(self.ids, prompt[:-1])
        if shared < len(self.ids):
            shared = self._go_back(shared)
        self.ids = self.ids[:shared]
        self._checkpoints = [state for state in self._checkpoints if state.position <= shared]
        return shared

    def _go_back(self, position: int) -> int:
        """The position that was reached: a window that has moved on comes back from an earlier turn's end."""
        if self.decoder.rewind(position):
            return position
        for state in reversed(self._checkpoints):
            self.decoder.restore(state)
            if state.position <= position:
                return state.position
            if self.decoder.rewind(position):
                return position
        self.decoder.reset()
        return 0

    def _mark_turn(self) -> None:
        """Remember the end of a prompt, where the next turn may have to come back to.

        Of too many the one goes whose neighbours are nearest, but never the last.
        """
        self._checkpoints.append(self.decoder.save())
        if len(self._checkpoints) > TURNS:
            at = [0, *(state.position for state in self._checkpoints)]
            gaps = [after - before for before, after in zip(at, at[2:], strict=False)]
            del self._checkpoints[gaps.index(min(gaps))]

    def _read(self, ids: list[int]) -> Floats:
        """Read tokens, a chunk at a time, and keep `ids` in step with the caches."""
        array = np.array(ids, np.int64)
        for table in self.decoder.tables.values():
            table.prefetch(array)
        for piece in chunks(self.decoder.position, len(ids)):
            if self._cancelled.is_set():
                raise Cancelled
            logits = self.decoder.forward(array[piece]).logits
            self.ids += ids[piece]
        last: Floats = logits[-1]
        return last


def common_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    for index, (x, y) in enumerate(zip(a, b, strict=False)):
        if x != y:
            return index
    return min(len(a), len(b))
