"""Sessions over ExecuTorch: each has a program of its own, and they do not disturb each other."""

from __future__ import annotations

import contextlib
import io
import threading

import numpy as np
import pytest

from export.pipeline import export_bundle
from quantize.recipe import RECIPES
from runtime.cli import main as cli
from runtime.engine.piece import Piece
from runtime.engine.sampler import Sampling
from runtime.errors import GemmaError
from runtime.session.model import Model

pytest.importorskip("executorch", reason="the extra executorch is not installed")
GREEDY = Sampling(temperature=0)
PROMPTS = [[2, *range(20, 60)], [2, *range(150, 175)]]


@pytest.fixture(scope="module")
def folder(checkpoint, tmp_path_factory):
    folder = tmp_path_factory.mktemp("executorch") / "x.bundle"
    with contextlib.redirect_stderr(io.StringIO()):
        export_bundle(checkpoint("e2b"), folder, ["executorch"], RECIPES["float"])
    return folder


@pytest.fixture(scope="module")
def model(folder):
    return Model.open(folder, engine="executorch", threads=1)


def said(session, prompt):
    *tokens, _ = session.generate(prompt, GREEDY, 30)
    return [token.id for token in tokens]


def test_sessions_in_turn_and_in_two_threads_say_what_each_says_alone(model):
    alone = [said(model.session(), prompt) for prompt in PROMPTS]
    sessions = [model.session() for _ in PROMPTS]
    answers = [session.generate(prompt, GREEDY, 30) for session, prompt in zip(sessions, PROMPTS, strict=True)]
    texts: tuple[list[int | None], list[int | None]] = ([], [])
    for pair in zip(*answers, strict=True):  # a token of one, then a token of the other
        for text, event in zip(texts, pair, strict=True):
            text.append(getattr(event, "id", None))
    assert [text[:-1] for text in texts] == alone
    said_at_once = {}
    threads = [
        threading.Thread(target=lambda n=n: said_at_once.update({n: [said(sessions[n], PROMPTS[n]) for _ in range(3)]}))
        for n in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert said_at_once == {0: [alone[0]] * 3, 1: [alone[1]] * 3}


def test_a_session_is_neither_saved_nor_loaded(model, tmp_path):
    session = model.session()
    assert session.engine.caches() is None
    assert session.engine.plan(100) is None
    for keep in (session.save, session.load):
        with pytest.raises(GemmaError, match="sessions of this engine cannot be saved"):
            keep(tmp_path / "talk")


def test_a_closed_model_is_one_sentence(folder):
    with Model.open(folder, engine="executorch", threads=1) as model:
        session = model.session()
    for ask in (model.session, lambda: session.generate([2]), lambda: session.engine.forward(Piece(np.array([2])))):
        with pytest.raises(GemmaError, match="the model is closed"):
            ask()


def test_another_engine_is_named(folder):
    with pytest.raises(GemmaError, match="has no ONNX artifact; it has executorch"):
        Model.open(folder)


@pytest.mark.parametrize(
    "words", [["verify", "--engine", "executorch"], ["verify"], ["eval", "--engine", "executorch"]]
)
def test_commands_run_it(folder, words, tmp_path, capsys):
    (tmp_path / "text").write_text("abc def " * 40)
    rest = ["--text", str(tmp_path / "text"), "--window-tokens", "16", "--windows", "2"] if words[0] == "eval" else []
    assert cli.main([words[0], str(folder), *words[1:], *rest]) == 0
    with pytest.raises(SystemExit):
        cli.main([words[0], str(folder), "--engine", "tpu"])
    capsys.readouterr()
    assert cli.main([words[0], str(folder), "--engine", "onnx", *rest]) == 1
    assert "no ONNX artifact" in capsys.readouterr().err
