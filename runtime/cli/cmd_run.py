"""`gemma-edge run`: one prompt, or a chat."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path

from ..engine.engine import DEFAULT, ENGINES
from ..errors import GemmaError
from ..language.events import End, Event, Token
from ..session.model import Model
from ..session.options import Options
from ..session.session import Session
from ..session.structured import JsonSchema
from .notices import print_notices, print_shortened
from .terminal_chat import Chat, converse, print_part


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Answer PROMPT, or standard input, as one turn; chat where both are a terminal's.\n"
        "Sampling defaults are the checkpoint's own (generation_config.json)."
    )
    parser.add_argument("bundle", metavar="BUNDLE", type=Path, help="folder that `gemma-edge export` wrote")
    parser.add_argument("prompt", metavar="PROMPT", nargs="?", help="what to ask (default: standard input)")
    parser.add_argument("--chat", action="store_true", help="chat, whatever standard input is")
    parser.add_argument("--system", metavar="TEXT", help="what the model is told before the first turn")
    parser.add_argument("--json-schema", type=Path, metavar="FILE", help="answer in JSON that this schema describes")
    parser.add_argument("--image", metavar="FILE", help="refused: bundles read text only")
    parser.add_argument("--audio", metavar="FILE", help="refused: bundles read text only")
    parser.add_argument("--raw", action="store_true", help="continue the prompt as it is, without the chat template")
    parser.add_argument(
        "--max-new-tokens", type=int, metavar="N", help="stop after N tokens (default: at the context limit)"
    )
    parser.add_argument(
        "--context",
        type=int,
        default=0,
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
    parser.add_argument(
        "--trust-control-tokens", action="store_true", help="control tokens in the prompt are some, instead of text"
    )
    parser.add_argument("--json", action="store_true", help="print one line of JSON instead of streaming text")


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
            raise GemmaError(f"--{name} {getattr(args, name)}: bundles read text only so far", "leave it out")
    others = {"--raw": args.raw, "--json": args.json, "a PROMPT": args.prompt is not None}
    for name in [name for name, given in others.items() if given and args.chat]:
        raise GemmaError(f"--chat and {name}: a chat asks for its messages itself", "give one of the two")
    for name in [name for name in ("system", "json_schema") if args.raw and getattr(args, name) is not None]:
        raise GemmaError(f"--raw and --{name.replace('_', '-')}: a raw prompt has no turns", "give one of the two")
    if args.json and args.json_schema:
        raise GemmaError("--json and --json-schema: the one line of JSON is of free answers", "give one of the two")


def read_schema(path: Path) -> JsonSchema:
    """Raises GemmaError unless the file holds an object of JSON."""
    try:
        schema = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise GemmaError(f"{path}: {error.strerror}", "give a file with a JSON schema") from error
    except (ValueError, RecursionError) as error:
        raise GemmaError(f"{path}: not JSON: {error}", "give a file with a JSON schema") from error
    if not isinstance(schema, dict):
        raise GemmaError(f"{path}: not a JSON schema, which is an object", "give a file with a JSON schema")
    return JsonSchema(schema)


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
