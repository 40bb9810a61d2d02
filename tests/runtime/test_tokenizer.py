"""Token ids and rendered templates, compared with transformers on the same files."""

from __future__ import annotations

from pathlib import Path

import pytest

from runtime.errors import GemmaError
from runtime.language.tokenizer import Tokenizer, environment
from tests.conversations import ASKED, CONSTRUCTS, CONVERSATIONS, LOOKUP, SNIPPETS


@pytest.mark.parametrize("name", CONSTRUCTS)
def test_what_released_templates_are_built_of_renders_as_in_transformers(templated, theirs, name):
    messages, options = CONSTRUCTS[name]
    template = (Path(__file__).parent / "constructs.jinja").read_text()
    expected = theirs.apply_chat_template(
        messages, chat_template=template, tokenize=False, **{"add_generation_prompt": True, **options}
    )
    assert templated(template).render(messages, **options) == expected


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_rendering_equals_transformers(ours, theirs, name):
    messages, options = CONVERSATIONS[name]
    expected = theirs.apply_chat_template(messages, tokenize=False, add_generation_prompt=True, **options)
    assert ours.render(messages, **options) == expected
    assert ours.chat(messages, **options) == theirs.encode(expected, add_special_tokens=False)


@pytest.mark.parametrize(("source", "expected"), SNIPPETS.items())
def test_the_engine_says_what_the_snippets_expect(source, expected):
    assert environment().from_string(source).render(x={"b": 1, "A": [1, 2.5, None, True]}, s=" Ab ") == expected


def test_control_tokens_have_gemma_4s_ids(ours):
    ids = ours.chat([ASKED], enable_thinking=True, tools=[LOOKUP])
    assert ids[:2] == [2, 105]
    assert {98, 46, 47, 52, 105, 106} <= set(ids)


def test_bos_is_put_once(ours):
    assert ours.encode("hello", bos=True)[0] == 2
    assert ours.encode("<bos>hello", bos=True) == ours.encode("hello", bos=True)
    assert ours.encode("hello", bos=False)[0] != 2


@pytest.mark.parametrize("text", ["Cote d'Ivoire", "naïve café — 日本 🙂", "two  spaces\n\n and lines\n", "\t"])
def test_text_comes_back_whole_and_as_a_stream(ours, text):
    ids = ours.encode(text, bos=False)
    assert ours.decode(ids) == text
    assert ours.stream().push_all(ids) == text


@pytest.mark.parametrize(
    "message",
    [
        {"role": "user", "content": "half \ud83d of one"},
        {"role": "assistant", "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": {"a": "\ud800"}}}]},
        {"role": "tool", "tool_call_id": "1", "content": {"\udfff": 1}},
    ],
)
def test_half_a_character_in_a_message_is_refused(ours, message):
    with pytest.raises(GemmaError, match="half of a character"):
        ours.chat([ASKED, message])


def test_what_a_template_reads_is_what_its_program_names(templated):
    tokenizer = templated("{# tools #}You have no tools. {% if 'tool_calls' in messages[0] %}{% endif %}")
    assert [tokenizer.reads(name) for name in ("tools", "tool_calls", "messages")] == [False, True, True]


def test_half_a_character_waits_for_the_rest(ours):
    ids = ours.encode("🙂", bos=False)
    stream = ours.stream()
    assert [stream.push(token) for token in ids] == [""] * (len(ids) - 1) + ["🙂"]


def test_bytes_that_are_no_text_do_not_end_a_stream(ours):
    """The library raises where it would have to take a character back."""
    ids = [ours.pieces.token_to_id(piece) for piece in ("<0xC3>", "<0xA9>", "<0xE2>", "a", "b")]
    stream = ours.stream()
    assert [stream.push(token) for token in ids] == ["", "é", "", "\ufffda", "b"]


def test_a_template_that_refuses_says_why(templated):
    tokenizer = templated("{{ raise_exception('roles must alternate') }}")
    with pytest.raises(GemmaError, match="roles must alternate"):
        tokenizer.render([ASKED])


def test_a_template_can_not_reach_out_of_the_sandbox(templated):
    tokenizer = templated("{{ ''.__class__.__mro__[1].__subclasses__() }}")
    with pytest.raises(GemmaError, match="chat template"):
        tokenizer.render([ASKED])


def test_json_in_templates_is_not_escaped_for_html():
    made = environment().from_string("{{ x | tojson }}").render(x={"a": "<é>"})
    assert made == '{"a": "<é>"}'


def test_a_base_model_has_no_template(ours):
    with pytest.raises(GemmaError, match="no chat template"):
        Tokenizer(ours.folder / "tokenizer.json", ours.bos, None).render([ASKED])
