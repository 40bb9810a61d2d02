"""Patterns of JSON schemas as terminals of a grammar, and matched in linear time.

Python's `re` is never given a text and a pattern from outside: it goes back and forth, for ever if it is made to.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator

from ..errors import GemmaError, RequestError
from .guidance import load_llguidance, terminal_matcher

ANY_TEXT, NO_TEXT = "/(?s:.*)/", "/[^\\s\\S]/"
LONGEST = 4096  # characters of a pattern
OPERATORS = re.compile(r"\\.|[\[&~]|--", re.DOTALL)
IN_CLASS = {"[": "\\[", "&": "\\&", "~": "\\~", "--": "-\\-"}  # operators of llguidance's classes, not of a schema's
DAY = "(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)|02-(?:0[1-9]|1[0-9]|2[0-8])"
FOURTH = "(?:0[48]|[2468][048]|[13579][26])"  # a leap year's last two digits, but 00
DATE = f"(?:[0-9]{{4}}-(?:{DAY})|(?:[0-9]{{2}}{FOURTH}|{FOURTH}00)-02-29)"
OCTET = "(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
TIME = "(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\\.[0-9]{1,6})?(?:Z|[-+](?:[01][0-9]|2[0-3]):[0-5][0-9])"
LABEL = "[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?"
FORMATS = {  # RFC 3339, 2673, 9562, 1123; of mail addresses and URIs what everybody takes
    "date": f"{DATE}",
    "time": TIME,
    "date-time": f"{DATE}T{TIME}",
    "uuid": "[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}",
    "ipv4": f"(?:{OCTET}\\.){{3}}{OCTET}",
    "hostname": f"{LABEL}(?:\\.{LABEL}){{0,3}}",
    "email": f"[a-zA-Z0-9_+-]+(?:\\.[a-zA-Z0-9_+-]+)*@{LABEL}(?:\\.{LABEL}){{1,3}}",
    "uri": f"[a-z][a-z0-9+.-]*://{LABEL}(?:\\.{LABEL}){{0,3}}(?::[0-9]{{1,4}})?(?:/[a-zA-Z0-9._~-]*)*"
    "(?:\\?[a-zA-Z0-9._~=&-]*)?(?:#[a-zA-Z0-9._~-]*)?",
}


def terminal_of_pattern(pattern: str) -> str:
    """The texts that a schema's pattern is found in.  Raises GemmaError for what has no linear matcher."""
    if len(pattern) > LONGEST:
        raise RequestError(
            f"a pattern has {len(pattern)} characters, and the limit is {LONGEST}", "write a shorter pattern"
        )
    terminal = f"/{load_llguidance().regex_to_lark(searched(pattern), 'dw')}/"
    problem = compile_problem(terminal)
    if problem:
        raise RequestError(f"the pattern {pattern!r:.80} is not supported: {problem}", "write a simpler pattern")
    return terminal


def terminal_of_format(name: str) -> str:
    if name not in FORMATS:
        known = ", ".join(FORMATS)
        raise RequestError(f"the format {name!r:.40} is not supported; supported are {known}", "give a pattern instead")
    return f"/{load_llguidance().regex_to_lark(FORMATS[name], '')}/"


@functools.lru_cache(4096)
def compile_problem(terminal: str) -> str:
    """Why a terminal is none, in a few words; "" if it is one."""
    matcher = terminal_matcher(terminal)
    if not matcher.is_error():
        return ""
    lines = matcher.get_error().split(" (in regex): ")[-1].splitlines()
    return lines[0].split("; ")[0].rstrip(":")[:120] or "it has no grammar"


@functools.lru_cache(4096)
def is_empty(terminal: str) -> bool:
    """Whether a terminal matches no text at all, as `/a/ & /b/` does.  Raises GemmaError if it is none."""
    if problem := compile_problem(terminal):
        raise RequestError(f"a string with these keywords is not supported: {problem}", "simplify its keywords")
    matcher = terminal_matcher(terminal)
    mask = matcher.compute_bitmask()
    return bool(matcher.is_error()) or not (any(mask) or matcher.is_accepting())


def is_pattern(pattern: str) -> bool:
    """Whether it is a pattern at all, be it one that looks around and so can not be matched in linear time."""
    try:
        terminal_of_pattern(pattern)
    except GemmaError:
        try:
            re.compile(pattern)  # it is given no text
        except (re.error, RecursionError, OverflowError):
            return False
    return True


@functools.lru_cache(4096)
def is_linear(pattern: str) -> bool:
    try:
        terminal_of_pattern(pattern)
    except GemmaError:
        return False
    return True


def matches(pattern: str, text: str) -> bool:
    """Whether a pattern is found in a text; one that has no linear matcher is advice, and not held against a text."""
    if not is_linear(pattern):
        return True
    matcher = terminal_matcher(terminal_of_pattern(pattern))
    ids = list(text.encode("utf-8", "replace"))
    return bool(matcher.try_consume_tokens(ids) == len(ids) and matcher.is_accepting())


def searched(pattern: str) -> str:
    """A pattern that matches a part, as one that matches the whole: each alternative with its own anchors."""
    wholes = []
    for branch in branches(pattern):
        begin = "" if branch.startswith("^") else "(?s:.*)"
        inner = branch.removeprefix("^")
        slashes = len(inner) - len(inner.removesuffix("$").rstrip("\\")) - 1
        anchored = inner.endswith("$") and slashes % 2 == 0
        wholes.append(f"{begin}(?:{inner[:-1] if anchored else inner}){'' if anchored else '(?s:.*)'}")
    return "|".join(wholes)


def branches(pattern: str) -> Iterator[str]:
    """The alternatives of the outermost level."""
    depth = 0
    branch: list[str] = []
    for piece in pieces(pattern):
        depth += (piece == "(") - (piece == ")")
        if piece == "|" and depth == 0:
            yield "".join(branch)
            branch = []
        else:
            branch.append(piece)
    yield "".join(branch)


def pieces(pattern: str) -> Iterator[str]:
    """Escapes, classes and single characters; in a class nothing is an operator but the first ^ and ranges."""
    for match in re.finditer(r"\\.|\[\^?\]?(?:\\.|[^\\\]])*\]|.", pattern, re.DOTALL):
        piece = match[0]
        if len(piece) > 1 and piece[0] == "[":
            piece = f"[{re.sub(OPERATORS, lambda operator: IN_CLASS.get(operator[0], operator[0]), piece[1:-1])}]"
        yield piece
