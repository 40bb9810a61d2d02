"""Turns of a conversation: kept whole or not at all, with Python functions that the model calls."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, fields

import pytest

from gemma_edge import (
    Choice,
    ContextFull,
    End,
    GemmaError,
    Model,
    NotInstalled,
    Options,
    RequestError,
    Session,
    Text,
    ToolCall,
    ToolResult,
    export_bundle,
)
from runtime.session.options import Options as Asked

NORWAY, PERU = "What is the capital of Norway?", "What is the capital of Peru?"
OSLO = "The capital of Norway is Oslo."


def lookup(country: str, field: str) -> object:
    """Look up a fact about a country

    Args:
        country: Name of the country
        field: Name of the fact
    """
    return {"Norway": "Oslo", "Peru": "Lima"}[country]


@pytest.fixture(scope="module")
def model(bundle):
    with Model.open(str(bundle("sample", "int4-datafree")), context=1024, threads=1) as opened:
        yield opened


@pytest.fixture
def chat(model):
    with model.session() as session:
        yield session


def test_a_question(model):
    assert model.ask(NORWAY, temperature=0) == OSLO
    assert model.context == 1024


def test_a_conversation_goes_on(chat):
    assert chat.ask(NORWAY, temperature=0) == OSLO
    assert chat.ask(PERU, temperature=0) == "The capital of Peru is Lima."
    assert [message["role"] for message in chat.messages] == ["user", "assistant"] * 2
    assert chat.messages[1]["content"] == OSLO


def test_the_system_comes_first(model):
    with model.session(system="Be brief.") as chat:
        chat.ask(NORWAY, temperature=0, max_new_tokens=2)
        assert chat.messages[0] == {"role": "system", "content": "Be brief."}
        chat.reset()
        assert chat.messages == [{"role": "system", "content": "Be brief."}]


def test_a_function_is_called_and_the_answer_uses_it(chat):
    *events, end = chat.say(NORWAY, tools=[lookup], temperature=0)
    call, result, *texts = events
    assert isinstance(call, ToolCall)
    assert result == ToolResult(call, "Oslo")
    assert "".join(text.text for text in texts) == OSLO
    assert isinstance(end, End)
    assert end.stop == "stop"
    assert [message["role"] for message in chat.messages] == ["user", "assistant", "tool", "assistant"]
    assert chat.messages[2]["content"] == "Oslo"


@pytest.mark.parametrize("result", [{"name": "Oslo"}, ["Oslo"], 7, None])
def test_what_a_function_returns_is_told_as_json(chat, result):
    def lookup(country: str, field: str) -> object:
        """Look up a fact about a country"""
        return result

    told = list(chat.say(NORWAY, tools=[lookup], temperature=0, max_new_tokens=40))[1]
    assert isinstance(told, ToolResult)
    assert told.content == (result if isinstance(result, dict) else {"result": result})


def test_a_dataclass_is_told_by_its_fields(chat):
    @dataclass
    class City:
        name: str

    def lookup(country: str, field: str) -> object:
        """Look up a fact about a country"""
        return City("Oslo")

    told = list(chat.say(NORWAY, tools=[lookup], temperature=0, max_new_tokens=40))[1]
    assert told.content == {"name": "Oslo"}


@pytest.mark.parametrize("broken", [KeyError("Norway"), TypeError("no"), ValueError("down")])
def test_what_a_function_raises_is_told_and_kept(chat, broken):
    def lookup(country: str, field: str) -> object:
        """Look up a fact about a country"""
        raise broken

    events = list(chat.say(NORWAY, tools=[lookup], temperature=0, max_new_tokens=40))
    told = next(event for event in events if isinstance(event, ToolResult))
    assert told.error is broken
    assert told.content == {"error": f"{type(broken).__name__}: {broken}"}
    assert chat.messages[2]["content"] == told.content


def test_what_json_does_not_have_is_an_error_of_the_function(chat):
    def lookup(country: str, field: str) -> object:
        """Look up a fact about a country"""
        return object()

    told = next(
        e for e in chat.say(NORWAY, tools=[lookup], temperature=0, max_new_tokens=40) if isinstance(e, ToolResult)
    )
    assert isinstance(told.error, TypeError)


def test_a_stop_from_the_keyboard_is_nobodys_result(chat):
    def lookup(country: str, field: str) -> object:
        """Look up a fact about a country"""
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(chat.say(NORWAY, tools=[lookup], temperature=0))
    assert chat.messages == []


def test_a_call_that_is_asked_for_is_made_once(chat):
    events = list(chat.say("Hello!", tools=[lookup], tool_choice="required", temperature=0, max_new_tokens=60))
    assert [event for event in events if isinstance(event, ToolCall)][0].name == "lookup"
    assert isinstance(events[-1], End)


def test_a_turn_that_is_given_up_is_no_part(chat):
    answer = chat.say(NORWAY, temperature=0)
    assert isinstance(next(answer), Text)
    assert chat.messages == []
    assert chat.ask(PERU, temperature=0) == "The capital of Peru is Lima."
    with pytest.raises(RequestError, match="ended when another began"):
        next(answer)
    assert len(chat.messages) == 2


def test_a_turn_that_is_cancelled_keeps_what_was_said(chat):
    answer = chat.say(NORWAY, temperature=0)
    first = next(answer)
    chat.cancel()
    said = first.text + "".join(event.text for event in answer if isinstance(event, Text))
    assert answer.end.stop == "cancelled"
    assert chat.messages[1]["content"] == said
    assert OSLO.startswith(said)


def test_all_of_the_text_after_some_events(chat):
    answer = chat.say(NORWAY, temperature=0)
    next(answer)
    before = answer.end
    assert before is None
    assert answer.text() == OSLO
    assert answer.text() == OSLO
    assert answer.end.stop == "stop"


def test_async_iteration(chat):
    async def ask() -> str:
        said, ticks = "", 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0)

        ticking = asyncio.create_task(tick())
        async for event in chat.say(NORWAY, tools=[lookup], temperature=0):
            said += event.text if isinstance(event, Text) else ""
        ticking.cancel()
        assert ticks > 10  # others ran meanwhile
        return said

    assert asyncio.run(ask()) == OSLO
    assert len(chat.messages) == 4


def test_a_task_that_is_cancelled_ends_the_answer(chat: Session):
    async def ask() -> End | None:
        answer, begun = chat.say(NORWAY, temperature=0), asyncio.Event()

        async def read() -> None:
            async for _ in answer:
                begun.set()

        reading = asyncio.create_task(read())
        await begun.wait()
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        return answer.end

    assert asyncio.run(ask()) is None
    assert chat.messages == []
    assert chat.ask(NORWAY, temperature=0) == OSLO


def test_a_form(chat):
    assert chat.ask(NORWAY, response_format=Choice(["Oslo", "Lima"]), temperature=0) in ("Oslo", "Lima")


def test_a_stop_text(chat):
    answer = chat.say(NORWAY, stop=[" of"], temperature=0)
    assert answer.text() == "The capital"
    assert answer.end.stop == "stop"


def test_options_are_those_of_the_runtime():
    """All but the tools, which `say` takes, and what servers alone need."""
    names = {field.name for field in fields(Asked)} - {"tools", "one_call"}
    assert set(Options.__annotations__) == names


def test_a_seed_draws_the_same_twice(model):
    options: Options = {"seed": 3, "temperature": 2.0, "top_k": 0, "max_new_tokens": 8}
    first, again = model.ask("Hello!", **options), model.ask("Hello!", **options)
    assert first == again
    assert first != model.ask("Hello!", **{**options, "seed": 4})


@pytest.mark.parametrize(
    ("words", "error", "said"),
    [
        ({"tools": ["lookup"]}, RequestError, "not a function"),
        ({"tools": "lookup"}, RequestError, "not a list"),
        ({"tools": [lookup, lookup]}, RequestError, "two tools"),
        ({"rounds": 0}, RequestError, "rounds must be .* not 0"),
        ({"temperature": -1.0}, RequestError, "temperature"),
        ({"tool_choice": "fly"}, RequestError, "fly"),
        ({"temprature": 0}, RequestError, "temprature'\nhint: did you mean temperature"),
    ],
)
def test_what_can_not_be_asked_is_refused_at_once(chat, words, error, said):
    with pytest.raises(error, match=said):
        chat.say(NORWAY, **words)
    assert chat.messages == []


def test_an_asynchronous_function_is_refused(chat):
    async def later(x: str) -> str:
        """Later"""
        return x

    with pytest.raises(RequestError, match="later is asynchronous"):
        chat.say(NORWAY, tools=[later])


def test_a_question_over_the_context(chat):
    with pytest.raises(ContextFull):
        chat.say("Norway " * 2000)


def test_a_closed_model_answers_nothing(bundle):
    model = Model.open(bundle("sample", "int4-datafree"), context=64, threads=1)
    chat = model.session()
    model.close()
    with pytest.raises(GemmaError, match="closed"):
        chat.say(NORWAY)
    with pytest.raises(GemmaError, match="closed"):
        model.session()


def test_a_bundle_needs_the_extra(monkeypatch, tmp_path):
    import sys

    for name in [name for name in sys.modules if name.partition(".")[0] == "export"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(NotInstalled, match="export_bundle needs the package torch"):
        export_bundle(tmp_path, tmp_path / "x.bundle")
