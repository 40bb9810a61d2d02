"""Gemma's syntax of a tool call: `call:name{key:value,...}`, where strings stand between quote tokens.

The parser is a machine with a stack of its own: its time is linear, deep nesting costs no recursion,
and it can be fed piece by piece.  It takes what small models get wrong and what is still clear: bare
words as strings, JSON's quotes, a comma too many, spaces.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from .control_tokens import QUOTE

DEPTH = 64  # most objects and arrays inside each other
HEAD = re.compile(r"\s*call:\s*([^\s{}\[\]:,\"]+)\s*")
INTEGER = re.compile(r"[-+]?[0-9]{1,400}")
NUMBER = re.compile(r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")
KEY_ENDS, VALUE_ENDS, STRING_ENDS = re.compile(r"[:}{\]\[,]"), re.compile(r"[,}\]{\[]"), re.compile(r'["\\]')
WORDS = {"null": None, "None": None, "true": True, "True": True, "false": False, "False": False}


class CallError(ValueError):
    """A call that can not be read: one sentence, which the model may be shown."""


@dataclass
class Level:
    """An object or an array that is not closed yet."""

    holds: dict[str, Any] | list[Any]
    key: str | None = None

    def add(self, value: Any) -> None:
        if isinstance(self.holds, list):
            self.holds.append(value)
            return
        assert self.key is not None
        if self.key in self.holds:
            raise CallError(f"the argument {self.key!r} is there twice")
        self.holds[self.key], self.key = value, None


@dataclass
class CallParser:
    """Feed text with `push`, the quote token with `push_quote`; `finish` gives the arguments.

    `name` is there as soon as the call's first brace is.  Every method raises CallError.
    """

    name: str = ""
    _state: str = "head"
    _held: list[str] = field(default_factory=list)  # pieces of a word or a string that is not complete
    _levels: list[Level] = field(default_factory=list)
    _arguments: dict[str, Any] = field(default_factory=dict)

    def push(self, text: str) -> None:
        at = 0
        while at < len(text):
            at = self._step()(text, at)

    def push_quote(self) -> None:
        if self._state == "string":
            self._end_string("".join(self._held))
        elif self._state in ("key", "value") and not self._held:
            self._state, self._held = "string", []
        else:
            raise CallError(f"a quote where {EXPECTED[self._state]} was expected")

    def finish(self) -> dict[str, Any]:
        if self._state != "done":
            raise CallError(f"the call ends where {EXPECTED[self._state]} was expected")
        return self._arguments

    def _step(self) -> Callable[[str, int], int]:
        steps = {
            "head": self._head,
            "key": self._key,
            "colon": self._colon,
            "value": self._value,
            "string": self._string,
            "json string": self._json_string,
            "after": self._after,
            "done": self._done,
        }
        return steps[self._state]

    def _head(self, text: str, at: int) -> int:
        end = text.find("{", at)
        self._held.append(text[at : end if end >= 0 else len(text)])
        if end < 0:
            return len(text)
        found = HEAD.fullmatch("".join(self._held))
        if not found:
            raise CallError(f"{shortened(''.join(self._held))} is not call:NAME")
        self.name = found[1]
        self._open({})
        return end + 1

    def _key(self, text: str, at: int) -> int:
        """Up to the colon; an object may end instead, also behind a comma."""
        if not self._held and text[at].isspace():
            return at + 1
        if not self._held and text[at] == '"':
            self._held, self._state = ['"'], "json string"
            return at + 1
        end = until(text, at, KEY_ENDS)
        self._held.append(text[at:end])
        if end == len(text):
            return end
        key = "".join(self._held).strip()
        self._held = []
        if text[end] == "}" and not key:
            return self._close(text, end)
        if text[end] != ":" or not key:
            raise CallError(f"{shortened(key + text[end])} where a name and a colon were expected")
        self._levels[-1].key, self._state = key, "value"
        return end + 1

    def _colon(self, text: str, at: int) -> int:
        if text[at].isspace():
            return at + 1
        if text[at] != ":":
            raise CallError(f"{text[at]!r} behind a name, where a colon was expected")
        self._state = "value"
        return at + 1

    def _value(self, text: str, at: int) -> int:
        if not self._held and text[at].isspace():
            return at + 1
        if not self._held and text[at] in '{["':
            return self._begin(text, at)
        end = until(text, at, VALUE_ENDS)
        self._held.append(text[at:end])
        if end == len(text):
            return end
        word = "".join(self._held).strip()
        self._held = []
        if word:
            self._levels[-1].add(scalar(word))
            self._state = "after"
        elif not (text[end] == "]" and isinstance(self._levels[-1].holds, list)):
            raise CallError(f"{text[end]!r} where a value was expected")
        return self._after(text, end)

    def _begin(self, text: str, at: int) -> int:
        if text[at] == '"':
            self._state = "json string"
            self._held = ['"']
        else:
            self._open({} if text[at] == "{" else [])
        return at + 1

    def _string(self, text: str, at: int) -> int:
        self._held.append(text[at:])
        return len(text)

    def _json_string(self, text: str, at: int) -> int:
        """One character or a run of plain ones; a backslash takes the next character with it."""
        if self._held[-1] == "\\":
            self._held[-1] += text[at]
            return at + 1
        if text[at] == "\\":
            self._held.append("\\")
            return at + 1
        if text[at] == '"':
            self._end_string(unescaped("".join(self._held) + '"'))
            return at + 1
        end = until(text, at, STRING_ENDS)
        self._held.append(text[at:end])
        return end

    def _end_string(self, value: str) -> None:
        self._held = []
        level = self._levels[-1]
        if isinstance(level.holds, dict) and level.key is None:
            level.key, self._state = value, "colon"
        else:
            level.add(value)
            self._state = "after"

    def _after(self, text: str, at: int) -> int:
        if text[at].isspace():
            return at + 1
        if text[at] in "}]":
            return self._close(text, at)
        if text[at] != ",":
            raise CallError(f"{text[at]!r} behind a value, where a comma or a brace was expected")
        self._state = "key" if isinstance(self._levels[-1].holds, dict) else "value"
        return at + 1

    def _done(self, text: str, at: int) -> int:
        if text[at:].strip():
            raise CallError(f"{shortened(text[at:])} behind the end of the call")
        return len(text)

    def _open(self, holds: dict[str, Any] | list[Any]) -> None:
        if len(self._levels) == DEPTH:
            raise CallError(f"more than {DEPTH} objects and arrays inside each other")
        self._levels.append(Level(holds))
        self._held = []
        self._state = "key" if isinstance(holds, dict) else "value"

    def _close(self, text: str, at: int) -> int:
        holds = self._levels.pop().holds
        if (text[at] == "}") != isinstance(holds, dict):
            raise CallError(f"{text[at]!r} closes what it did not open")
        if self._levels:
            self._levels[-1].add(holds)
            self._state = "after"
        else:
            assert isinstance(holds, dict)
            self._arguments, self._state = holds, "done"
        return at + 1


EXPECTED = {
    "head": "call:NAME{",
    "key": "a name",
    "colon": "a colon",
    "value": "a value",
    "string": "a quote",
    "json string": "a quote",
    "after": "a comma or a brace",
    "done": "nothing",
}


def parse_call(text: str) -> tuple[str, dict[str, Any]]:
    """Name and arguments of a call as text.  Raises CallError."""
    parser = CallParser()
    for index, piece in enumerate(text.split(QUOTE)):
        if index:
            parser.push_quote()
        parser.push(piece)
    return parser.name, parser.finish()


def render_call(name: str, arguments: dict[str, Any]) -> str:
    """A call as the released template writes it: keys sorted without their case, names bare."""
    return f"call:{name}{{{render_fields(arguments)}}}"


def render_fields(mapping: dict[str, Any]) -> str:
    ordered = sorted(mapping.items(), key=lambda item: item[0].lower())
    return ",".join(f"{key}:{render_value(value)}" for key, value in ordered)


def render_value(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f"{QUOTE}{value}{QUOTE}"
    if isinstance(value, dict):
        return f"{{{render_fields(value)}}}"
    if isinstance(value, (list, tuple)):
        return f"[{','.join(map(render_value, value))}]"
    return str(value)


def scalar(word: str) -> Any:
    """A bare word's value: a number, null, true, false, else the word itself."""
    if word in WORDS:
        return WORDS[word]
    if INTEGER.fullmatch(word):
        return int(word)
    if not NUMBER.fullmatch(word):
        return word
    number = float(word)
    if not math.isfinite(number):
        raise CallError(f"{shortened(word)} is too large a number")
    return number


def unescaped(quoted: str) -> str:
    """What JSON's quotes hold."""
    try:
        return str(json.loads(quoted, strict=False))
    except ValueError as error:
        raise CallError(f"{shortened(quoted)} is not a string: {error}") from error


def until(text: str, at: int, ends: re.Pattern[str]) -> int:
    """The first place from `at` on that matches, or the text's length."""
    found = ends.search(text, at)
    return found.start() if found else len(text)


def shortened(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:40] + "…")
