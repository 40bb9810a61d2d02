"""What a bundle is asked before it is sealed, besides its logits: damage that no logit shows fails the export."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from export.checkpoint.checkpoint import Checkpoint
from export.language import conversation_forms
from export.language.conversation_forms import check_turn_end, rendered_forms, turn_end
from export.language.side_files import read_side_files
from export.pipeline import export_bundle
from quantize.recipe import RECIPES
from runtime.calls import grammar as call_grammar
from runtime.errors import GemmaError
from runtime.language.tokenizer import Tokenizer
from runtime.session import structured
from tests.conftest import SAMPLE

SPLIT = "{{ bos_token }}{% for m in messages %}<|turn>{{ m.role }}\n{{ m.content | trim }}<turn|>\n{% endfor %}"
TEMPLATES = {
    "without system messages": SPLIT.replace("for m in messages", "for m in messages if m.role != 'system'"),
    "with the last turn only": SPLIT.replace("for m in messages", "for m in messages[-1:]"),
    "in another order": SPLIT.replace("for m in messages", "for m in messages | reverse"),
    "cut at twelve characters": SPLIT.replace("trim", "truncate(12)"),
    "without tools that it asks for": SPLIT + "{% if tools %}{% endif %}",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return shutil.copytree(SAMPLE, tmp_path / "checkpoint")


def of_template(folder: Path, template: str) -> Tokenizer:
    (folder / "chat_template.jinja").write_text(template)
    return Tokenizer(folder / "tokenizer.json", 2, folder / "chat_template.jinja")


def test_the_sample_s_template_knows_every_form(folder):
    speaker = Tokenizer(folder / "tokenizer.json", 2, folder / "chat_template.jinja")
    assert set(rendered_forms(speaker).values()) == {"rendered"}
    assert turn_end(speaker) == 106


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_template_that_loses_a_text_is_refused(name, folder):
    with pytest.raises(GemmaError, match="renders a conversation of the form .* without"):
        rendered_forms(of_template(folder, TEMPLATES[name]))


def test_a_form_that_a_template_refuses_or_does_not_know_is_said(folder):
    refusing = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}" + SPLIT
    forms = rendered_forms(of_template(folder, refusing))
    assert forms["system"] == "refused by the template: no system"
    assert forms["tools"] == conversation_forms.NOT_KNOWN
    assert forms["turns"] == "rendered"


def test_a_template_that_only_speaks_of_tools_does_not_know_them(folder):
    forms = rendered_forms(of_template(folder, "{# tool_calls #}You have no tools." + SPLIT))
    assert (forms["tools"], forms["tool call"]) == (conversation_forms.NOT_KNOWN, conversation_forms.NOT_KNOWN)


def test_calls_are_rendered_by_the_template_of_conversations_with_tools(folder):
    """A plain template as `default` beside one as `tool_use`, which transformers takes where tools are given."""
    whole = (folder / "chat_template.jinja").read_text()
    (folder / "chat_template.jinja").unlink()
    named = [{"name": "default", "template": SPLIT}, {"name": "tool_use", "template": whole}]
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": named}))
    side, _ = read_side_files(Checkpoint.open(folder))
    assert side.template is not None
    assert set(rendered_forms(of_template(folder, side.template)).values()) == {"rendered"}


def test_a_template_that_refuses_a_question_is_an_error(folder):
    with pytest.raises(GemmaError, match="nobody asks"):
        rendered_forms(of_template(folder, "{{ raise_exception('nobody asks') }}"))


@pytest.mark.parametrize(
    ("template", "end"), [(SPLIT, 106), (SPLIT.replace("<turn|>", "<eos>"), 1), ("{{ messages }}", None)]
)
def test_what_ends_a_turn_is_what_the_template_writes_behind_an_answer(template, end, folder):
    assert turn_end(of_template(folder, template)) == end


def test_stops_without_the_end_of_a_turn_are_refused(folder):
    speaker = of_template(folder, SPLIT)
    check_turn_end(speaker, [1, 106])
    with pytest.raises(GemmaError, match=r"ends a turn with the token 106 <turn\|>.*answers end only at 1 <eos>"):
        check_turn_end(speaker, [1])


def exported(folder: Path, tmp_path: Path) -> dict[str, Any]:
    export_bundle(folder, tmp_path / "x.bundle", ["onnx"], RECIPES["int8"])
    values: dict[str, Any] = json.loads((tmp_path / "x.bundle" / "parity.json").read_text())["rehearsal"]
    return values


@pytest.mark.slow
def test_an_export_is_rehearsed_and_says_so(folder, tmp_path):
    rehearsal = exported(folder, tmp_path)
    assert set(json.loads(rehearsal["structured"])) == {"city", "people"}
    assert rehearsal["call"].startswith('visit {"city": ')
    assert rehearsal["stop"]["<turn|>"] == 106


@pytest.mark.slow
def test_a_base_model_is_not_asked_what_it_can_not_do(folder, tmp_path):
    (folder / "chat_template.jinja").unlink()
    rehearsal = exported(folder, tmp_path)
    assert rehearsal["forms"] == {}
    assert "no chat template" in rehearsal["structured"]


def refused(folder: Path, tmp_path: Path, message: str) -> None:
    with pytest.raises(GemmaError, match=message):
        export_bundle(folder, tmp_path / "x.bundle", ["onnx"], RECIPES["int8"])
    assert not (tmp_path / "x.bundle").exists()


@pytest.mark.slow
def test_a_template_that_drops_system_messages_fails_the_export(folder, tmp_path):
    (folder / "chat_template.jinja").write_text(TEMPLATES["without system messages"])
    refused(folder, tmp_path, "'system' is rendered without")


@pytest.mark.slow
def test_stops_that_lack_the_end_of_a_turn_fail_the_export(folder, tmp_path):
    """The template ends turns with a token that no file names as an end."""
    template = (folder / "chat_template.jinja").read_text()
    (folder / "chat_template.jinja").write_text(template.replace("<turn|>", "<unused7>"))
    refused(folder, tmp_path, "ends a turn with the token 7 <unused7>")


@pytest.mark.slow
def test_one_wrong_character_in_the_grammar_of_calls_fails_the_export(folder, tmp_path, monkeypatch):
    right = call_grammar.call_grammar
    monkeypatch.setattr(structured, "call_grammar", lambda *given: right(*given).replace('"call:"', '"cell:"', 1))
    refused(folder, tmp_path, "can not be used")


@pytest.mark.slow
def test_one_wrong_character_in_the_grammar_of_json_fails_the_export(folder, tmp_path, monkeypatch):
    right = structured.Grammars.compiled

    def wrong(self, asked):
        grammar = right(self, asked)
        assert '"people"' in grammar
        return grammar.replace('"people"', '"peopla"')

    monkeypatch.setattr(structured.Grammars, "compiled", wrong)
    refused(folder, tmp_path, "does not have the form")
