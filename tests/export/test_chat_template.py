"""A bundle's one template renders what transformers renders of all the forms that folders have."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer
from transformers.utils.chat_template_utils import render_jinja_template

from export.language.chat_template import chat_template, named_templates, not_taken
from export.language.join_templates import joined
from export.language.template_tags import without_generation
from runtime.errors import GemmaError
from runtime.language.tokenizer import environment
from tests import tiny
from tests.conversations import CONVERSATIONS, LOOKUP

QUESTION = [{"role": "user", "content": " Where? "}, {"role": "assistant", "content": "There."}]
AWKWARD = [
    "plain",
    "\nbegins with a line break",
    "\n\n  {% if true %}\n  indented\n  {% endif %}\n",
    "ends with one line break\n",
    "ends with two\n\n",
    "ends with three\n\n\n",
    "ends with blanks\n   ",
    "ends with blanks and a line break\n   \n",
    "   {% if true %}begins with blanks and a block{% endif %}",
    "\n   {%- if true -%}   a sign   {%- endif -%}   ",
    "{%- for m in messages -%}\n  {{ m.content }}\n{%- endfor -%}\n  ",
    "ends with a brace {",
    "ends with a brace and a line break {\n",
    "ends with two braces }}",
    "ends with a percent and brace %}",
    "ends with a comment {# if #}\n",
    "{# a comment #}\n  {#- another -#}  text",
    "{% raw %}{% if %} {{ {% endraw %}",
    "{% raw %}\nraw{% endraw %}\n",
    "{% set x = 1 %}\n{% for m in messages %}{% set x = 2 %}{% endfor %}{{ x }}",
    "{% set tools = none %}{{ tools }}{{ tools is none }}",
    "{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}",
    "{% macro say(m) %}<{{ m.role }}>{% endmacro %}{% for m in messages %}{{ say(m) }}{% endfor %}",
    "{% if tools %}t{% else %}n{% endif %}{{ tools | length if tools else 0 }}",
    "windows\r\n  {% if true %}\r\n  lines\r\n  {% endif %}\r\n",
    "windows\r\nends with text\r\n",
    "old mac\r{% if true %}\rlines{% endif %}\r",
    "{% for m in messages %}{% if loop.last %}{% break %}{% endif %}{{ m.content }}{% endfor %}",
    "{{ '{%' }}{{ \"}}\" }}{{ {'a': {'b': 1}}['a'] }}",
    "",
    "\n",
    "   ",
    "{{ bos_token }}\n",
    tiny.TEMPLATE,
]  # fmt: skip
PAIRS = [*zip(AWKWARD, reversed(AWKWARD), strict=True), *itertools.pairwise(AWKWARD)]


def theirs(template: str, messages: Any, **options: Any) -> str:
    """What transformers renders of a template."""
    return render_jinja_template([messages], chat_template=template, **options)[0][0]


def ours(template: str, messages: Any, **options: Any) -> str:
    return environment().from_string(template).render(messages=messages, **options)


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_joined_templates_render_as_each_alone(first, second):
    both = joined(first, second)
    for tools, template in (([LOOKUP], first), (None, second)):
        assert ours(both, QUESTION, tools=tools, bos_token="<bos>") == theirs(
            template, QUESTION, tools=tools, bos_token="<bos>"
        )


MARKED = [
    "{% for m in messages %}{% if m.role == 'assistant' %}{% generation %}{{ m.content }}<end>{% endgeneration %}"
    "{% endif %}{% endfor %}",
    "a\n  {% generation %}\n  {{ messages[1].content }}\n  {% endgeneration %}\nb\n",
    "a  {%- generation -%}  x  {%- endgeneration -%}  b",
    "a\n  {%+ generation +%}\n  x\n  {%+ endgeneration +%}\n b",
    "a\n{%generation%}x{%endgeneration%}\n",
    "{% generation\n%}x{%-\nendgeneration -%}  y",
    "{% raw %}{% generation %}{% endraw %}{# {% generation %} #}{{ '{% generation %}' }}",
    "{% if '{% endgeneration %}' in messages[0].content %}a{% else %}{% generation %}b{% endgeneration %}{% endif %}",
    "{{ {'}}': '{% generation %}'}['}}'] }}{% generation %}{{ \"it's\" }}{% endgeneration %}",
    "{{ 'a\\'{% generation %}' }}{% generation %}b{% endgeneration %}",
    "{{ {'a': {'b': 1}} ~ '{% generation %}' }}{% generation %}b{% endgeneration %}",
    "{#- {{ ' -#}{% generation %}b{% endgeneration %}{# ' }} #}",
    "{%- raw -%} {{ ' {%- endraw -%} {% generation %}b{% endgeneration %}",
    "{% for m in messages %}{% generation %}{{ loop.index }}{% endgeneration %}{% endfor %}",
    "no tag",
]  # fmt: skip


@pytest.mark.parametrize("template", MARKED)
def test_generation_tags_render_as_nothing(template):
    plain = without_generation(template)
    assert ours(plain, QUESTION) == theirs(template, QUESTION)
    for conversation, options in CONVERSATIONS.values():
        if len(conversation) > 1:
            assert ours(plain, conversation, **options) == theirs(template, conversation, **options)


def test_the_work_grows_as_the_template():
    """A second for each would be a hundred times what these take."""
    for template in ("{{ '" + "\\'" * 100_000 + "' }}", "{" * 100_000, "{{" + "[" * 50_000 + "]" * 50_000 + "}}"):
        without_generation(template)


@pytest.fixture
def folder(checkpoint, tmp_path: Path) -> Path:
    folder = shutil.copytree(checkpoint("gemma3"), tmp_path / "folder")
    (folder / "chat_template.jinja").unlink()
    return folder


def field(said: Any) -> dict[str, Any]:
    return {"tokenizer_config.json": {"chat_template": said}}


def listed(*names: str) -> dict[str, Any]:
    return field([{"name": name, "template": f"of {name}"} for name in names])


FILE, MORE = "chat_template.jinja", "additional_chat_templates"
FORMS: dict[str, dict[str, Any]] = {  # files to write
    "nothing": {},
    "a file": {FILE: "file"},
    "a field": field("field"),
    "a file beside a field": {FILE: "file"} | field("field"),
    "a list": listed("default", "tool_use"),
    "a list of more": listed("default", "rag", "tool_use"),
    "an object": field({"default": "a", "tool_use": "b"}),
    "more files": {FILE: "a", f"{MORE}/tool_use.jinja": "b", f"{MORE}/rag.jinja": "c"},
    "more files beside a list": {f"{MORE}/default.jinja": "b"} | listed("tool_use"),
    "a default in both": {FILE: "a", f"{MORE}/default.jinja": "b"},
    "a file below": {FILE: "a", f"{MORE}/deeper/tool_use.jinja": "b"},
}


def write(folder: Path, files: dict[str, Any]) -> None:
    for name, said in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(said if isinstance(said, str) else json.dumps(said))


@pytest.mark.parametrize("form", FORMS)
def test_the_template_is_the_one_that_transformers_takes(folder, form):
    write(folder, FORMS[form])
    template, tokenizer = chat_template(folder, {}), AutoTokenizer.from_pretrained(folder)
    if template is None:
        assert tokenizer.chat_template is None
        return
    offers: tuple[list[dict[Any, Any] | Callable[..., Any]] | None, ...] = ([LOOKUP], None)
    for tools in offers:
        expected = tokenizer.apply_chat_template(QUESTION, tools=tools, tokenize=False)
        assert ours(template, QUESTION, tools=tools) == expected
    names = set(tokenizer.chat_template) if isinstance(tokenizer.chat_template, dict) else {"default"}
    assert set(not_taken(folder)) == names - {"default", "tool_use"}


@pytest.mark.parametrize("said", ["old", [{"name": "default", "template": "old"}]])
def test_the_old_file_of_processors_is_the_last_that_is_looked_for(folder, said):
    write(folder, {"chat_template.json": {"chat_template": said}})
    assert chat_template(folder, {}) == "old"
    write(folder, {"tokenizer_config.json": {"chat_template": "field"}})
    assert chat_template(folder, {}) == "field"


@pytest.mark.parametrize("count", [1, 2])
def test_what_save_pretrained_writes_comes_back(folder, tmp_path, count):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = {"default": "a\n", "tool_use": "\nb"} if count == 2 else "a\n"
    for jinja in (True, False):
        tokenizer.save_pretrained(tmp_path / str(jinja), save_jinja_files=jinja)
        assert named_templates(tmp_path / str(jinja)) == (tokenizer.chat_template if count == 2 else {"default": "a\n"})


@pytest.mark.parametrize("said", [3, [3], [{"name": "default"}], {"default": 3}, [{"name": 1, "template": "x"}]])
def test_what_is_no_template_is_refused(folder, said):
    write(folder, {"tokenizer_config.json": {"chat_template": said}})
    with pytest.raises(GemmaError, match="must be a text or a list of named texts"):
        chat_template(folder, {})


def test_templates_without_a_default_are_refused(folder):
    write(folder, {"additional_chat_templates/tool_use.jinja": "a"})
    with pytest.raises(GemmaError, match="chat templates tool_use, but none is called default"):
        chat_template(folder, {})


@pytest.mark.parametrize("name", ["default", "tool_use"])
@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("a\n{% if %}", "line 2"),
        ("{% endif %}", "line 1"),
        ("{{ 'a", "line 1"),
        ("{{ x | nothing }}", "No filter named 'nothing'"),
        ("{% generation %}a", "line 1"),
        ("{{ raise_exception('no') }}", "cannot render a question: no"),
        ("{{ messages[0].nothing.more }}", "cannot render a question"),
        ("{{ [].__class__.x }}", "unsafe"),
    ],
)  # fmt: skip
def test_what_can_not_be_rendered_is_refused(folder, name, template, reason):
    write(folder, {"chat_template.jinja": "fine", f"additional_chat_templates/{name}.jinja": template})
    with pytest.raises(GemmaError, match=reason):
        chat_template(folder, {})


@pytest.mark.parametrize("content", ["{{ messages[0].content | trim }}", "{{ messages[0].content[0].text }}"])
def test_a_template_of_texts_and_one_of_parts_are_taken(folder, content):
    write(folder, {"chat_template.jinja": content + "{{ eos_token.strip() }}"})
    assert chat_template(folder, {"eos_token": "<eos>"})
