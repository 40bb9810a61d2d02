"""System messages anywhere in a conversation: where a template has a place for them, as transformers renders it."""

from __future__ import annotations

from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerFast

from runtime.errors import GemmaError
from runtime.language.system_messages import placed
from tests.conftest import SAMPLE

CONSTRUCTS = Path(__file__).parent / "constructs.jinja"  # what released templates are built of
TURN = (
    "{{ m['role'] }}: {{ m['content'] if m['content'] is string else m['content'] | map(attribute='text') | join }}\n"
)
# The first message may be the system's, and another is refused, as in Gemma 3.
REFUSES = (
    "{% if messages[0]['role'] == 'system' %}{% set first = messages[0] %}{% set turns = messages[1:] %}"
    "{% else %}{% set turns = messages %}{% endif %}"
    "{% for m in turns %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
    "{% if loop.first and first %}{{ first['content'] if first['content'] is string else first['content'][0]['text'] }}"
    "\n\n{% endif %}" + TURN + "{% endfor %}"
)
DROPS = "{% for m in messages %}{% if loop.first or m['role'] != 'system' %}" + TURN + "{% endif %}{% endfor %}"
LAST_ONLY = (
    "{% set ns = namespace(s='') %}{% for m in messages if m['role'] == 'system' %}{% set ns.s = m['content'] %}"
    "{% endfor %}{{ ns.s }}\n{% for m in messages if m['role'] != 'system' %}" + TURN + "{% endfor %}"
)
NO_PLACE = "{% for m in messages if m['role'] != 'system' %}" + TURN + "{% endfor %}"

HI, HELLO, ASKED = (
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Hello."},
    {"role": "user", "content": "Hi, answer in one word."},
)
TERSE = {"role": "system", "content": "Be terse."}
LATER = {"role": "system", "content": "Answer in one word."}
BOTH = {"role": "system", "content": "Be terse.\n\nAnswer in one word."}
MIDDLE = [TERSE, HI, HELLO, LATER, ASKED]


def said(templated, template, messages, **options):
    tokenizer = templated(template)
    turns = placed([dict(one) for one in messages], template, lambda turns: tokenizer.render(turns, **options))
    return tokenizer.render(turns, **options)


def theirs(template, messages, **options):
    made = PreTrainedTokenizerFast(tokenizer_file=str(SAMPLE / "tokenizer.json"), bos_token="<bos>")
    return made.apply_chat_template(
        messages, chat_template=template, tokenize=False, add_generation_prompt=True, **options
    )


def parts(message):
    return {**message, "content": [{"type": "text", "text": message["content"]}]}


def developer(message):
    return {**message, "role": "developer"}


@pytest.mark.parametrize("path", [SAMPLE / "chat_template.jinja", CONSTRUCTS], ids=["sample", "constructs"])
@pytest.mark.parametrize(
    "messages",
    [
        MIDDLE,
        [HI, HELLO, LATER, ASKED],
        [TERSE, LATER, ASKED],
        [TERSE, ASKED, LATER],
        [TERSE, HI, HELLO, {**LATER, "content": "Be terse."}, ASKED],
        [developer(TERSE), HI, HELLO, developer(LATER), ASKED],
    ],
)
def test_a_template_that_renders_them_gets_them_as_given(templated, path, messages):
    template = path.read_text(encoding="utf-8")
    for options in ({}, {"enable_thinking": True}):
        assert said(templated, template, messages, **options) == theirs(template, messages, **options)


def test_a_later_one_in_parts_is_given_so(templated):
    template, messages = CONSTRUCTS.read_text(encoding="utf-8"), [TERSE, HI, HELLO, parts(LATER), ASKED]
    assert said(templated, template, messages) == theirs(template, messages)


@pytest.mark.parametrize("template", [REFUSES, DROPS, LAST_ONLY], ids=["refuses", "drops", "keeps the last"])
@pytest.mark.parametrize("messages", [MIDDLE, [TERSE, HI, HELLO, developer(LATER), ASKED]])
def test_where_it_refuses_or_drops_one_all_are_the_first(templated, template, messages):
    assert said(templated, template, messages) == theirs(template, [BOTH, HI, HELLO, ASKED])


def test_one_that_stands_late_alone_is_put_first(templated):
    assert said(templated, REFUSES, [HI, HELLO, LATER, ASKED]) == theirs(REFUSES, [LATER, HI, HELLO, ASKED])


def test_parts_are_put_together(templated):
    messages = [parts(TERSE), HI, HELLO, LATER, ASKED]
    assert said(templated, REFUSES, messages) == theirs(REFUSES, [parts(BOTH), HI, HELLO, ASKED])


def test_a_template_that_knows_the_system_only_gets_a_developer_as_such(templated):
    assert said(templated, REFUSES, [developer(TERSE), ASKED]) == theirs(REFUSES, [TERSE, ASKED])


def test_what_the_template_refuses_for_another_reason_is_said_in_its_words(templated):
    with pytest.raises(GemmaError, match="roles must alternate"):
        said(templated, REFUSES, [TERSE, HI, HELLO, LATER, HELLO])


def test_a_template_without_a_place_for_any_is_an_error(templated):
    with pytest.raises(GemmaError, match="no place for a system message"):
        said(templated, NO_PLACE, MIDDLE)


def test_many_are_placed_in_time_that_grows_with_their_number(templated):
    many = [HI, *[LATER] * 20_000, ASKED]
    assert said(templated, DROPS, many).count(LATER["content"]) == 20_000
