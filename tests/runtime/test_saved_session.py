"""A session in a file: the same tokens follow, and no damage is read."""

from __future__ import annotations

import hashlib
import json
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from runtime.engine.cache import TURNS
from runtime.engine.sampler import Sampling
from runtime.errors import GemmaError
from runtime.language.events import Token
from runtime.session.model import Model
from runtime.session.saved import COUNT, END, HEADER
from runtime.session.session import Session

GREEDY = Sampling(temperature=0)
PROMPT = [2, *range(107, 167)]


def answer(session: Session, prompt: list[int], limit: int = 64):
    *tokens, end = session.generate(prompt, GREEDY, limit)
    return [token.id for token in tokens if isinstance(token, Token)], end


@pytest.fixture(scope="module", params=["float", "int4-datafree"])
def folder(bundle, request):
    return bundle("e2b", request.param)


@pytest.fixture
def saved(folder, tmp_path):
    session = Model.open(folder, threads=1).session()
    answer(session, PROMPT, 5)
    path = tmp_path / "talk.session"
    session.save(path)
    return session, path


def test_the_same_tokens_follow_in_another_process(saved, folder):
    session, path = saved
    prompt = [*session.ids, 120, 121]
    code = """
import sys, json
from pathlib import Path
from runtime.session.model import Model
from runtime.session.session import Session
from runtime.engine.sampler import Sampling
session = Model.open(Path(sys.argv[1]), threads=1).session()
session.load(Path(sys.argv[2]))
*tokens, end = session.generate(json.loads(sys.argv[3]), Sampling(temperature=0), 64)
print(json.dumps([[token.id for token in tokens], end.reused]))
"""
    words = [sys.executable, "-c", code, str(folder), str(path), json.dumps(prompt)]
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(words, cwd=root, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [answer(session, prompt)[0], len(prompt) - 2]


def test_what_is_loaded_replaces_what_was_there(saved, folder):
    session, path = saved
    other = Model.open(folder, threads=1).session()
    answer(other, [2, *range(200, 300)], 20)
    other.load(path)
    assert other.ids == session.ids
    assert answer(other, [*session.ids, 130])[0] == answer(session, [*session.ids, 130])[0]


LONG = [2, *range(110, 170)]  # longer than the window, so that its end can not go back to its beginning


def test_the_last_answer_is_given_once_more_from_the_turns_end(folder, tmp_path):
    session = Model.open(folder, threads=1).session()
    answer(session, [2, *range(110, 150)], 5)
    said, _ = answer(session, LONG, 150)
    session.save(tmp_path / "talk")
    other = Model.open(folder, threads=1).session()
    other.load(tmp_path / "talk")
    again, end = answer(other, LONG, 150)
    assert (again, end.reused) == (said, answer(session, LONG, 150)[1].reused)
    assert end.reused == len(LONG) - 1


def answer_without_times(session, prompt):
    said, end = answer(session, prompt, 5)
    return said, end.reused


def test_every_end_of_a_turn_is_come_back_to(folder, tmp_path):
    session = Model.open(folder, threads=1).session()
    for count in range(6):
        answer(session, [*LONG, *range(175, 175 + 12 * count)], 40)
    session.save(tmp_path / "talk")
    ends = [end.position for end in session.cache.ends]
    assert len(ends) == TURNS
    for position in ends:
        session.load(tmp_path / "talk")
        assert [end.position for end in session.cache.ends] == ends
        prompt = [*session.ids[:position], 9]
        fresh = Model.open(folder, threads=1).session()
        said, reused = answer_without_times(session, prompt)
        assert reused == position
        assert said == answer_without_times(fresh, prompt)[0]


def test_a_file_of_the_first_version_is_loaded_without_ends_of_turns(saved, folder):
    session, path = saved
    raw = path.read_bytes()
    head = HEADER.pack(*HEADER.unpack(raw[: HEADER.size])[:1], 1, *HEADER.unpack(raw[: HEADER.size])[2:])
    windows = sum(
        array.nbytes for end in session.cache.ends for kept in end.caches for array in (kept.key, kept.value)
        if array is not None
    )  # fmt: skip
    old = head + raw[HEADER.size + COUNT.size + END.size : -32 - windows]
    path.write_bytes(old + hashlib.sha256(old).digest())
    other = Model.open(folder, threads=1).session()
    other.load(path)
    assert (other.ids, other.cache.ends) == (session.ids, [])
    prompt = [*session.ids, 120, 121]
    assert answer_without_times(other, prompt) == answer_without_times(session, prompt)


def test_an_empty_session_is_saved_too(folder, tmp_path):
    Model.open(folder, threads=1).session().save(tmp_path / "empty")
    session = Model.open(folder, threads=1).session()
    session.load(tmp_path / "empty")
    assert session.ids == []
    assert answer(session, PROMPT, 5)[1].reused == 0


def test_a_session_that_was_interrupted_is_not_saved(saved, tmp_path):
    session, _ = saved
    session.ids.append(5)
    with pytest.raises(GemmaError, match="interrupted while it read"):
        session.save(tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_of_another_bundle(saved, bundle):
    with pytest.raises(GemmaError, match="saved with another bundle"):
        Model.open(bundle("e4b"), threads=1).session().load(saved[1])


def test_longer_than_the_context(saved, folder):
    session = Model.open(folder, threads=1, context=10).session()
    with pytest.raises(GemmaError, match="tokens, but the context is 10"):
        session.load(saved[1])


def refused(session: Session, path: Path, raw: bytes, message: str) -> None:
    """The file is refused, and the session goes on as it was."""
    before, position = list(session.ids), session.engine.position
    path.write_bytes(raw)
    with pytest.raises(GemmaError, match=message):
        session.load(path)
    assert (session.ids, session.engine.position) == (before, position)


def test_damaged_anywhere(saved):
    session, path = saved
    whole = path.read_bytes()
    for at in np.linspace(0, len(whole) - 1, 120, dtype=int):
        raw = bytearray(whole)
        raw[at] ^= 0x10
        refused(session, path, bytes(raw), "session|hash does not match|bytes|windows|context|turn")


@pytest.mark.parametrize("size", [0, 5, HEADER.size, HEADER.size + 10, -1])
def test_cut_short(saved, size):
    session, path = saved
    refused(session, path, path.read_bytes()[:size], "not a saved session|bytes, ")


def test_something_behind_the_end(saved):
    session, path = saved
    refused(session, path, path.read_bytes() + b"x", "bytes, ")


@pytest.mark.parametrize(
    ("offset", "value", "message"),
    [
        (8, 3, "has the session format 3"),
        (8, 0, "has the session format 0"),
        (8, 1, "bytes, "),
        (12, 2**31, "tokens, but the context"),
        (16, 2**31, "windows of"),
        (16, 0, "windows of"),
        (HEADER.size, 2**31, "ends of turns"),
        (HEADER.size, TURNS, "a turn ends|windows of|bytes, "),
        (HEADER.size + COUNT.size, 0, "a turn ends at token 0"),
        (HEADER.size + COUNT.size, 2**31, "a turn ends at token"),
        (HEADER.size + COUNT.size + 4, 2**31, "windows of"),
        (HEADER.size + COUNT.size + 4, 0, "windows of"),
    ],
)
def test_numbers_out_of_bounds(saved, offset, value, message):
    session, path = saved
    raw = bytearray(path.read_bytes())
    struct.pack_into("<I", raw, offset, value)
    refused(session, path, bytes(raw), message)


def test_a_token_that_does_not_exist(saved):
    session, path = saved
    raw = bytearray(path.read_bytes()[:-32])
    struct.pack_into("<i", raw, HEADER.size + COUNT.size + END.size, 10**6)  # behind the one end of a turn
    refused(session, path, bytes(raw) + hashlib.sha256(raw).digest(), "a token that the bundle does not have")
