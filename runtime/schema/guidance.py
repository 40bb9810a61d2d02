"""llguidance, which makes grammars into masks, and its reading of patterns; loaded when it is first needed."""

from __future__ import annotations

import functools
from typing import Any

from ..needs import needs

# Text that has to come, such as "<eos>" of a choice, is otherwise made of the control token of that name.
AS_TEXT = '%llguidance {"no_forcing": true}\n'


def load_llguidance() -> Any:
    """Raises NotInstalled if it is missing."""
    return needs("llguidance", "structured", "a structured answer")


@functools.cache
def bytes_as_tokens() -> Any:
    """A tokenizer whose token n is the byte n."""
    return load_llguidance().LLTokenizer("byte")


def terminal_matcher(terminal: str) -> Any:
    """A matcher of bytes for a terminal of Lark; `is_error` tells whether the terminal is one."""
    return load_llguidance().LLMatcher(bytes_as_tokens(), f"start: S\nS: {terminal}\n", log_level=0)
