"""Gemma's syntax of a tool call: `call:name{key:value,...}`, where strings stand between quote tokens.

The reader takes what models get wrong and what is still clear: bare words as strings, other quotes, a comma
too many or too few, spaces, and an opening quote token that is missing.  What the template writes keeps its
meaning.  The time is linear in the length, and deep nesting costs no recursion.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

DEPTH = 64  # most objects and arrays inside each other
HEAD = re.compile(r"\s*call:\s*([^\s{}\[\],\"]+)\s*\{")
KEY_ENDS, VALUE_ENDS = re.compile(r"[:}{\]\[,]"), re.compile(r"[,}\]{\[]")
SPACE = re.compile(r"\s*")
JSON_STRING = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
SINGLE_END = re.compile(r"(?<!\\)'(?=\s*[,:}\]])")
NAME_AHEAD = re.compile(r"[A-Za-z_$][\w.$-]*\s*:")
NAME_INSIDE = re.compile(r"[,{](\s*)([A-Za-z_$][\w.$-]*):")  # the template writes no space before it
OPENS = re.compile(r"[:\[,{]\s*\Z")  # a quote token behind this opens a string
TOKEN = "quote token"


class CallError(ValueError):
    """A call that can not be read: one sentence, which the model may be shown."""


@dataclass(frozen=True)
class Bare:
    """A word that stood without quotes: a number, true, null, or a string, as its schema has it."""

    text: str


@dataclass(frozen=True)
class Fields:
    """Names and values of an object in their order; a name can be there twice."""

    pairs: tuple[tuple[str, Any], ...]


Tree = Bare | Fields | list[Any] | str  # a value as it stands in the text


class CallParser:
    """Feed text with `push`, the quote token with `push_quote`; `tree` reads the arguments.

    `name` is there as soon as the call's first brace is.
    """

    def __init__(self) -> None:
        self.name = ""
        self._segments: list[list[str]] = [[]]  # pieces of text between quote tokens
        self._begun = False

    def push(self, text: str) -> None:
        self._segments[-1].append(text)
        if not self._begun and "{" in text:
            self._begun = True
            head = HEAD.match("".join(self._segments[0]))
            self.name = head[1] if head else ""

    def push_quote(self) -> None:
        self._segments.append([])

    def tree(self, names: Collection[str] = ()) -> Fields:
        """Raises CallError for a call that is not complete, or not clear.

        `names` are those that arguments can have, if they are known: they tell where a string ends that has
        no opening quote token.
        """
        segments = ["".join(pieces) for pieces in self._segments]
        head = HEAD.match(segments[0])
        if not head:
            before = segments[0].split("{")[0]
            if "{" in segments[0]:
                raise CallError(f"{shortened(before)} is not call:NAME")
            raise CallError("the call ends where call:NAME{ was expected")
        return Reader(segments, head.end(), names).read()


@dataclass
class Level:
    """An object or an array that is not closed yet, and what comes next in it."""

    is_object: bool
    expects: str  # "a name", "a colon", "a value" or "a comma or a brace"
    values: list[Any] = field(default_factory=list)
    names: list[str] = field(default_factory=list)


class Reader:
    """A stack of its own instead of recursion; a place is a segment between quote tokens and an offset in it."""

    def __init__(self, segments: list[str], at: int, names: Collection[str]) -> None:
        """`at` is behind the first brace."""
        self._segments, self._segment, self._at, self._names = segments, 0, at, names
        self._levels = [Level(True, "a name")]
        self._seen: dict[int, tuple[bool, int, list[int]]] = {}

    @property
    def _text(self) -> str:
        return self._segments[self._segment]

    @property
    def _quote_follows(self) -> bool:
        """Whether a quote token ends this segment."""
        return self._segment + 1 < len(self._segments)

    def read(self) -> Fields:
        steps = {
            "a name": self._name,
            "a colon": self._colon,
            "a value": self._value,
            "a comma or a brace": self._after,
        }
        while True:
            level = self._levels[-1]
            closed = steps[level.expects](level, self._next())
            if closed is None:
                continue
            if self._levels:
                self._add(closed)
                continue
            if rest := self._next():
                raise CallError(f"{shortened(self._text[self._at :] or rest)} behind the end of the call")
            assert isinstance(closed, Fields)
            return closed

    def _next(self) -> str:
        """The next character that is no space, TOKEN for a quote token, "" at the end."""
        space = SPACE.match(self._text, self._at)
        self._at = space.end() if space else self._at
        if self._at < len(self._text):
            return self._text[self._at]
        return TOKEN if self._quote_follows else ""

    def _name(self, level: Level, char: str) -> Tree | None:
        """Up to the colon; an object may end instead, also behind a comma."""
        if char in ("}", "]"):
            return self._close(char)
        if char in (TOKEN, '"') or (char == "'" and self._single_end()):
            level.names.append(self._quoted(char))
            level.expects = "a colon"
            return None
        end = until(self._text, self._at, KEY_ENDS)
        name = self._text[self._at : end].strip()
        if end == len(self._text):
            raise self._unexpected(TOKEN if self._quote_follows else "", level)
        if self._text[end] != ":" or not name:
            raise CallError(f"{shortened(name + self._text[end])} where a name and a colon were expected")
        level.names.append(name)
        level.expects, self._at = "a value", end + 1
        return None

    def _colon(self, level: Level, char: str) -> Tree | None:
        if char != ":":
            raise self._unexpected(char, level, "behind a name")
        level.expects = "a value"
        self._at += 1
        return None

    def _value(self, level: Level, char: str) -> Tree | None:
        if char == "]" and not level.is_object:
            return self._close(char)
        if char != TOKEN and char and self._runs_to_quote(char):
            self._add(self._to_quote())
        elif char in ("{", "["):
            self._open(char)
        elif char in (TOKEN, '"') or (char == "'" and self._single_end()):
            self._add(self._quoted(char))
        else:
            self._add(Bare(self._word(level, char)))
        return None

    def _after(self, level: Level, char: str) -> Tree | None:
        if char in ("}", "]"):
            return self._close(char)
        if char == ",":
            self._at += 1
        elif not (NAME_AHEAD.match(self._text, self._at) if level.is_object else char == TOKEN):
            raise self._unexpected(char, level, "behind a value")
        level.expects = "a name" if level.is_object else "a value"
        return None

    def _word(self, level: Level, char: str) -> str:
        end = until(self._text, self._at, VALUE_ENDS)
        word = self._text[self._at : end].strip()
        if end == len(self._text) or not word:
            raise self._unexpected(char if not word else "", level)
        self._at = end
        return word

    def _runs_to_quote(self, char: str) -> bool:
        """Whether a string begins here whose opening quote token is missing.

        The quote token that ends this segment closes a string unless it stands where one may open, and the
        string is the segment's last argument.
        """
        if not self._quote_follows or self._marks[0] or self._marks[1] > self._at:
            return False
        closer = {"{": "}", "[": "]"}.get(char)
        return closer is None or self._text.find(closer, self._at) >= 0

    def _to_quote(self) -> str:
        text = self._text[self._at :]
        if text[0] in "\"'" and text.count(text[0]) == 1:  # another quote opened it
            text = text[1:]
        self._segment, self._at = self._segment + 1, 0
        return text

    def _quoted(self, char: str) -> str:
        if char == TOKEN:
            if self._segment + 2 >= len(self._segments):
                raise CallError("the call ends where a quote was expected")
            self._segment, self._at = self._segment + 2, 0
            return self._segments[self._segment - 1]
        begin = self._at
        if char == '"':
            quoted = JSON_STRING.match(self._text, begin)
            if not quoted:
                raise CallError(f"{shortened(self._text[begin:])} ends where a quote was expected")
            self._at = quoted.end()
            return unescaped(quoted[0])
        self._at = self._single_end() + 1
        return self._text[begin + 1 : self._at - 1].replace("\\'", "'")

    def _single_end(self) -> int:
        """Return where the single quote that begins here is closed; 0 if it is not."""
        ends = self._marks[2]
        index = bisect_right(ends, self._at)
        return ends[index] if index < len(ends) else 0

    @property
    def _marks(self) -> tuple[bool, int, list[int]]:
        """Say whether a quote token opens a string behind it; its last name; its ends of single quotes."""
        if self._segment not in self._seen:
            inside = NAME_INSIDE.finditer(self._text)
            names = [name.start(2) for name in inside if (name[2] in self._names if self._names else not name[1])]
            ends = [end.start() for end in SINGLE_END.finditer(self._text)]
            self._seen[self._segment] = bool(OPENS.search(self._text)), max(names, default=0), ends
        return self._seen[self._segment]

    def _open(self, char: str) -> None:
        if len(self._levels) == DEPTH:
            raise CallError(f"more than {DEPTH} objects and arrays inside each other")
        self._levels.append(Level(char == "{", "a name" if char == "{" else "a value"))
        self._at += 1

    def _close(self, char: str) -> Fields | list[Any]:
        level = self._levels.pop()
        if (char == "}") != level.is_object:
            raise CallError(f"{char!r} closes what it did not open")
        self._at += 1
        return Fields(tuple(zip(level.names, level.values, strict=True))) if level.is_object else level.values

    def _add(self, value: Tree) -> None:
        self._levels[-1].values.append(value)
        self._levels[-1].expects = "a comma or a brace"

    def _unexpected(self, char: str, level: Level, place: str = "") -> CallError:
        if not char:
            return CallError(f"the call ends where {level.expects} was expected")
        thing = "a quote" if char == TOKEN else repr(char)
        if place:
            return CallError(f"{thing} {place}, where {level.expects} was expected")
        return CallError(f"{thing} where {level.expects} was expected")


def unescaped(quoted: str) -> str:
    """What JSON's quotes hold."""
    try:
        return str(json.loads(quoted, strict=False))
    except ValueError as error:
        raise CallError(f"{shortened(quoted)} is not a string: {error}") from error


def until(text: str, at: int, ends: re.Pattern[str]) -> int:
    """The first place from `at` on that matches, or the text's length."""
    end = ends.search(text, at)
    return end.start() if end else len(text)


def shortened(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:40] + "…")
