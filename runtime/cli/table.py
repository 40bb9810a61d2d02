"""Facts as aligned lines, a name and its value on each."""

from __future__ import annotations

from typing import Any


def text(facts: dict[str, Any], indent: str = "") -> str:
    lines = []
    for name, value in facts.items():
        if isinstance(value, dict):
            lines += [f"{indent}{name}", text(value, indent + "  ")]
        else:
            shown = f"{value:,}" if isinstance(value, int) else visible(str(value))
            lines.append(f"{indent}{visible(name):{max(1, 32 - len(indent))}} {shown}".rstrip())
    return "\n".join(line for line in lines if line)


def visible(text: str) -> str:
    """Leave out of a bundle's own words what would move a terminal's cursor or forge a line."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)
