"""Conversation: streaming, stop ids, cancel, limits, turns without re-reading."""

from __future__ import annotations

import threading
import time

import pytest

from runtime.errors import GemmaError
from runtime.sampler import Sampling
from runtime.session import End, Session, Token

GREEDY = Sampling(temperature=0)
PROMPT = [2, 105, 200, 210, 220, 106]


@pytest.fixture(scope="module")
def folder(bundle):
    return bundle("e2b")


@pytest.fixture
def session(folder):
    return Session.open(folder, threads=1)


def answer(session: Session, prompt: list[int], sampling: Sampling = GREEDY, limit: int | None = 20):
    *tokens, end = session.generate(prompt, sampling, limit)
    assert isinstance(end, End)
    return [token.id for token in tokens], end


def test_tokens_stream_one_by_one(session):
    events = session.generate(PROMPT, GREEDY, 5)
    first = next(events)
    assert isinstance(first, Token)
    assert session.decoder.position == len(PROMPT)
    assert [type(event) for event in events] == [Token] * 4 + [End]


def test_limit_is_named_as_the_reason(session):
    ids, end = answer(session, PROMPT, limit=7)
    assert (len(ids), end.stop, end.new_tokens, end.prompt_tokens) == (7, "length", 7, 6)


def test_a_stop_id_ends_and_is_not_streamed(session, monkeypatch):
    ids, _ = answer(session, PROMPT)
    monkeypatch.setattr("runtime.session.Session.manifest", None, raising=False)
    generation = session.bundle.manifest.generation
    import msgspec

    changed = msgspec.structs.replace(generation, stop=[ids[4]])
    session.manifest = msgspec.structs.replace(session.bundle.manifest, generation=changed)
    session.reset()
    again, end = answer(session, PROMPT)
    cut = ids.index(ids[4])
    assert again == ids[:cut]
    assert end.stop == "stop"


def test_same_seed_same_tokens_other_seed_others(folder):
    def draw(seed: int) -> list[int]:
        return answer(Session.open(folder, threads=1), PROMPT, Sampling(1.5, seed=seed))[0]

    assert draw(1) == draw(1)
    assert draw(1) != draw(2)


def test_a_second_turn_reads_only_what_is_new(session, folder):
    ids, _ = answer(session, PROMPT)
    longer = [*PROMPT, *ids, 106, 105, 201, 106]
    again, end = answer(session, longer)
    assert end.reused == len(PROMPT) + len(ids) - 1
    fresh, _ = answer(Session.open(folder, threads=1), longer)
    assert again == fresh


def test_another_prompt_is_read_from_where_it_differs(session, folder):
    answer(session, [*PROMPT, 1, 2, 3, 4])
    changed = [*PROMPT, 1, 2, 30, 40]
    again, end = answer(session, changed)
    assert end.reused == len(PROMPT) + 2
    assert again == answer(Session.open(folder, threads=1), changed)[0]


def test_a_prompt_that_the_window_forgot_is_read_again(session, folder):
    answer(session, PROMPT, limit=200)
    again, end = answer(session, [2, 9, 8, 7])
    assert end.reused == 0
    assert again == answer(Session.open(folder, threads=1), [2, 9, 8, 7])[0]


def test_the_context_limit_ends_an_answer(session):
    ids, end = answer(session, PROMPT, limit=None)
    assert end.stop in ("context", "stop")
    long = [7] * 255
    ids, end = answer(session, long, Sampling(temperature=0), limit=None)
    assert len(ids) <= 2


@pytest.mark.parametrize(
    ("prompt", "limit", "message"),
    [([], 5, "the prompt is empty"), ([7] * 257, 5, "a prompt of 257 tokens"), (PROMPT, 0, "max new tokens 0")],
)
def test_refused_before_anything_runs(session, prompt, limit, message):
    with pytest.raises(GemmaError, match=message):
        session.generate(prompt, GREEDY, limit)
    assert session.decoder.position == 0


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
    assert again == answer(Session.open(folder, threads=1), PROMPT)[0]


def test_generation_defaults_are_the_checkpoints(session):
    made = session.defaults(seed=3)
    assert (made.temperature, made.top_k, made.top_p, made.seed) == (1.0, 64, 0.95, 3)
    assert session.manifest.generation.stop == [1, 106, 50]
