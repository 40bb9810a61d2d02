"""Text of messages stays text: what looks like a control token in it never becomes one.

A template is handed strings in which every text of a special token has a mark before it.  What the template renders
is cut at the special tokens that have no mark, and they alone become ids.  A mark names its token: where a template
cuts a text behind a mark, the control token that it writes there itself is another, and still counts.  A text that
ends as a token begins has a mark behind it, so that two texts side by side make none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

MARK = "\ufdd0"  # and two digits behind it: noncharacters, which no text has a use for
FIRST_DIGIT, BASE = 0xFDD1, 31
MARKS = re.compile("\ufdd0[\ufdd1-\ufdef]{0,2}")
END = MARK + chr(FIRST_DIGIT + BASE - 1) * 2  # of no token: behind the beginning of one
REPLACEMENT = "\ufffd"
ESCAPED = re.compile(
    r"(?<!\\)((?:\\\\)*)\\u(fd[de][0-9a-f])"
)  # a mark, as JSON in ASCII and Python's own form of lists write it


@dataclass(frozen=True)
class SpecialTokens:
    """The special tokens of a tokenizer: their ids by text."""

    ids: Mapping[str, int]

    @cached_property
    def texts(self) -> re.Pattern[str]:
        """Any of them, the longest first where one begins as another; nothing where there are none."""
        longest_first = sorted(filter(None, self.ids), key=len, reverse=True)
        return re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")

    @cached_property
    def beginnings(self) -> re.Pattern[str]:
        """One of them that is not finished where a text ends, blanks aside."""
        parts = {text[:length] for text in self.ids for length in range(1, len(text))}
        longest_first = sorted(parts, key=len, reverse=True)
        return re.compile(f"({'|'.join(map(re.escape, longest_first)) or '(?!)'})(\\s*)\\Z")

    @cached_property
    def marks(self) -> dict[str, str]:
        """What stands before a text that is not the token."""
        return {text: mark(index) for index, text in enumerate(sorted(self.ids))}

    def literal(self, value: Any) -> Any:
        """Strings, also those inside lists and mappings, with a mark before what would be a token."""
        if isinstance(value, str):
            marked = self.texts.sub(self._marked, value.replace(MARK, REPLACEMENT))
            return self.beginnings.sub(rf"\1{END}\2", marked)
        if isinstance(value, Mapping):
            return MarkedMapping({self.literal(name): self.literal(item) for name, item in value.items()})
        if isinstance(value, Sequence) and not isinstance(value, bytes):
            return MarkedList(self.literal(item) for item in value)
        return value

    def _marked(self, token: re.Match[str]) -> str:
        return self.marks[token[0]] + token[0]

    def cut(self, rendered: str) -> Iterator[str | int]:
        """Texts without their marks, and the ids of the tokens between them."""
        start = 0
        for token in self.texts.finditer(rendered):
            before = rendered[start : token.start()]
            if rendered.endswith(self.marks[token[0]], 0, token.start()):
                continue
            if text := MARKS.sub("", before):
                yield text
            yield self.ids[token[0]]
            start = token.end()
        if text := MARKS.sub("", rendered[start:]):
            yield text


class MarkedList(list[Any]):
    """As a template prints it, with its marks, which Python's own form would write as escapes."""

    def __repr__(self) -> str:
        return unescaped(super().__repr__())


class MarkedMapping(dict[str, Any]):
    """As a template prints it, with its marks."""

    def __repr__(self) -> str:
        return unescaped(super().__repr__())


def mark(index: int) -> str:
    """Marks repeat after 960 tokens, which matters only where one token's mark was left before another's text."""
    high, low = divmod(index % (BASE * BASE - 1), BASE)
    return MARK + chr(FIRST_DIGIT + high) + chr(FIRST_DIGIT + low)


def unescaped(text: str) -> str:
    """Escapes of marks as the marks they were; a text that has such an escape itself has one backslash more here."""
    return ESCAPED.sub(lambda escape: escape[1] + chr(int(escape[2], 16)), text)
