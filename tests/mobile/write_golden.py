"""`python tests/mobile/write_golden.py BUNDLE OUT`: what the Python runtime does, for the applications' tests.

Everything is drawn from fixed seeds.  README.md, beside this, says what each file holds.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import os
import shutil
import sys
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))

from runtime.bundle.bundle import Bundle  # noqa: E402
from runtime.bundle.manifest import Manifest  # noqa: E402
from runtime.bundle.splitmix import SplitMix64  # noqa: E402
from runtime.engine.contract import open_tables  # noqa: E402
from runtime.engine.memory_plan import longest_context, plan  # noqa: E402
from runtime.engine.rotary import rotary_table  # noqa: E402
from runtime.engine.sampler import Sampler, Sampling  # noqa: E402
from runtime.language.check_vocabulary import AWKWARD  # noqa: E402
from runtime.language.events import End, Text, Thought, Token  # noqa: E402
from runtime.language.tokenizer import Tokenizer, environment  # noqa: E402
from runtime.session.answer_reader import AnswerReader  # noqa: E402
from runtime.session.model import Model  # noqa: E402
from runtime.session.session import Session  # noqa: E402
from tests.conversations import CONSTRUCTS, CONVERSATIONS, SNIPPETS  # noqa: E402
from tests.hostile import CASES  # noqa: E402
from tests.mobile.chats import chats, write_other_vocabulary  # noqa: E402

LINES = 10_000
CONTEXTS = (1, 512, 1024, 1025, 8192, 32768, 131072)
RANGES = (
    (0x20, 0x7F), (0xA0, 0x250), (0x370, 0x530), (0x590, 0x700), (0x900, 0xE80), (0x2000, 0x2070), (0x2190, 0x2800),
    (0x3000, 0x30FF), (0x4E00, 0x9FFF), (0xAC00, 0xD7A3), (0xE000, 0xE100), (0xFE00, 0xFE10), (0x1F300, 0x1FAFF),
    (0x20000, 0x20100), (0x10FF00, 0x10FFFF),
)  # fmt: skip
CODE = (
    "def ",
    "return ",
    "    ",
    "\t",
    "{",
    "}",
    "();\n",
    "// ",
    "!=",
    "->",
    "x[i]",
    '"\\n"',
    "0x1F",
    "<div>",
    "</a>",
    "#include",
)


def main(bundle: Path, out: Path) -> None:
    if out.exists():
        shutil.rmtree(out)
    shutil.copytree(bundle, out / "bundle")
    opened = Bundle.open(out / "bundle")
    tokenizer = Tokenizer.of(opened)
    write(out / "lines.jsonl", lines(tokenizer))
    write(out / "streams.jsonl", streams(tokenizer))
    write(out / "sampler.jsonl", draws())
    write(out / "rows.jsonl", rows(opened))
    write(out / "rotary.jsonl", rotary(opened.manifest))
    write(out / "plans.jsonl", plans(opened.manifest))
    write(out / "templates.jsonl", templates(tokenizer))
    write(out / "chats.jsonl", spoken(opened, out))
    write(out / "sessions.jsonl", sessions(opened))
    write(out / "events.jsonl", events(tokenizer, opened))
    write(out / "hostile.jsonl", hostile(opened.folder, out / "hostile"))


def write(path: Path, entries: Iterable[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries), encoding="utf-8")


def packed(values: Any, dtype: str = "<f4") -> str:
    return base64.b64encode(np.asarray(values).astype(dtype).tobytes()).decode()


# ---- text ----


class Draw:
    """Choices from the sampler's own generator, so that no library's version changes them."""

    def __init__(self, seed: int) -> None:
        self.random = SplitMix64(seed)

    def below(self, count: int) -> int:
        return int(self.random.uniform() * count)

    def of(self, choices: Any) -> Any:
        return choices[self.below(len(choices))]


def lines(tokenizer: Tokenizer) -> Iterator[dict[str, Any]]:
    """bytes: base64, not always UTF-8; text: as read with U+FFFD for what is not; ids."""
    draw = Draw(1)
    prose = (ROOT / "export" / "passage.txt").read_text(encoding="utf-8").split(" ")
    made = [line.encode() for line in AWKWARD]
    kinds = [letters, words, pieces, code, blanks, emoji, broken]
    while len(made) < LINES:
        made.append(kinds[len(made) % len(kinds)](draw, prose, tokenizer))
    for raw in made:
        text = raw.decode("utf-8", "replace")
        ids = tokenizer.encode(text, bos=False)
        yield {
            "bytes": base64.b64encode(raw).decode(),
            "ids": ids,
            "decoded": tokenizer.decode(ids),
        }


def letters(draw: Draw, _prose: Any, _tokenizer: Any) -> bytes:
    low, high = draw.of(RANGES)
    return "".join(chr(low + draw.below(high - low)) for _ in range(1 + draw.below(24))).encode()


def words(draw: Draw, prose: Any, _tokenizer: Any) -> bytes:
    return " ".join(draw.of(prose) for _ in range(1 + draw.below(16))).encode()


def pieces(draw: Draw, _prose: Any, tokenizer: Tokenizer) -> bytes:
    count = tokenizer.pieces.get_vocab_size()
    names = [tokenizer.pieces.id_to_token(draw.below(count)) or "" for _ in range(1 + draw.below(12))]
    return "".join(names).replace("▁", draw.of((" ", " ", "▁"))).encode()


def code(draw: Draw, prose: Any, _tokenizer: Any) -> bytes:
    return "".join(draw.of(CODE) + draw.of((draw.of(prose), "")) for _ in range(1 + draw.below(10))).encode()


def blanks(draw: Draw, prose: Any, _tokenizer: Any) -> bytes:
    runs = [draw.of((" ", "\n", "\t", "\r\n", "\u00a0")) * (1 + draw.below(40)) for _ in range(1 + draw.below(4))]
    return str(draw.of(prose)).join(runs).encode()


def emoji(draw: Draw, prose: Any, _tokenizer: Any) -> bytes:
    faces = [chr(0x1F600 + draw.below(80)) + draw.of(("", "\u200d", "\ufe0f", "\U0001f3fd")) for _ in range(6)]
    return f"{draw.of(prose)}{''.join(faces)}".encode()


def broken(draw: Draw, prose: Any, _tokenizer: Any) -> bytes:
    """UTF-8 with bytes lost, changed and put in."""
    raw = bytearray((draw.of(prose) + letters(draw, prose, None).decode() + draw.of(prose)).encode())
    for _ in range(1 + draw.below(4)):
        at = draw.below(len(raw))
        raw[at : at + draw.below(2)] = bytes(draw.below(256) for _ in range(draw.below(3)))
        raw = raw or bytearray(b"\xf0")
    return bytes(raw)


def streams(tokenizer: Tokenizer) -> Iterator[dict[str, Any]]:
    """ids, and the text that each of them adds."""
    for line in [line for line in AWKWARD if line] + ["héé 🙂🙂 日本語 x", "<bos>a<|turn>🙂"]:
        ids = tokenizer.encode(line, bos=False)
        stream = tokenizer.stream()
        yield {"ids": ids, "texts": [stream.push(token) for token in ids]}


def events(tokenizer: Tokenizer, bundle: Bundle) -> Iterator[dict[str, Any]]:
    """prompt and ids of an answer; for each token, and at the end, what it adds: ["text" or "thought", ...]."""
    control = Model(bundle, threads=1).control
    answers = [
        ("", "Hello there.\n"),
        ("", "<|channel>thought\nIt is a\n\nlist.\n<channel|>Yes, 🙂."),
        ("", "<|channel>thought\n<channel|>None."),
        ("", "<|channel>other\nname\n<channel|>Said."),
        ("", "Before.<|channel>thought\nNever closed"),
        ("<|channel>thought\n", "Open already.\n<channel|>Then this."),
        ("<|channel>thought\nbegun", " goes on<channel|>Then this."),
        ("<|channel>x<channel|>", "No thought."),
    ]
    for prompt, answer in answers:
        asked = tokenizer.encode(f"<|turn>model\n{prompt}", bos=True)
        ids = tokenizer.encode(answer, bos=False)
        reader = AnswerReader(tokenizer, control, asked, lambda parser: ({}, ""))
        steps = [reader.push(token) for token in ids] + [reader.finish()]
        said = [[kind_and_text(event) for event in step] for step in steps]
        yield {"prompt": asked, "ids": ids, "events": said, "thought_tokens": reader.thought_tokens}


def kind_and_text(event: Any) -> list[str]:
    assert isinstance(event, Text | Thought)
    return ["text" if isinstance(event, Text) else "thought", event.text]


# ---- numbers ----


def draws() -> Iterator[dict[str, Any]]:
    """logits: base64 of float32; the options; ids: of eight draws one after another."""
    for index, size in enumerate((1, 2, 7, 64, 300, 4096)):
        random = SplitMix64(100 + index)
        logits = np.array([random.uniform() * 16 - 8 for _ in range(size)], np.float32)
        if size > 7:
            logits[[1, 3]] = logits.max()
            logits[5] = -np.inf
            logits = (np.round(logits * 4) / 4).astype(np.float32) if index % 2 else logits
        for temperature in (0.0, 0.2, 1.0, 3.0):
            for top_k in (0, 1, 5, 64):
                for top_p in (0.3, 0.95, 1.0):
                    seed = index * 1000 + int(temperature * 10) + top_k - (1 << 63) * (top_k == 5)
                    sampler = Sampler(Sampling(temperature, top_k, top_p, seed))
                    yield {
                        "logits": packed(logits),
                        "temperature": temperature, "top_k": top_k, "top_p": top_p, "seed": seed,
                        "ids": [sampler(logits) for _ in range(8)],
                    }  # fmt: skip


def rows(bundle: Bundle) -> Iterator[dict[str, Any]]:
    """Of a table, an id: its row as base64 of the bytes, and of the float32 values, multiplied."""
    for name, table in open_tables(bundle).items():
        draw = Draw(7)
        for token in sorted({0, 1, table.format.rows - 1, *(draw.below(table.format.rows) for _ in range(40))}):
            ids = np.array([token], np.int64)
            values = packed(table.rows(ids).reshape(-1))
            yield {"table": name, "id": token, "raw": packed(table.read(ids), "u1"), "values": values}


def rotary(manifest: Manifest) -> Iterator[dict[str, Any]]:
    """Of a kind of layer, a position: base64 of the float32 cosines and sines, to 1e-6."""
    for kind, rope in manifest.model.rope.items():
        cos, sin = rotary_table(rope, 2048)
        for position in (0, 1, 63, 1024, 2047):
            yield {"kind": kind, "position": position, "cos": packed(cos[position]), "sin": packed(sin[position])}


def plans(manifest: Manifest) -> Iterator[dict[str, Any]]:
    """Bytes by part for a context, and the longest context that fits the peak."""
    for context in CONTEXTS:
        for text in (False, True):
            of_manifest = partial(plan, manifest, text=text)
            planned = of_manifest(context)
            fits = longest_context(of_manifest, manifest.model.context, planned.peak)
            yield {"asked": context, "text": text, **dataclasses.asdict(planned), "peak": planned.peak, "fits": fits}


# ---- conversations ----


def templates(tokenizer: Tokenizer) -> Iterator[dict[str, Any]]:
    """source: of a template, with variables; text: what it renders, or refused: true."""
    constructs = (ROOT / "tests" / "runtime" / "constructs.jinja").read_text(encoding="utf-8")
    generated = (ROOT / "export" / "synth" / "released" / "chat_template.jinja").read_text(encoding="utf-8")
    named = {"bundle": (tokenizer.template, CONVERSATIONS), "constructs": (constructs, CONSTRUCTS)}
    named["generated"] = (generated, CONVERSATIONS)
    for family, (source, conversations) in named.items():
        for name, (messages, options) in conversations.items():
            variables = {"messages": messages, "bos_token": "<bos>", "add_generation_prompt": True, **options}
            yield rendered(f"{family}: {name}", source, variables)
    for index, source in enumerate(SNIPPETS):
        yield rendered(f"snippet {index}", source, {"x": {"b": 1, "A": [1, 2.5, None, True]}, "s": " Ab "})
    for index, source in enumerate(
        ("{% if", "{{ 1 / 0 }}", "{{ a.b.c }}", "{{ raise_exception('no') }}", "{{ x.__class__.y }}")
    ):
        yield rendered(f"refused {index}", source, {"x": "a"})


def rendered(name: str, source: str, variables: dict[str, Any]) -> dict[str, Any]:
    try:
        text = environment().from_string(source).render(**variables)
    except Exception:  # a template is a program, and can fail like one
        return {"name": name, "source": source, "variables": variables, "refused": True}
    return {"name": name, "source": source, "variables": variables, "text": text}


def spoken(bundle: Bundle, out: Path) -> Iterator[dict[str, Any]]:
    """What transformers gives, of the bundle's vocabulary and of another."""
    manifest = bundle.manifest
    template = bundle.path(manifest.chat_template).read_text(encoding="utf-8")
    other = write_other_vocabulary(bundle.path(manifest.tokenizer), out / "other")
    yield from chats(bundle.path(manifest.tokenizer), "bundle/vocabulary.bin", template, "<bos>")
    yield from chats(other, "other/vocabulary.bin", template, "<bos>")


def sessions(bundle: Bundle) -> Iterator[dict[str, Any]]:
    """Turns of one session each: a prompt, the sampling, and what followed."""
    tokenizer = Tokenizer.of(bundle)
    chat = {
        "one": [["What is the capital of Norway?"]],
        "three turns": [["What is the capital of Norway?", "And of Peru?", "Thank you."]],
        "long": [["Name a river. " * 40, "And another?", "And a mountain? " * 30, "One more."]],
    }
    samplings = {"greedy": Sampling(0.0), "seeded": Sampling(1.0, 64, 0.95, 11), "wide": Sampling(1.5, 0, 1.0, 1 << 63)}
    for name, (questions,) in chat.items():
        for way, sampling in samplings.items():
            for thinking in (False, True):
                session = Model(bundle, threads=1).session()
                messages: list[dict[str, Any]] = []
                turns: list[dict[str, Any]] = []
                for question in questions:
                    messages = [*messages, {"role": "user", "content": question}]
                    prompt = tokenizer.chat(messages, enable_thinking=thinking)
                    turns.append(one_turn(session, prompt, sampling, 24, messages=messages, thinking=thinking))
                    messages = [*messages, {"role": "assistant", "content": tokenizer.decode(turns[-1]["ids"])}]
                yield {"name": f"{name}, {way}{', thinking' * thinking}", "turns": turns}
    draw = Draw(5)
    for length in (1, 2, 255, 256, 257, 700):
        prompt = [bundle.manifest.generation.bos, *(10 + draw.below(300) for _ in range(length - 1))]
        model = Model(bundle, threads=1)
        turns = [one_turn(model.session(), prompt, samplings[way], 12) for way in ("greedy", "seeded")]
        yield {"name": f"raw {length}", "turns": turns[:1]}
        yield {"name": f"raw {length}, seeded", "turns": turns[1:]}


def one_turn(session: Session, prompt: list[int], sampling: Sampling, limit: int, **more: Any) -> dict[str, Any]:
    *tokens, end = session.generate(prompt, sampling, limit)
    assert isinstance(end, End)
    ids = [token.id for token in tokens if isinstance(token, Token)]
    asked = dataclasses.asdict(sampling)
    facts = {"stop": end.stop, "reused": end.reused, "new_tokens": end.new_tokens}
    return {"prompt": prompt, **asked, "max_new_tokens": limit, "ids": ids, **facts, **more}


# ---- hostile bundles ----


def hostile(sound: Path, folder: Path) -> Iterator[dict[str, Any]]:
    """Folders that share their undamaged files; `stage` is where an application refuses: open, load, chat, verify."""
    cases = [case for case in CASES if case.app]
    for index, case in enumerate(cases):
        place = folder / f"{index:03}"
        place.mkdir(parents=True)
        shutil.copytree(sound, place / "bundle", copy_function=os.link)
        case.damage(place / "bundle")
        words = [word for word in case.words if word != "hint: "]
        yield {"name": case.name, "folder": f"hostile/{index:03}/bundle", "stage": case.app, "words": words}


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python tests/mobile/write_golden.py BUNDLE OUT")
    main(Path(sys.argv[1]), Path(sys.argv[2]))
