"""Conversation: streaming, stop ids, cancel, limits, turns without re-reading."""

from __future__ import annotations

import threading
import time
from typing import Any

import msgspec
import pytest

from runtime.bundle.bundle import Bundle
from runtime.engine.cache import TURNS, CacheState
from runtime.engine.piece import Piece
from runtime.engine.sampler import Sampling
from runtime.errors import ContextFull, GemmaError
from runtime.language.events import End, Token, assistant_message
from runtime.session.model import Model
from runtime.session.options import Options
from runtime.session.session import Session
from tests.paced import paced

GREEDY = Sampling(temperature=0)
BRIEF = Options(temperature=0, max_new_tokens=20)
PROMPT = [2, 105, 200, 210, 220, 106]


@pytest.fixture(scope="module")
def folder(bundle):
    return bundle("e2b")


@pytest.fixture
def session(folder):
    return Model.open(folder, threads=1).session()


def answer(
    session: Session, prompt: list[int], sampling: Sampling = GREEDY, limit: int | None = 20
) -> tuple[list[int], End]:
    *tokens, end = session.generate(prompt, sampling, limit)
    assert isinstance(end, End)
    return [token.id for token in tokens if isinstance(token, Token)], end


def test_tokens_stream_one_by_one(session):
    events = session.generate(PROMPT, GREEDY, 5)
    first = next(events)
    assert isinstance(first, Token)
    assert session.engine.position == len(PROMPT)
    assert [type(event) for event in events] == [Token] * 4 + [End]


def test_limit_is_named_as_the_reason(session):
    ids, end = answer(session, PROMPT, limit=7)
    assert (len(ids), end.stop, end.new_tokens, end.prompt_tokens) == (7, "length", 7, 6)


def test_a_stop_id_ends_and_is_not_streamed(session):
    ids, _ = answer(session, PROMPT)
    generation = msgspec.structs.replace(session.manifest.generation, stop=[ids[4]])
    manifest = msgspec.structs.replace(session.manifest, generation=generation)
    other = Model(Bundle(session.bundle.folder, manifest), weights=session.model.weights).session()
    again, end = answer(other, PROMPT)
    assert again == ids[: ids.index(ids[4])]
    assert end.stop == "stop"


def test_same_seed_same_tokens_other_seed_others(folder):
    def draw(seed: int) -> list[int]:
        return answer(Model.open(folder, threads=1).session(), PROMPT, Sampling(1.5, seed=seed))[0]

    assert draw(1) == draw(1)
    assert draw(1) != draw(2)


def test_a_second_turn_reads_only_what_is_new(session, folder):
    ids, _ = answer(session, PROMPT)
    longer = [*PROMPT, *ids, 106, 105, 201, 106]
    again, end = answer(session, longer)
    assert end.reused == len(PROMPT) + len(ids) - 1
    fresh, _ = answer(Model.open(folder, threads=1).session(), longer)
    assert again == fresh


def test_another_prompt_is_read_from_where_it_differs(session, folder):
    answer(session, [*PROMPT, 1, 2, 3, 4])
    changed = [*PROMPT, 1, 2, 30, 40]
    again, end = answer(session, changed)
    assert end.reused == len(PROMPT) + 2
    assert again == answer(Model.open(folder, threads=1).session(), changed)[0]


LONG = [2, *range(110, 170)]  # longer than the window, so that its end can not go back to its beginning


def test_a_prompt_that_the_window_forgot_is_read_again(session, folder):
    answer(session, LONG, limit=150)
    session.cache.ends.clear()
    again, end = answer(session, [2, 9, 8, 7])
    assert end.reused == 0
    assert again == answer(Model.open(folder, threads=1).session(), [2, 9, 8, 7])[0]


def test_a_turns_end_is_come_back_to_when_the_window_has_moved_on(session, folder):
    answer(session, LONG, limit=150)
    other = [*LONG, 180, 181]
    again, end = answer(session, other)
    assert end.reused == len(LONG)
    assert again == answer(Model.open(folder, threads=1).session(), other)[0]
    again, end = answer(session, [*LONG[:-2], 190, 191])
    assert end.reused == len(LONG) - 2, "the window of a turn's end holds a little more than it needs"
    assert again == answer(Model.open(folder, threads=1).session(), [*LONG[:-2], 190, 191])[0]


def test_the_first_and_the_last_ends_of_turns_are_kept(session, folder):
    turns = [[*LONG, *range(175, 175 + 12 * count)] for count in range(8)]
    for prompt in turns:
        answer(session, prompt, limit=90)
    answer(session, [*LONG, 9], limit=90)
    kept = [state.position for state in session.cache.ends]
    assert len(kept) <= TURNS
    assert kept == sorted(kept)
    again, end = answer(session, turns[-1], limit=20)
    assert again == answer(Model.open(folder, threads=1).session(), turns[-1], limit=20)[0]


@pytest.mark.slow
def test_a_hundred_turns_answer_as_fresh_sessions_do_and_hold_no_more_memory(bundle):
    folder = bundle("sample", "int4-datafree")
    session, fresh = Model.open(folder, threads=1).session(), Model.open(folder, threads=1).session()
    countries, held = ["Norway", "Peru", "Kenya", "Chad"], []
    messages: list[dict[str, Any]] = []
    for index in range(100):
        asked = {"role": "user", "content": f"What is the capital of {countries[index % 4]}?"}
        messages = [*messages, asked] if index % 12 else [asked]
        thinking = index % 3 == 0
        events = list(session.chat(messages, Options(temperature=0, max_new_tokens=30, thinking=thinking)))
        fresh.reset()
        assert (
            events[:-1] == list(fresh.chat(messages, Options(temperature=0, max_new_tokens=30, thinking=thinking)))[:-1]
        ), index
        messages.append(assistant_message(events))
        ends = [end for end in session.cache.ends if isinstance(end, CacheState)]
        assert len(ends) == len(session.cache.ends)
        held.append(sum(state.key.nbytes for end in ends for state in end.caches if state.key is not None))
    assert max(held[50:]) <= max(held[:50]) * 1.02


def test_the_context_limit_ends_an_answer(session):
    ids, end = answer(session, PROMPT, limit=None)
    assert end.stop in ("context", "stop")
    long = [7] * 255
    ids, end = answer(session, long, Sampling(temperature=0), limit=None)
    assert len(ids) <= 2


@pytest.mark.parametrize(
    ("prompt", "limit", "message"),
    [
        ([], 5, "the prompt is empty"),
        ([7] * 257, 5, "the prompt has 257 tokens"),
        (PROMPT, 0, "max new tokens must be at least 1, not 0"),
    ],
)
def test_refused_before_anything_runs(session, prompt, limit, message):
    with pytest.raises(GemmaError, match=message):
        session.generate(prompt, GREEDY, limit)
    assert session.engine.position == 0


def test_cancel_from_another_thread_ends_within_a_token(session):
    seen, ended = [], threading.Event()

    def speak() -> None:
        for event in session.generate(PROMPT, Sampling(1.0, seed=1), None):
            seen.append(event)
            time.sleep(0.005)
        ended.set()

    thread = threading.Thread(target=speak)
    thread.start()
    while len(seen) < 3:
        time.sleep(0.001)
    session.cancel()
    at = len(seen)
    thread.join(5)
    assert ended.is_set()
    assert isinstance(seen[-1], End)
    assert seen[-1].stop == "cancelled"
    assert len(seen) <= at + 2


def test_after_a_cancel_the_next_answer_is_whole(session, folder):
    events = session.generate(PROMPT, GREEDY, 20)
    next(events)
    session.cancel()
    assert list(events)[-1].stop == "cancelled"
    again, end = answer(session, PROMPT)
    assert end.stop == "length"
    assert again == answer(Model.open(folder, threads=1).session(), PROMPT)[0]


def test_an_answer_ends_when_another_begins(session, folder):
    older = session.generate(PROMPT, GREEDY, 20)
    next(older)
    newer, end = answer(session, [2, 9, 8, 7])
    with pytest.raises(GemmaError, match="this answer ended when another began"):
        next(older)
    assert newer == answer(Model.open(folder, threads=1).session(), [2, 9, 8, 7])[0]


def test_an_answer_ends_when_another_was_asked_for_and_not_read_yet(session, folder):
    older = session.generate(PROMPT, GREEDY, 20)
    newer = session.generate([2, 9, 8, 7], GREEDY, 20)
    with pytest.raises(GemmaError, match="this answer ended when another began"):
        list(older)
    fresh = Model.open(folder, threads=1).session().generate([2, 9, 8, 7], GREEDY, 20)
    assert [event.id for event in newer if isinstance(event, Token)] == [
        event.id for event in fresh if isinstance(event, Token)
    ]


def test_an_answer_of_a_chat_ends_when_another_begins(session, folder):
    asked, other = ([{"role": "user", "content": text}] for text in ("abc", "xyz"))
    older = session.chat(asked, BRIEF)
    next(older)
    newer = list(session.chat(other, BRIEF))[:-1]
    with pytest.raises(GemmaError, match="this answer ended when another began"):
        next(older)
    assert newer == list(Model.open(folder, threads=1).session().chat(other, BRIEF))[:-1]


def test_what_is_prepared_while_an_answer_runs_ends_none_and_is_answered_once(session):
    asked, other = ([{"role": "user", "content": text}] for text in ("abc", "xyz"))
    whole = list(session.chat(asked, BRIEF))[:-1]
    running = session.chat(asked, BRIEF)
    first = next(running)
    prepared = session.prepare(other, BRIEF)
    assert [first, *running][:-1] == whole
    assert list(session.answer(prepared))[-1].prompt_tokens == len(prepared.prompt)
    with pytest.raises(GemmaError, match="this answer was already given"):
        session.answer(prepared)


def test_an_answer_ends_when_the_session_is_reset_or_loaded(session, tmp_path):
    session.save(tmp_path / "empty")
    for forget in (session.reset, lambda: session.load(tmp_path / "empty")):
        events = session.generate(PROMPT, GREEDY, 20)
        next(events)
        forget()
        with pytest.raises(GemmaError, match="this answer ended when another began"):
            next(events)


def test_a_prompt_over_the_context_has_an_error_of_its_own(session):
    with pytest.raises(ContextFull, match="the prompt has 257 tokens"):
        session.generate([7] * 257, GREEDY)


def test_a_second_thread_is_refused_while_one_reads_and_cancel_is_not(folder, tmp_path):
    inside, leave = threading.Event(), threading.Event()
    events: list[Token | End] = []

    def wait(piece: Piece) -> None:
        inside.set()
        assert leave.wait(10)

    session = paced(folder, wait)
    answering = session.generate(PROMPT, GREEDY, 20)
    thread = threading.Thread(target=lambda: events.extend(answering))
    thread.start()
    assert inside.wait(10)
    for drive in (
        lambda: session.generate(PROMPT, GREEDY, 1),
        lambda: session.save(tmp_path / "x"),
        lambda: next(answering),
        session.reset,
    ):
        with pytest.raises((GemmaError, ValueError), match="another thread is reading an answer|already executing"):
            drive()
    session.cancel()
    leave.set()
    thread.join(10)
    end = events[-1]
    assert isinstance(end, End)
    assert end.stop == "cancelled"
    assert answer(session, PROMPT)[1].stop == "length"


def test_generation_defaults_are_the_checkpoints(session):
    defaults = Options(seed=3).sampling(session.manifest.generation)
    assert (defaults.temperature, defaults.top_k, defaults.top_p, defaults.seed) == (1.0, 64, 0.95, 3)
    assert session.manifest.generation.stop == [1, 106, 50]


@pytest.fixture(scope="module")
def sample(bundle):
    return Model.open(bundle("sample", "int4-datafree"), threads=1)


NORWAY = [{"role": "user", "content": "What is the capital of Norway?"}]


@pytest.mark.parametrize(
    ("stop", "text"), [(["way"], "The capital of Nor"), (["Peru", " is"], "The capital of Norway"), (["The"], "")]
)
def test_an_answer_ends_at_a_stop_text(sample, stop, text):
    session = sample.session()
    *events, end = session.chat(NORWAY, Options(temperature=0, max_new_tokens=40, stop=stop))
    assert "".join(event.text for event in events) == text
    assert end.stop == "stop"
    assert end.new_tokens < 12
    assert list(session.chat(NORWAY, BRIEF))[-1].stop == "stop", "the next answer is whole"


def test_what_is_not_asked_for_is_what_the_checkpoint_says(session):
    generation = session.manifest.generation
    assert Options().sampling(generation) == Sampling(1.0, 64, 0.95)
    assert Options(temperature=0, top_k=3).sampling(generation) == Sampling(0, 3, 0.95)
    greedy = msgspec.structs.replace(generation, do_sample=False)
    assert Options(top_p=0.5).sampling(greedy) == Sampling(0.0, 64, 0.5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (Options(stop=["a", ""]), "stop texts"),
        (Options(stop="a"), "stop texts must be .*, not 'a'"),
        (Options(temperature=-1), "temperature must be finite and 0 or more, not -1"),
        (Options(max_new_tokens=0), "max new tokens must be at least 1, not 0"),
        (Options(thinking_budget=3), "thinking budget 3"),
    ],
)
def test_options_that_can_not_be_used_are_refused_before_anything_runs(sample, options, message):
    session = sample.session()
    with pytest.raises(GemmaError, match=message):
        session.chat(NORWAY, options)
    assert session.ids == []
