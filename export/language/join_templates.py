"""Two chat templates as one text that renders as either does alone."""

from __future__ import annotations

import re

LINE_BREAK = re.compile(r"\r\n|\r")


def joined(with_tools: str, without: str) -> str:
    """The first where tools are given, else the second.

    The line break behind each tag is the tag's own, which jinja2 takes away; so each part begins a line, as alone.
    """
    return "{% if tools %}\n" + part(with_tools) + "{% else %}\n" + part(without) + "{% endif %}"


def part(template: str) -> str:
    """Remove the last line break, which jinja2 does not render, and end with an empty value.

    A tag that follows would otherwise take away the blanks before it, or make `{{` of a brace.
    """
    text = LINE_BREAK.sub("\n", template).removesuffix("\n")
    return text[:-1] + "{{ '{' }}" if text.endswith("{") else text + "{{ '' }}"
