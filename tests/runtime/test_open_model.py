"""A model and its sessions: opened at the door, shared, closed."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from runtime.bundle.bundle import Bundle
from runtime.engine.contract import Engine
from runtime.engine.sampler import Sampling
from runtime.errors import GemmaError
from runtime.language.events import End, Text
from runtime.session.model import Model
from runtime.session.options import Options

GREEDY = Options(temperature=0, max_new_tokens=40)
ROOT = Path(__file__).resolve().parents[2]
NORWAY, PERU = ([{"role": "user", "content": f"What is the capital of {country}?"}] for country in ("Norway", "Peru"))
LONG = [{"role": "user", "content": "Tell me of Chad, Kenya, Peru and Norway. " * 12}]


@pytest.fixture(scope="module")
def folder(bundle):
    return bundle("sample", "int4-datafree")


@pytest.fixture(scope="module")
def model(folder):
    return Model.open(str(folder), threads=1)


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"engine": "coreml"}, "there is no engine 'coreml'"),
        ({"threads": -1}, "threads must be 0 or more, not -1"),
        ({"context": -5}, "the context must be 0 or more tokens, not -5"),
    ],
)
def test_a_request_is_refused_before_the_bundle_is_looked_for(request_, message, tmp_path):
    with pytest.raises(GemmaError, match=message):
        Model.open(tmp_path / "nothing", **request_)


def test_the_engines_that_there_are_are_named():
    with pytest.raises(GemmaError) as refused:
        Model.open("x", engine="tpu")
    assert refused.value.hint == "choose from onnx, executorch"


def test_a_context_that_the_model_does_not_have_is_refused(folder):
    with pytest.raises(GemmaError, match="the context must be 1 to 4096 tokens, not 4097"):
        Model.open(folder, context=4097)
    with Model.open(folder, threads=1, context=4096) as model:
        assert (model.context, model.session().context) == (4096, 4096)


def said(session, messages, **options):
    *events, end = session.chat(messages, replace(GREEDY, **options))
    assert isinstance(end, End)
    return "".join(event.text for event in events if isinstance(event, Text)), end.stop


def turns(session):
    """What a conversation of several turns says; its prompts reuse what was read."""
    first = said(session, NORWAY, thinking=True)
    later = [*NORWAY, {"role": "assistant", "content": first[0]}, *PERU]
    return [first, said(session, later), said(session, LONG)]


def test_sessions_in_turn_say_what_each_says_alone(model):
    alone = [said(Model(model.bundle, threads=1).session(), messages) for messages in (NORWAY, PERU)]
    first, second = model.session(), model.session()
    answers = [
        first.chat(NORWAY, GREEDY),
        second.chat(PERU, GREEDY),
    ]
    texts = ["", ""]
    while answers[0] or answers[1]:  # an event of one, then an event of the other
        for number, events in enumerate(answers):
            event = next(events, None) if events else None
            if isinstance(event, Text):
                texts[number] += event.text
            elif event is None:
                answers[number] = None
    assert texts == [text for text, _ in alone] == ["The capital of Norway is Oslo.", "The capital of Peru is Lima."]


def test_sessions_in_two_threads_say_what_each_says_alone(model):
    alone = turns(Model(model.bundle, threads=1).session())
    sessions, answers = [model.session() for _ in range(2)], {}
    begin = threading.Barrier(2)

    def converse(number):
        begin.wait()
        answers[number] = [turns(sessions[number]) for _ in range(5)]

    threads = [threading.Thread(target=converse, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == {0: [alone] * 5, 1: [alone] * 5}


def test_a_cancelled_session_leaves_the_other_alone(model):
    first, second = model.session(), model.session()
    events = second.chat(PERU, GREEDY)
    next(events)
    first.cancel()
    assert list(events)[-1].stop == "stop"


def test_a_second_session_takes_less_than_five_megabytes(folder):
    code = """
import json, sys
from pathlib import Path
from runtime.session.model import Model
from runtime.session.options import Options

ASKED = [{"role": "user", "content": "What is the capital of Norway?"}]


def anonymous():
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Anonymous:")) * 1024


def answer(session):
    return [*session.chat(ASKED, Options(temperature=0, max_new_tokens=20))][:-1]


model = Model.open(sys.argv[1], threads=1)
first = model.session()
said = answer(first)
assert answer(first) == said
before = anonymous()
sessions = [model.session() for _ in range(8)]
assert [answer(session) for session in sessions] == [said] * 8
between = anonymous()
other = Model.open(sys.argv[1], threads=1).session()
assert answer(other) == said
print(json.dumps([(between - before) // 8, anonymous() - between]))
"""
    words = [sys.executable, "-c", code, str(folder)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
    session, model = json.loads(done.stdout)
    assert session < 5_000_000 < model, "a second model is what a session is measured against"


def test_a_closed_model_is_one_sentence(folder, tmp_path):
    with Model.open(folder, threads=1) as model:
        session, half_read = model.session(), model.session()
        prepared = session.prepare(NORWAY, GREEDY)
        events = half_read.chat(PERU, GREEDY)
        next(events)
    model.close()
    for ask in (
        model.session,
        lambda: session.chat(NORWAY),
        lambda: session.generate([2, 5]),
        lambda: session.answer(prepared),
        lambda: session.save(tmp_path / "talk"),
        lambda: next(events),
        session.reset,
    ):
        with pytest.raises(GemmaError, match="the model is closed") as refused:
            ask()
        assert refused.value.hint == "open it again"


def test_close_ends_an_answer_that_another_thread_reads(folder):
    model = Model.open(folder, threads=1)
    begun, errors = threading.Event(), []

    def read():
        try:
            for _ in model.session().generate([2, 5, 6], Sampling(1.0, seed=1)):
                begun.set()
        except GemmaError as error:
            errors.append(error.message)

    thread = threading.Thread(target=read)
    thread.start()
    assert begun.wait(20)
    model.close()
    thread.join(20)
    assert errors == ["the model is closed"]


def test_weights_of_a_closed_model_are_gone(folder):
    model = Model.open(folder, threads=1)
    engine: Engine = model.session().engine
    model.close()
    with pytest.raises(GemmaError, match="the model is closed"):
        engine.prefill(np.array([5]))


def test_a_model_over_weights_that_are_loaded(folder):
    weights = Model.open(folder, threads=1).weights
    assert said(Model(Bundle.open(folder), weights=weights).session(), NORWAY) == (
        "The capital of Norway is Oslo.",
        "stop",
    )
