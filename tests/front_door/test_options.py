"""What an answer can not be asked for with is one sentence that names it and shows it."""

from __future__ import annotations

import pytest

from gemma_edge import Choice, JsonSchema, Model, Regex, RequestError

QUESTION = "What is the capital of Norway?"


@pytest.fixture(scope="module")
def model(bundle):
    with Model.open(bundle("sample", "int4-datafree"), context=256, threads=1) as opened:
        yield opened


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("temperature", "hot", "a number from 0 up"),
        ("temperature", True, "a number from 0 up"),
        ("top_k", 1.5, "a whole number from 0 up"),
        ("top_k", "3", "a whole number from 0 up"),
        ("top_p", "1", "a number above 0 and at most 1"),
        ("seed", 1.5, "a whole number"),
        ("max_new_tokens", "5", "a whole number from 1 up"),
        ("max_new_tokens", 1.5, "a whole number from 1 up"),
        ("rounds", "3", "a whole number from 1 up"),
        ("rounds", True, "a whole number from 1 up"),
        ("thinking", "yes", "True or False"),
        ("thinking_budget", "x", "a whole number from 0 up"),
        ("constrain_calls", 1, "True or False"),
        ("response_format", "yes", "a Choice, a JsonSchema or a Regex"),
        ("response_format", {"type": "json"}, "a Choice, a JsonSchema or a Regex"),
        ("tool_choice", 5, 'the name of a tool, "auto", "none" or "required"'),
    ],
)
def test_a_value_of_another_type(model, name, value, allowed):
    with pytest.raises(RequestError) as refused:
        model.ask(QUESTION, **{name: value})
    assert refused.value.message == f"{name} must be {allowed}, not {value!r}"


@pytest.mark.parametrize("stop", [5, None, [5], "a", b"a", [""]])
def test_stop_texts_are_a_list_of_texts(model, stop):
    with pytest.raises(RequestError) as refused:
        model.ask(QUESTION, stop=stop)
    assert refused.value.message == f"stop texts must be a list of texts, none empty, not {stop!r}"


@pytest.mark.parametrize(
    ("form", "value", "said"),
    [
        (Choice, 5, "a Choice takes a list of texts, not 5"),
        (Choice, "yes", "a Choice takes a list of texts, not 'yes'"),
        (Choice, [1, 2], r"a Choice takes a list of texts, not \[1, 2\]"),
        (Choice, [], "the choices .* are empty"),
        (Choice, ["a", ""], "the choices .* are empty"),
        (Regex, 5, "a Regex takes a text, not 5"),
        (JsonSchema, "x", "a JsonSchema takes a dict, not 'x'"),
    ],
)
def test_forms_that_are_none(form, value, said):
    with pytest.raises(RequestError, match=said):
        form(value)


def test_a_pattern_that_is_none(model):
    with pytest.raises(RequestError) as refused:
        model.ask(QUESTION, response_format=Regex("("))
    assert refused.value.message == "the pattern '(': unclosed group"


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("temprature", "did you mean temperature?"),
        ("max_tokens", "did you mean max_new_tokens?"),
        ("qq", "there are tem"),
    ],
)
def test_an_option_that_there_is_not(model, name, hint):
    with pytest.raises(RequestError, match=f"there is no option '{name}'") as refused:
        model.ask(QUESTION, **{name: 1})
    assert refused.value.hint.startswith(hint)


def test_a_question_is_text(model):
    with pytest.raises(RequestError, match="the content must be text, not b'hi'"):
        model.ask(b"hi")


def test_a_call_is_asked_for_without_tools(model):
    with pytest.raises(RequestError, match='tool_choice "required" asks for a call, but there are no tools'):
        model.ask(QUESTION, tool_choice="required")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"threads": 1025}, "threads must be at most 1024, not 1025"),
        ({"threads": -1}, "threads must be 0 or more, not -1"),
        ({"threads": "2"}, "threads must be 0 or more, not '2'"),
        ({"threads": True}, "threads must be 0 or more, not True"),
        ({"context": "x"}, "the context must be 0 or more tokens, not 'x'"),
        ({"context": None}, "the context must be 0 or more tokens, not None"),
        ({"context": float("nan")}, "the context must be 0 or more tokens, not nan"),
        ({"context": 1.5}, "the context must be 0 or more tokens, not 1.5"),
        ({"context": True}, "the context must be 0 or more tokens, not True"),
        ({"engine": 5}, "there is no engine 5"),
        ({"engine": ["onnx"]}, "there is no engine"),
        ({"path": b"a"}, "the path must be a text or a Path, not b'a'"),
        ({"path": 5}, "the path must be a text or a Path, not 5"),
        ({"path": "a" * 5000}, "the path 'aaa.* can not be opened"),
    ],
)
def test_what_a_bundle_can_not_be_opened_with(bundle, words, said):
    with pytest.raises(RequestError, match=said):
        Model.open(**{"path": bundle("sample", "int4-datafree"), "context": 64, **words})


def test_a_closed_session_says_so(model):
    chat = model.session()
    chat.close()
    with pytest.raises(RequestError, match="the session is closed"):
        chat.ask(QUESTION)
    assert model.ask(QUESTION, max_new_tokens=1)
