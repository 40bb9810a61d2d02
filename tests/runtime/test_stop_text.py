"""Texts at which an answer ends, cut at every place a stream may cut them."""

from dataclasses import replace

import pytest

from runtime.language.events import End, Event, Text, ToolCall
from runtime.language.stop_text import StopText, cut

END = End(stop="cancelled", prompt_tokens=1, reused=0, new_tokens=1, ttft_s=0, prefill_tok_s=0, decode_tok_s=0)
CALL = ToolCall("1", "f", {})


@pytest.mark.parametrize("size", range(1, 12))
@pytest.mark.parametrize(
    ("stops", "text", "said", "expected_hit"),
    [
        (["END"], "one ENDtwo", "one ", True),
        (["END"], "one EN", "one EN", False),
        (["aab"], "aaab", "a", True),
        (["cd", "bc"], "abcd", "a", True),
        ([], "abc", "abc", False),
        (["é日"], "xé日y", "x", True),
    ],
)
def test_a_stop_text_is_found_in_pieces_of_any_size(size, stops, text, said, expected_hit):
    reader, out = StopText(stops), ""
    for start in range(0, len(text), size):
        out += reader.push(text[start : start + size])
        if reader.hit:
            break
    assert (out + reader.rest(), reader.hit) == (said, expected_hit)


def test_nothing_comes_after_a_stop_text_but_the_end():
    cancelled = []
    events: list[Event] = [Text("a S"), Text("TOP b"), Text("c"), CALL, END]
    hit = list(cut(iter(events), ["STOP"], False, lambda: cancelled.append(1)))
    assert hit == [Text("a "), replace(END, stop="stop")]
    assert cancelled == [1]


def test_what_began_no_stop_text_comes_before_the_end():
    end = replace(END, stop="length")
    assert list(cut(iter([Text("a S"), end]), ["STOP"], False, lambda: None)) == [Text("a "), Text("S"), end]


def test_one_call_may_be_all():
    assert list(cut(iter([CALL, CALL, END]), [], True, lambda: None)) == [CALL, replace(END, stop="tool_calls")]
    assert list(cut(iter([CALL, CALL, END]), [], False, lambda: None)) == [CALL, CALL, END]
