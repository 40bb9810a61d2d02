"""Vocabularies beside Gemma 4's: one token more than the model has rows, and FunctionGemma's control tokens."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from runtime.language.events import Text, ToolCall, assistant_message, tool_message
from runtime.session.model import Model
from runtime.session.options import Options
from runtime.session.structured import Choice, JsonSchema, Regex
from tests.hostile import reseal

ASKED = [{"role": "user", "content": "What is the capital of Norway?"}]
DRAWN = {"temperature": 1.5, "top_k": 0, "top_p": 1.0}
STRINGS = {"type": "object", "properties": {"country": {"type": "string"}, "field": {"type": "string"}}}
LOOKUP = {
    "name": "lookup",
    "description": "Look up a fact",
    "parameters": {**STRINGS, "required": ["country", "field"]},
}
FUNCTION_GEMMA = {
    "<|tool_call>": "<start_function_call>",
    "<tool_call|>": "<end_function_call>",
    "<|tool_response>": "<start_function_response>",
    "<tool_response|>": "<end_function_response>",
    '<|"|>': "<escape>",
    "<|turn>": "<start_of_turn>",
    "<turn|>": "<end_of_turn>",
}
IMAGE = {"content": "<image_soft_token>", "special": True}
IMAGE |= dict.fromkeys(["single_word", "lstrip", "rstrip", "normalized"], False)


def changed(source: Path, folder: Path, change: Callable[[Path], None]) -> Path:
    """A copy of a bundle whose files were changed."""
    shutil.copytree(source, folder)
    change(folder)
    reseal(folder)
    return folder


def one_token_more(folder: Path) -> None:
    tokenizer = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    tokenizer["added_tokens"].append({"id": len(tokenizer["model"]["vocab"]), **IMAGE})
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")


def named_as_function_gemma(folder: Path) -> None:
    tokenizer = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    for token in tokenizer["added_tokens"]:
        token["content"] = FUNCTION_GEMMA.get(token["content"], token["content"])
    words = tokenizer["model"]["vocab"]
    tokenizer["model"]["vocab"] = {FUNCTION_GEMMA.get(word, word): id for word, id in words.items()}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    template = (folder / "chat_template.jinja").read_text(encoding="utf-8")
    for name, other in FUNCTION_GEMMA.items():
        template = template.replace(name, other)
    (folder / "chat_template.jinja").write_text(template, encoding="utf-8")


@pytest.fixture(scope="module")
def larger(bundle, tmp_path_factory):
    folder = tmp_path_factory.mktemp("larger") / "larger.bundle"
    return Model.open(changed(bundle("sample", "int4-datafree"), folder, one_token_more), threads=1).session()


@pytest.fixture(scope="module")
def function_gemma(bundle, tmp_path_factory):
    folder = tmp_path_factory.mktemp("function") / "function.bundle"
    return Model.open(changed(bundle("sample", "int4-datafree"), folder, named_as_function_gemma), threads=1).session()


def test_a_plain_token_beyond_the_model_is_not_allowed_either(bundle, tmp_path):
    def add_a_word(folder: Path) -> None:
        one_token_more(folder)
        path = folder / "tokenizer.json"
        text = path.read_text(encoding="utf-8").replace("<image_soft_token>", "Oslo!")
        tokenizer = json.loads(text)
        tokenizer["added_tokens"][-1]["special"] = False
        path.write_text(json.dumps(tokenizer), encoding="utf-8")

    session = Model.open(
        changed(bundle("sample", "int4-datafree"), tmp_path / "word.bundle", add_a_word), threads=1
    ).session()
    vocab = session.manifest.model.vocab_size
    assert session.tokenizer.pieces.token_to_id("Oslo!") == vocab
    assert session.grammars.response(Choice(["Oslo!"])).allowed().max() < vocab
    assert text_of(answer(session, response_format=Choice(["Oslo!"]))) == "Oslo!"


def answer(session, limit=60, messages=ASKED, **options):
    return list(session.chat(messages, Options(**{"temperature": 0, "max_new_tokens": limit} | options)))


def text_of(events):
    return "".join(event.text for event in events if isinstance(event, Text))


@pytest.mark.parametrize(
    "form",
    [
        JsonSchema({"type": "object", "properties": {"a": {"type": "string", "maxLength": 4}}, "required": ["a"]}),
        Regex("[A-Z][a-z]{2,5}"),
        Choice(["Oslo", "Lima"]),
    ],
)
@pytest.mark.parametrize("seed", range(3))
def test_a_token_that_the_model_has_no_row_for_is_never_allowed(larger, form, seed):
    vocab = larger.manifest.model.vocab_size
    assert larger.tokenizer.pieces.token_to_id("<image_soft_token>") == vocab
    matcher = larger.grammars.response(form)
    assert matcher.allowed().max() < vocab
    *_, end = answer(larger, 30, response_format=form, **DRAWN, seed=seed)
    assert end.stop in ("stop", "length")


def test_the_text_of_that_token_is_written_as_text(larger):
    events = answer(larger, response_format=Choice(["<image_soft_token>"]))
    assert text_of(events) == "<image_soft_token>"


@pytest.mark.parametrize("form", [Choice(["<eos>"]), Regex("<turn\\|>"), JsonSchema({"const": "<|tool_call>"})])
def test_a_form_with_a_control_tokens_name_is_answered_in_text(larger, form):
    events = answer(larger, response_format=form)
    assert text_of(events).strip('"') in ("<eos>", "<turn|>", "<|tool_call>")


def test_calls_are_constrained_with_that_tokenizer(larger):
    call, _ = answer(larger, tools=[LOOKUP], tool_choice="required")
    assert (call.name, call.problem) == ("lookup", "")


def test_function_gemma_calls_in_its_own_tokens(function_gemma):
    control, pieces = function_gemma.control, function_gemma.tokenizer.pieces
    assert control.can_call
    assert control.quote == pieces.token_to_id("<escape>")
    call, end = answer(function_gemma, tools=[LOOKUP])
    assert call == ToolCall("call_1", "lookup", {"country": "Norway", "field": "capital"})
    assert end.stop == "tool_calls"
    said = pieces.decode(function_gemma.ids, skip_special_tokens=False)
    assert "<start_function_call>call:lookup{country:<escape>Norway<escape>,field:<escape>capital<escape>}" in said
    turns = [*ASKED, assistant_message([call]), tool_message(call, "Oslo")]
    assert text_of(answer(function_gemma, messages=turns, tools=[LOOKUP]))


@pytest.mark.parametrize("seed", range(3))
def test_function_gemmas_calls_are_held_to_their_schemas(function_gemma, seed):
    schema = {
        "type": "object",
        "properties": {"zone": {"enum": ["UTC", '<|"|>']}, "n": {"type": "integer", "maximum": 9}},
    }
    tool = {"name": "get_time", "parameters": {**schema, "required": ["zone"]}, "strict": True}
    call, _ = answer(function_gemma, **DRAWN, seed=seed, tools=[tool], tool_choice="get_time")
    assert (call.name, call.problem) == ("get_time", "")
    assert call.arguments["zone"] in ("UTC", '<|"|>')
