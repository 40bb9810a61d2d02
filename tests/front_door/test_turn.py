"""Rounds of calls, and what ends them early; some models here are scripts, for the sample asks only once."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from gemma_edge import ContextFull, End, Model, RequestError, Session, Text, ToolCall, ToolResult

NORWAY = "What is the capital of Norway?"


def end(stop: str = "stop", tokens: int = 1, thoughts: int = 0) -> End:
    return End(stop, 10, 0, tokens, 0.1, 1.0, 1.0, thoughts)


class Script:
    """A conversation of the runtime that says what is written down, a list of events for each round."""

    def __init__(self, *rounds: list[Any]) -> None:
        self.rounds, self.asked, self.cancelled = list(rounds), [], False

    def chat(self, messages: Any, options: Any) -> Iterator[Any]:
        self.asked.append((messages, options))
        self.cancelled = False
        return self.events(self.rounds.pop(0))

    def events(self, events: list[Any]) -> Iterator[Any]:
        for event in events:
            if self.cancelled:
                yield end("cancelled")
                return
            yield event

    def cancel(self) -> None:
        self.cancelled = True


def call(number: int = 1, **arguments: Any) -> ToolCall:
    return ToolCall(f"call_{number}", "look", arguments)


def look(**places: Any) -> str:
    """Look"""
    return "seen"


CALLING = [call(), end("tool_calls", 5)]
SAYING = [Text("Done."), end("stop", 3)]


@pytest.fixture(scope="module")
def model(bundle):
    with Model.open(bundle("sample", "int4-datafree"), context=1024, threads=1) as opened:
        yield opened


@pytest.fixture
def chat(model):
    with model.session() as session:
        yield session


def lookup_that(act):
    def lookup(country: str, field: str) -> object:
        """Look up a fact about a country"""
        return act()

    return lookup


# ---- rounds ----


@pytest.mark.parametrize(("rounds", "said"), [(1, "after 1 round\n"), (2, "after 2 rounds\n")])
def test_a_model_that_calls_on_is_stopped_before_the_tools_run(rounds, said):
    runs = []

    def look() -> str:
        runs.append(1)
        return "seen"

    chat = Session(Script(*[CALLING] * (rounds + 1)))
    with pytest.raises(RequestError, match=said):
        chat.ask("Look!", tools=[look], rounds=rounds)
    assert len(runs) == rounds
    assert chat.messages == []


@pytest.mark.parametrize("rounds", [1, 2])
def test_after_its_rounds_the_model_answers(rounds):
    chat = Session(Script(*[CALLING] * rounds, SAYING))
    assert chat.ask("Look!", tools=[look], rounds=rounds) == "Done."


def test_the_sample_answers_after_one_round(chat):
    assert chat.ask(NORWAY, tools=[lookup_that(lambda: "Oslo")], temperature=0, rounds=1).endswith("Oslo.")


def test_the_limit_of_tokens_is_that_of_the_turn():
    script = Script(CALLING, [Text("Do"), end("length", 2, 1)])
    *_, last = Session(script).say("Look!", tools=[look], max_new_tokens=7)
    assert script.asked[1][1].max_new_tokens == 2
    assert (last.stop, last.new_tokens, last.thought_tokens) == ("length", 7, 1)


def test_no_tool_runs_when_no_tokens_are_left():
    script = Script(CALLING)
    _, result, last = Session(script).say("Look!", tools=[look], max_new_tokens=5)
    assert result.content == {"error": "the call was not made, because the answer has no tokens left"}
    assert last.stop == "length"


# ---- cancel ----


def test_a_cancel_at_a_result_ends_the_turn(chat):
    events = []
    for event in chat.say(NORWAY, tools=[lookup_that(lambda: "Oslo")], temperature=0):
        events.append(event)
        if isinstance(event, ToolResult):
            chat.cancel()
    assert [type(event) for event in events] == [ToolCall, ToolResult, End]
    assert events[-1].stop == "cancelled"
    assert chat.ask(NORWAY, temperature=0).endswith("Oslo.")  # the next turn is not cancelled


def test_a_cancel_inside_a_tool_ends_the_turn(chat):
    answer = chat.say(NORWAY, tools=[lookup_that(chat.cancel)], temperature=0)
    assert [type(event) for event in answer] == [ToolCall, ToolResult, End]
    assert answer.end.stop == "cancelled"


def test_a_cancel_while_a_tool_runs_ends_the_turn(chat):
    timer = threading.Timer(0.1, chat.cancel)
    answer = chat.say(NORWAY, tools=[lookup_that(timer.join)], temperature=0)
    assert isinstance(next(answer), ToolCall)
    timer.start()
    assert [type(event) for event in answer] == [ToolResult, End]
    assert answer.end.stop == "cancelled"


def test_a_cancel_while_the_next_round_begins_is_not_forgotten():
    class Slow(Script):
        def chat(self, messages: Any, options: Any) -> Iterator[Any]:
            if self.asked:
                chat.cancel()
            return super().chat(messages, options)

    script = Slow(CALLING, SAYING)
    chat = Session(script)
    answer = chat.say("Look!", tools=[look])
    assert answer.text() == ""
    assert answer.end.stop == "cancelled"


def test_calls_that_were_not_made_have_results():
    runs = []
    chat = Session(Script([call(1), call(2), call(3), end("tool_calls")], SAYING))

    def look() -> str:
        runs.append(1)
        chat.cancel()
        return "seen"

    assert chat.ask("Look!", tools=[look]) == ""
    assert len(runs) == 1
    roles = [message["role"] for message in chat.messages]
    assert roles == ["user", "assistant", "tool", "tool", "tool"]
    assert chat.messages[2]["content"] == "seen"
    assert chat.messages[3]["content"] == {"error": "the call was not made, because the answer was cancelled"}


def test_the_history_of_a_turn_cancelled_at_its_call_can_be_asked_on(chat):
    for event in chat.say(NORWAY, tools=[lookup_that(lambda: "Oslo")], temperature=0):
        if isinstance(event, ToolCall):
            chat.cancel()
    calls = [call["id"] for message in chat.messages for call in message.get("tool_calls", ())]
    answers = [message["tool_call_id"] for message in chat.messages if message["role"] == "tool"]
    assert calls == answers == ["call_1"]
    assert chat.ask(NORWAY, temperature=0)


def test_a_cancelled_question_returns_what_was_said(chat):
    answer = chat.say(NORWAY, temperature=0)
    first = next(answer).text
    chat.cancel()
    assert answer.text().startswith(first)
    assert answer.end.stop == "cancelled"


def test_a_turn_behind_which_another_began_does_not_go_on():
    chat = Session(Script(CALLING, SAYING, SAYING))
    answer = chat.say("Look!", tools=[look])
    assert isinstance(next(answer), ToolCall)
    assert chat.ask("Well?") == "Done."
    with pytest.raises(RequestError, match="ended when another began"):
        answer.text()
    assert [message["content"] for message in chat.messages] == ["Well?", "Done."]


def test_a_cancelled_turn_behind_which_another_began_is_not_kept():
    chat = Session(Script(CALLING, SAYING))

    def look() -> str:
        chat.cancel()
        return chat.ask("Well?")

    assert chat.say("Look!", tools=[look]).text() == ""
    assert [message["content"] for message in chat.messages] == ["Well?", "Done."]


# ---- asyncio ----


@pytest.mark.parametrize("wait", [0.05, 0.3])
def test_after_a_timeout_the_next_question_is_answered(chat, wait):
    slow = lookup_that(lambda: time.sleep(0.6))

    async def ask() -> str:
        answer = chat.say(NORWAY, tools=[slow], temperature=0)

        async def read() -> None:
            async for _ in answer:
                pass

        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(read(), wait)
        with pytest.raises(RequestError, match="was given up when its task was cancelled"):
            await anext(answer)
        with pytest.raises(RequestError, match="was given up when its task was cancelled"):
            next(answer)
        return "".join([event.text async for event in chat.say(NORWAY, temperature=0) if isinstance(event, Text)])

    assert asyncio.run(ask()) == "The capital of Norway is Oslo."
    assert len(chat.messages) == 2


def test_a_second_cancel_waits_for_the_thread_too(chat):
    done = []
    slow = lookup_that(lambda: (time.sleep(0.5), done.append(1)))

    async def ask() -> None:
        answer = chat.say(NORWAY, tools=[slow], temperature=0)
        await anext(answer)
        reading = asyncio.create_task(anext(answer))
        for _ in range(2):
            await asyncio.sleep(0.1)
            reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        assert done == [1]

    asyncio.run(ask())


def test_two_readers_of_an_answer_are_one_too_many(chat):
    async def ask() -> list[Any]:
        answer = chat.say(NORWAY, tools=[lookup_that(lambda: time.sleep(0.3))], temperature=0)
        await anext(answer)
        return await asyncio.gather(anext(answer), anext(answer), return_exceptions=True)

    results = asyncio.run(ask())
    assert sorted(type(result).__name__ for result in results) == ["RequestError", "ToolResult"]


# ---- results ----


class Mute(Exception):
    def __str__(self) -> str:
        raise ValueError


def raising(error: Exception):
    def act() -> None:
        raise error

    return act


@pytest.mark.parametrize(
    ("act", "told"),
    [
        (lambda: "a\ud800", "RequestError: what the function returned: '\\ud800' is half of a character"),
        (lambda: {"b": ["\udc00"]}, "RequestError: what the function returned: '\\udc00' is half of a character"),
        (raising(ValueError("\ud800")), "ValueError: \\ud800"),
        (raising(Mute()), "Mute: it has no text, for its __str__ raised ValueError"),
    ],
)
def test_what_can_not_be_told_is_told_in_words(chat, act, told):
    events = list(chat.say(NORWAY, tools=[lookup_that(act)], temperature=0, max_new_tokens=40))
    assert events[1].content["error"].startswith(told)
    assert isinstance(events[-1], End)


def test_a_tool_that_changes_its_argument_does_not_change_history():
    def look(places: list[str]) -> list[str]:
        places.append("Lima")
        return places

    chat = Session(Script([call(places=["Oslo"]), end("tool_calls")], SAYING))
    for event in chat.say("Look!", tools=[look]):
        if isinstance(event, ToolCall):
            event.arguments["places"].append("Rome")
        if isinstance(event, ToolResult):
            event.content["result"].append("Paris")
    assert chat.messages[1]["tool_calls"][0]["function"]["arguments"] == {"places": ["Oslo"]}
    assert chat.messages[2]["content"] == {"result": ["Oslo", "Lima"]}


def test_a_result_that_is_too_long_is_named(chat):
    with pytest.raises(ContextFull, match="the result of lookup is too long: .* the context is 1024"):
        chat.ask(NORWAY, tools=[lookup_that(lambda: "Oslo " * 2000)], temperature=0)
    assert chat.messages == []
