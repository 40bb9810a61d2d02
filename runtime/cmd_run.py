"""`gemma-edge run`: one prompt, or a chat."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path

from .available_memory import available
from .bundle import Bundle
from .engine import DEFAULT, ENGINES, longest
from .errors import GemmaError
from .manifest import Manifest
from .memory_plan import check_room, longest_context
from .sampler import Sampling
from .session import End, Session, Token
from .tokenizer import Message


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Answer PROMPT, or standard input, as one turn; chat where both are a terminal's.\n"
        "Sampling defaults are the checkpoint's own (generation_config.json)."
    )
    parser.add_argument("bundle", metavar="BUNDLE", type=Path, help="folder that `gemma-edge export` wrote")
    parser.add_argument("prompt", metavar="PROMPT", nargs="?", help="what to ask (default: standard input)")
    parser.add_argument("--raw", action="store_true", help="continue the prompt as it is, without the chat template")
    parser.add_argument(
        "--max-new-tokens", type=int, metavar="N", help="stop after N tokens (default: at the context limit)"
    )
    parser.add_argument(
        "--context",
        type=int,
        metavar="N",
        help="most tokens of prompt and answers (default: the model's, or what fits the memory)",
    )
    parser.add_argument("--temperature", type=float, metavar="T", help="0 is greedy, 1 the model's own distribution")
    parser.add_argument("--top-k", type=int, metavar="K", help="draw from the K most likely tokens; 0: from all")
    parser.add_argument("--top-p", type=float, metavar="P", help="draw from the smallest set of probability P")
    parser.add_argument("--seed", type=int, metavar="S", help="the same seed draws the same tokens")
    parser.add_argument(
        "--threads", type=int, default=0, metavar="N", help="threads (default: the cores that are idle)"
    )
    parser.add_argument(
        "--engine", choices=ENGINES, default=DEFAULT, help="what runs the bundle (default: %(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="print one line of JSON instead of streaming text")


def run(args: argparse.Namespace) -> int:
    chatting = args.prompt is None and sys.stdin.isatty() and sys.stdout.isatty() and not args.json
    prompt = None if chatting else read_prompt(args.prompt)
    bundle = Bundle.open(args.bundle)
    context = chosen_context(bundle.manifest, args.context, args.engine)
    session = Session(bundle, args.threads, context, args.engine)
    sampling = chosen_sampling(session, args)
    if prompt is None:
        return chat(session, sampling, args.max_new_tokens)
    ids = prompt_ids(session, prompt, raw=args.raw)
    events = session.generate(ids, sampling, args.max_new_tokens)
    if args.json:
        print(json.dumps(collected(session, ids, events)))
        return 0
    stream_text(events)
    print()
    return 0


def read_prompt(given: str | None) -> str:
    """Raises GemmaError if there is nothing to answer."""
    try:
        prompt = sys.stdin.read() if given is None else given
        prompt.encode()  # in some locales Python lets foreign bytes through
    except UnicodeError as error:
        raise GemmaError(f"the prompt is not UTF-8: {error}", "convert it with iconv") from error
    if not prompt.strip():
        raise GemmaError("the prompt is empty", "give a PROMPT, or text on standard input")
    return prompt


def chosen_context(manifest: Manifest, asked: int | None, engine: str) -> int:
    """Raises GemmaError for a context that the model does not have, or that memory does not hold."""
    most, room = longest(manifest, engine), available()  # what this process has already counts twice: a margin
    if asked is not None and not 1 <= asked <= most:
        raise GemmaError(f"--context {asked}: not a number from 1 to {most}", "leave it out for what fits the memory")
    if engine != "onnx":
        return asked or most  # its caches are of one size, whatever the context
    context = min(most, max(1, longest_context(manifest, room, text=True))) if asked is None else asked
    check_room(manifest, context, room, text=True)
    if asked is None and context < most:
        print(f"memory for {context} of {most} tokens of context", file=sys.stderr)
    return context


def chosen_sampling(session: Session, args: argparse.Namespace) -> Sampling:
    made = session.defaults(args.seed)
    return Sampling(
        temperature=made.temperature if args.temperature is None else args.temperature,
        top_k=made.top_k if args.top_k is None else args.top_k,
        top_p=made.top_p if args.top_p is None else args.top_p,
        seed=args.seed,
    )


def prompt_ids(session: Session, prompt: str, *, raw: bool) -> list[int]:
    if raw:
        return session.tokenizer.encode(prompt, bos=True)
    return session.tokenizer.chat([{"role": "user", "content": prompt}])


def stream_text(events: Iterator[Token | End]) -> str:
    """Print text as it comes; all of it."""
    said = []
    for event in events:
        if isinstance(event, Token):
            said.append(event.text)
            print(event.text, end="", flush=True)
        elif event.stop != "stop":
            print(f"\n[ended: {event.stop}]", file=sys.stderr)
    return "".join(said)


def collected(session: Session, prompt: list[int], events: Iterator[Token | End]) -> dict[str, object]:
    *tokens, end = events
    assert isinstance(end, End)
    made = [token for token in tokens if isinstance(token, Token)]
    return {
        "prompt_ids": prompt,
        "ids": [token.id for token in made],
        "text": session.tokenizer.decode([token.id for token in made]),
        "stop": end.stop,
        "prefill_tok_s": round(end.prefill_tok_s, 3),
        "decode_tok_s": round(end.decode_tok_s, 3),
        "ttft_s": round(end.ttft_s, 6),
    }


def chat(session: Session, sampling: Sampling, limit: int | None) -> int:
    """Turns from the terminal until end of file; control-C ends an answer, not the chat."""
    print("Type a message; control-D ends the chat.", file=sys.stderr)
    messages: list[Message] = []
    while True:
        try:
            said = input("> ").strip()
        except EOFError:
            print(file=sys.stderr)
            return 0
        if not said:
            continue
        messages.append({"role": "user", "content": said})
        try:
            answer = stream_text(session.chat(messages, sampling, limit))
        except KeyboardInterrupt:
            messages.pop()
            print("\n[interrupted]", file=sys.stderr)
            continue
        print()
        messages.append({"role": "assistant", "content": answer})
