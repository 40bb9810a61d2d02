"""A conversation as the tokens that a model reads before it answers."""

from __future__ import annotations

from collections.abc import Sequence

from ..calls.tool_schema import Declaration, for_template
from ..language.messages import checked, with_responses
from ..language.system_messages import placed
from ..language.tokenizer import Message, Tokenizer


def prompt_of(
    tokenizer: Tokenizer,
    messages: Sequence[Message],
    declared: Sequence[Declaration],
    *,
    thinking: bool = False,
    trust_control_tokens: bool = False,
) -> list[int]:
    """Raises GemmaError for messages that can not be used, or that the template refuses."""
    turns = checked(messages)
    if "tool_responses" in tokenizer.template:
        turns = with_responses(turns)
    options = {"tools": [for_template(tool) for tool in declared] or None, "enable_thinking": thinking}
    turns = placed(turns, tokenizer.template, lambda turns: tokenizer.render(turns, **options))
    return tokenizer.chat(turns, trust_control_tokens=trust_control_tokens, **options)
