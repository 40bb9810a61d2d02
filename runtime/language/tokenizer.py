"""`tokenizer.json` and the chat template."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from jinja2 import Template, TemplateError
from jinja2 import nodes as nodes_of
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer as Pieces
from tokenizers.decoders import DecodeStream

from ..bundle.bundle import Bundle
from ..errors import GemmaError, RequestError
from .literal_text import SpecialTokens, unescaped
from .whole_text import check_whole

PROBE = "probe"
Message = Mapping[str, Any]


class Tokenizer:
    def __init__(
        self, path: Path, bos: int, template: Path | None, special_texts: Mapping[str, str] | None = None
    ) -> None:
        """`special_texts`: what the template reads by names such as "eos_token".

        Raises GemmaError if the tokenizer or the template can not be read.
        """
        self.pieces = read_pieces(path)
        added = self.pieces.get_added_tokens_decoder().items()
        self.special = SpecialTokens({token.content: number for number, token in added if token.special})
        self.pieces.encode_special_tokens = True  # as text: `special` cuts them out before
        self.bos = bos
        self.folder = path.parent
        self.template = read_template(template) if template else ""
        self.special_texts = {"bos_token": self.pieces.id_to_token(bos), **(special_texts or {})}

    @classmethod
    def of(cls, bundle: Bundle) -> Tokenizer:
        manifest = bundle.manifest
        template = bundle.path(manifest.chat_template) if manifest.chat_template else None
        return cls(bundle.path(manifest.tokenizer), manifest.generation.bos, template, manifest.special_tokens)

    def encode(self, text: str, *, bos: bool) -> list[int]:
        """Token ids, of special tokens too; `bos` puts the start token before them, exactly once."""
        check_whole(text, "the text")
        ids: list[int] = []
        for piece in self.special.cut(text):
            ids += [piece] if isinstance(piece, int) else self.pieces.encode(piece, add_special_tokens=False).ids
        return [self.bos, *ids] if bos and ids[:1] != [self.bos] else ids

    def decode(self, ids: Sequence[int]) -> str:
        return str(self.pieces.decode(list(ids), skip_special_tokens=True))

    def stream(self) -> Stream:
        return Stream(self.pieces)

    def render(self, messages: Sequence[Message], **options: Any) -> str:
        """Messages through the checkpoint's own template, as `transformers.apply_chat_template` does.

        Content in parts of text is joined, by line breaks, for a template that takes strings only.
        Raises GemmaError if the bundle has no template or the template refuses the messages.
        """
        if not self.template:
            raise RequestError(
                f"{self.folder}: this model has no chat template", "give a raw prompt, which the model goes on with"
            )
        try:
            in_parts = any(isinstance(message.get("content"), list) for message in messages)
            if in_parts and not self._walks_over_parts:
                messages = [joined(message) for message in messages]
            return self._rendered(messages, options)
        except Exception as error:  # a template is a program, and can fail like one
            raise RequestError(
                f"the chat template failed: {error}", "check the roles and the content of the messages"
            ) from error

    def chat(self, messages: Sequence[Message], *, trust_control_tokens: bool = False, **options: Any) -> list[int]:
        """Messages to token ids, ready for an answer.

        What looks like a control token in a message or a tool stays text, unless `trust_control_tokens`.
        """
        if trust_control_tokens:
            return self.encode(self.render(messages, **options), bos=False)
        try:
            literal = self.special.literal(list(messages)), self.special.literal(options)
        except RecursionError as error:
            raise RequestError("messages or tools are nested too deeply", "make them flatter") from error
        return self.encode(self.render(literal[0], **literal[1]), bos=False)

    def reads(self, name: str) -> bool:
        """Whether the chat template reads a variable or a field of that name; what it says in prose tells nothing."""
        return name in names_read(self.template)

    def _rendered(self, messages: Sequence[Message], options: Mapping[str, Any]) -> str:
        names = {**self.special_texts, "add_generation_prompt": True, **options}
        return compiled(self.template).render(messages=messages, **names)

    @cached_property
    def _walks_over_parts(self) -> bool:
        """Whether the template renders a text and a part with that text alike."""
        parts = [{"type": "text", "text": PROBE}]
        try:
            of_text, of_parts = (self._rendered([{"role": "user", "content": probe}], {}) for probe in (PROBE, parts))
        except Exception:  # a template that takes no parts says so in its own way
            return False
        return of_text == of_parts


def joined(message: Message) -> Message:
    """The message with its parts of text as one, if it has no others."""
    content = message.get("content")
    if not isinstance(content, list) or not all(isinstance(part, Mapping) and "text" in part for part in content):
        return message
    return {**message, "content": "\n".join(part["text"] for part in content)}


def read_pieces(path: Path) -> Pieces:
    try:
        return Pieces.from_file(str(path))
    except Exception as error:  # the library raises Exception itself
        raise GemmaError(f"{path}: {error}", "download the file again, or export the bundle again") from error


def read_template(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise GemmaError(f"{path} is not UTF-8: {error}", "download the file again") from error


@lru_cache(8)
def names_read(template: str) -> frozenset[str]:
    """Variables, fields, and texts that a template compares with; empty for none."""
    nodes = list(environment().parse(template).find_all((nodes_of.Name, nodes_of.Getattr, nodes_of.Const)))
    variables = [node.name for node in nodes if isinstance(node, nodes_of.Name)]
    fields = [node.attr for node in nodes if isinstance(node, nodes_of.Getattr)]
    constants = [node.value for node in nodes if isinstance(node, nodes_of.Const) and isinstance(node.value, str)]
    return frozenset((*variables, *fields, *constants))


@lru_cache(8)
def compiled(source: str) -> Template:
    """A template of a few hundred lines takes longer to compile than to render."""
    return environment().from_string(source)


def environment() -> ImmutableSandboxedEnvironment:
    """The sandbox and the helpers that transformers gives to templates."""
    sandbox = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    sandbox.globals["raise_exception"] = refuse
    sandbox.globals["strftime_now"] = lambda form: datetime.datetime.now().strftime(form)
    sandbox.filters["tojson"] = to_json
    return sandbox


def to_json(value: Any, ensure_ascii: bool = False, **options: Any) -> str:
    """jinja2's own escapes what HTML would misread."""
    text = json.dumps(value, ensure_ascii=ensure_ascii, **options)
    return unescaped(text) if ensure_ascii else text


def refuse(message: str) -> None:
    raise TemplateError(message)


class Stream:
    """Text as it grows, never half a character."""

    def __init__(self, pieces: Pieces) -> None:
        self._pieces = pieces
        self._stream = DecodeStream(skip_special_tokens=True)
        self._held: list[int] = []  # tokens since the last text

    def push(self, token: int) -> str:
        self._held.append(token)
        try:
            text = self._stream.step(self._pieces, token) or ""
        except Exception:  # the library raises Exception itself: bytes that are no text, after some that are
            text = self._pieces.decode(self._held)
            self._stream = DecodeStream(skip_special_tokens=True)
        if text:
            self._held.clear()
        return text

    def push_all(self, tokens: Iterable[int]) -> str:
        return "".join(self.push(token) for token in tokens)
