"""The context of a model: what the caller asks for, or what the memory holds."""

from __future__ import annotations

from ..bundle.manifest import Manifest
from ..engine.engine import longest, planner
from ..engine.memory_plan import check_room, longest_context
from ..errors import RequestError


def check_context(context: int) -> None:
    """Raises GemmaError for what no context is."""
    if not isinstance(context, int) or isinstance(context, bool) or context < 0:
        raise RequestError(f"the context must be 0 or more tokens, not {context!r:.40}", "0 takes what fits the memory")


def chosen_context(manifest: Manifest, engine: str, context: int, room: int) -> int:
    """The tokens of prompt and answers that a model gets; `room` is the bytes of memory that are available.

    `context` 0 asks for the longest that fits, at most the model's.  Raises GemmaError for a context that the model
    does not have in this engine, or that does not fit.  An engine without a memory plan has caches of one size.
    """
    most = longest(manifest, engine)
    if context > most:
        raise RequestError(
            f"the context must be 1 to {most} tokens, not {context}", "leave it out to take what fits the memory"
        )
    plan = planner(manifest, engine, text=True)
    if plan is None:
        return context or most
    context = context or max(1, longest_context(plan, most, room))
    check_room(plan, most, context, room)
    return context
