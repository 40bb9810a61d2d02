"""Ids of control tokens, and what a vocabulary without them can not do."""

from __future__ import annotations

from runtime.language.control_tokens import ControlTokens

GEMMA_4 = {
    "<|channel>": 100,
    "<channel|>": 101,
    "<|tool_call>": 48,
    "<tool_call|>": 49,
    "<|tool_response>": 50,
    "<|turn>": 105,
    '<|"|>': 52,
}


def test_gemma_4():
    found = ControlTokens.of(GEMMA_4.get)
    assert (found.channel, found.channel_end, found.call, found.call_end) == (100, 101, 48, 49)
    assert (found.response, found.turn, found.quote) == (50, 105, 52)
    assert found.can_think
    assert found.can_call


def test_what_is_not_there_has_an_id_that_no_token_has():
    found = ControlTokens.of({"<|turn>": 105, "<|channel>": 100}.get)
    assert (found.call, found.quote) == (-1, -1)
    assert not found.can_think
    assert not found.can_call
