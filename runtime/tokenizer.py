"""`tokenizer.json` and the chat template."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer as Pieces
from tokenizers.decoders import DecodeStream

from .bundle import Bundle
from .errors import GemmaError

Message = Mapping[str, Any]


class Tokenizer:
    def __init__(self, path: Path, bos: int, template: Path | None) -> None:
        """Raises GemmaError if the tokenizer or the template can not be read."""
        self.pieces = read_pieces(path)
        self.bos = bos
        self.folder = path.parent
        self.template = read_template(template) if template else ""

    @classmethod
    def of(cls, bundle: Bundle) -> Tokenizer:
        manifest = bundle.manifest
        template = bundle.path(manifest.chat_template) if manifest.chat_template else None
        return cls(bundle.path(manifest.tokenizer), manifest.generation.bos, template)

    def encode(self, text: str, *, bos: bool) -> list[int]:
        """Token ids; `bos` puts the start token before them, exactly once."""
        ids: list[int] = self.pieces.encode(text, add_special_tokens=False).ids
        return [self.bos, *ids] if bos and ids[:1] != [self.bos] else ids

    def decode(self, ids: Sequence[int]) -> str:
        return str(self.pieces.decode(list(ids), skip_special_tokens=True))

    def stream(self) -> Stream:
        return Stream(self.pieces)

    def render(self, messages: Sequence[Message], **options: Any) -> str:
        """Messages through the checkpoint's own template, as `transformers.apply_chat_template` does.

        Raises GemmaError if the bundle has no template or the template refuses the messages.
        """
        if not self.template:
            raise GemmaError(f"{self.folder}: this model has no chat template", "give the prompt as it is with --raw")
        try:
            template = environment().from_string(self.template)
            bos_token = self.pieces.id_to_token(self.bos)
            return template.render(messages=messages, bos_token=bos_token, **{"add_generation_prompt": True, **options})
        except Exception as error:  # a template is a program, and can fail like one
            raise GemmaError(f"chat template: {error}", "check the roles and the content of the messages") from error

    def chat(self, messages: Sequence[Message], **options: Any) -> list[int]:
        """Messages to token ids, ready for an answer."""
        return self.encode(self.render(messages, **options), bos=False)


def read_pieces(path: Path) -> Pieces:
    try:
        return Pieces.from_file(str(path))
    except Exception as error:  # the library raises Exception itself
        raise GemmaError(f"{path}: {error}", "download the file again, or export the bundle again") from error


def read_template(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise GemmaError(f"{path}: not UTF-8: {error}", "download the file again") from error


def environment() -> ImmutableSandboxedEnvironment:
    """The sandbox and the helpers that transformers gives to templates."""
    made = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"])
    made.globals["raise_exception"] = refuse
    made.globals["strftime_now"] = lambda form: datetime.datetime.now().strftime(form)
    made.filters["tojson"] = to_json
    return made


def to_json(value: Any, ensure_ascii: bool = False, **options: Any) -> str:
    """jinja2's own escapes what HTML would misread."""
    return json.dumps(value, ensure_ascii=ensure_ascii, **options)


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
