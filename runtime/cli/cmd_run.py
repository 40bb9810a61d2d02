"""`gemma-edge run`: one prompt, or a chat."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path

from ..errors import GemmaError
from ..language.events import End, Event, Token
from ..session.model import Model
from ..session.options import Options
from ..session.session import Session
from ..session.structured import JsonSchema
from .flags import add_context, add_engine, add_threads
from .notices import print_notices, print_shortened
from .terminal_chat import Chat, converse, print_part


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Answer PROMPT (or standard input) and exit. Without PROMPT on a terminal, start a chat.\n"
        "The sampling options default to what the checkpoint's generation_config.json says."
    )
    parser.add_argument("bundle", metavar="BUNDLE", type=Path, help="the folder that `gemma-edge export` wrote")
    parser.add_argument("prompt", metavar="PROMPT", nargs="?", help="the question (default: what standard input holds)")
    parser.add_argument("--chat", action="store_true", help="start a chat even where standard input is not a terminal")
    parser.add_argument("--system", metavar="TEXT", help="a system message, which comes before the first turn")
    parser.add_argument(
        "--json-schema", type=Path, metavar="FILE", help="answer in JSON that follows the schema in this file"
    )
    parser.add_argument("--image", metavar="FILE", help="not supported yet: bundles read only text")
    parser.add_argument("--audio", metavar="FILE", help="not supported yet: bundles read only text")
    parser.add_argument("--raw", action="store_true", help="continue the prompt unchanged, without the chat template")
    parser.add_argument(
        "--max-new-tokens",
        type=int,
        metavar="N",
        help="stop an answer after N tokens (default: when the context is full)",
    )
    add_context(parser)
    parser.add_argument(
        "--temperature",
        type=float,
        metavar="T",
        help="0 always takes the most likely token; 1 samples from the model's own distribution",
    )
    parser.add_argument("--top-k", type=int, metavar="K", help="sample only from the K most likely tokens; 0 means all")
    parser.add_argument(
        "--top-p",
        type=float,
        metavar="P",
        help="sample only from the most likely tokens whose probabilities add up to P; 1 means all",
    )
    parser.add_argument(
        "--seed",
        type=int,
        metavar="S",
        help="a whole number; the same seed gives the same answer (default: a random one)",
    )
    add_threads(parser)
    add_engine(parser)
    parser.add_argument(
        "--trust-control-tokens",
        action="store_true",
        help="read control tokens such as <turn|> in the prompt as tokens, not as text",
    )
    parser.add_argument(
        "--json", action="store_true", help="print one line of JSON at the end instead of streaming text"
    )


def parse(parser: argparse.ArgumentParser, words: list[str]) -> argparse.Namespace:
    """Read flags also between BUNDLE and PROMPT, where argparse by itself takes the prompt for one word too many."""
    return parser.parse_intermixed_args(words)


def run(args: argparse.Namespace) -> int:
    check_words(args)
    terminal = sys.stdin.isatty() and sys.stdout.isatty()
    chatting = args.chat or (args.prompt is None and terminal and not args.json)
    prompt = None if chatting else read_prompt(args.prompt)
    schema = read_schema(args.json_schema) if args.json_schema else None
    with Model.open(args.bundle, engine=args.engine, threads=args.threads, context=args.context) as model:
        print_notices(model.bundle)
        print_shortened(model, args.context)
        return answer(model.session(trust_control_tokens=args.trust_control_tokens), prompt, schema, args)


def answer(session: Session, prompt: str | None, schema: JsonSchema | None, args: argparse.Namespace) -> int:
    """Answer a prompt, or chat if there is none."""
    options = options_of(args, schema)
    sampling = options.sampling(session.manifest.generation)
    if prompt is None:
        return converse(Chat(session, options, args.system))
    if not (args.json or args.raw):
        stream_text(session.chat(turns(prompt, args), options))
        return 0
    ids = prompt_ids(session, prompt, args)
    tokens = session.generate(ids, sampling, options.max_new_tokens)
    if args.json:
        print(json.dumps(collected(session, ids, tokens)))
    else:
        stream_text(tokens)
    return 0


def prompt_ids(session: Session, prompt: str, args: argparse.Namespace) -> list[int]:
    """A prompt as it is, or as the turns of a chat."""
    if args.raw:
        return session.tokenizer.encode(prompt, bos=True)
    trust = session.trust_control_tokens
    return session.tokenizer.chat(turns(prompt, args), trust_control_tokens=trust)


def check_words(args: argparse.Namespace) -> None:
    """Raises GemmaError for words that do not go together, or that no bundle can do."""
    for name in ("image", "audio"):
        if getattr(args, name) is not None:
            raise GemmaError(f"--{name} {getattr(args, name)}: bundles read only text so far", "leave it out")
    others = {"--raw": args.raw, "--json": args.json, "a PROMPT": args.prompt is not None}
    for name in [name for name, is_there in others.items() if is_there and args.chat]:
        raise GemmaError(f"--chat cannot be combined with {name}: a chat asks for its messages", "give one of the two")
    for name in [name for name in ("system", "json_schema") if args.raw and getattr(args, name) is not None]:
        raise GemmaError(
            f"--raw cannot be combined with --{name.replace('_', '-')}: a raw prompt has no turns",
            "give one of the two",
        )
    if args.json and args.json_schema:
        raise GemmaError("--json cannot be combined with --json-schema", "give one of the two")


def read_schema(path: Path) -> JsonSchema:
    """Raises GemmaError unless the file holds an object of JSON."""
    try:
        schema = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise GemmaError(f"{path}: {error.strerror}", "give a file with a JSON schema") from error
    except (ValueError, RecursionError) as error:
        raise GemmaError(f"{path} is not JSON: {error}", "give a file with a JSON schema") from error
    if not isinstance(schema, dict):
        raise GemmaError(f"{path} is not a JSON schema: it must hold an object", "give a file with a JSON schema")
    return JsonSchema(schema)


def read_prompt(argument: str | None) -> str:
    """Raises GemmaError if there is nothing to answer."""
    try:
        prompt = sys.stdin.read() if argument is None else argument
        prompt.encode()  # in some locales Python lets foreign bytes through
    except UnicodeError as error:
        raise GemmaError(f"the prompt is not UTF-8: {error}", "convert it, for example with iconv") from error
    if not prompt.strip():
        raise GemmaError("the prompt is empty", "give a PROMPT, or text on standard input")
    return prompt


def options_of(args: argparse.Namespace, schema: JsonSchema | None) -> Options:
    return Options(
        temperature=args.temperature,
        top_k=args.top_k,
        top_p=args.top_p,
        seed=args.seed,
        max_new_tokens=args.max_new_tokens,
        response_format=schema,
    )


def turns(prompt: str, args: argparse.Namespace) -> list[dict[str, str]]:
    system = [{"role": "system", "content": args.system}] if args.system is not None else []
    return [*system, {"role": "user", "content": prompt}]


def stream_text(events: Iterator[Event | Token]) -> None:
    """Print text as it comes, and why it ended on standard error."""
    for event in events:
        if isinstance(event, Token):
            print(event.text, end="", flush=True)
        else:
            print_part(event)
    print()


def collected(session: Session, prompt: list[int], events: Iterator[Event | Token]) -> dict[str, object]:
    *tokens, end = events
    assert isinstance(end, End)
    said = [token for token in tokens if isinstance(token, Token)]
    return {
        "prompt_ids": prompt,
        "ids": [token.id for token in said],
        "text": session.tokenizer.decode([token.id for token in said]),
        "stop": end.stop,
        "prefill_tok_s": round(end.prefill_tok_s, 3),
        "decode_tok_s": round(end.decode_tok_s, 3),
        "ttft_s": round(end.ttft_s, 6),
    }
