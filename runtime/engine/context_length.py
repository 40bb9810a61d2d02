"""The context of a session: what the user asks for, or what the memory holds."""

from __future__ import annotations

import sys

from ..bundle.manifest import Manifest
from ..errors import GemmaError
from ..machine.available_memory import available
from .engine import DEFAULT, longest
from .memory_plan import check_room, longest_context


def chosen_context(manifest: Manifest, asked: int | None, engine: str = DEFAULT) -> int:
    """Raises GemmaError for a context that the model does not have, or that memory does not hold."""
    most, room = longest(manifest, engine), available()  # what this process has already counts twice: a margin
    if asked is not None and not 1 <= asked <= most:
        raise GemmaError(
            f"the context must be 1 to {most} tokens, not {asked}", "leave it out to take what fits the memory"
        )
    if engine != DEFAULT:
        return asked or most  # its caches are of one size, whatever the context
    context = min(most, max(1, longest_context(manifest, room, text=True))) if asked is None else asked
    check_room(manifest, context, room, text=True)
    if asked is None and context < most:
        print(f"memory for {context} of {most} tokens of context", file=sys.stderr)
    return context
