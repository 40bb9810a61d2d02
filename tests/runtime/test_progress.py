"""A pipe reads a line now and then, and nothing of what is over at once."""

from __future__ import annotations

import pytest

from runtime import progress
from runtime.progress import Progress


@pytest.fixture
def clock(monkeypatch):
    """Seconds, which a test moves."""
    seconds = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: seconds[0])
    return seconds


def test_a_stage_that_is_over_at_once_says_nothing(clock, capsys):
    with Progress("reading", 4) as stage:
        for _ in range(4):
            clock[0] += 1
            stage.advance(1)
    assert capsys.readouterr() == ("", "")


def test_a_long_stage_says_how_far_it_is(clock, capsys):
    with Progress("reading", 10) as stage:
        for _ in range(10):
            clock[0] += 8
            stage.advance(1)
    out, lines = capsys.readouterr()
    assert out == ""
    assert lines.splitlines() == ["reading: 30%", "reading: 60%", "reading: 90%"]


def test_a_stage_that_does_more_than_was_thought_stays_at_all_of_it(clock, capsys):
    with Progress("reading", 1) as stage:
        clock[0] += 60
        stage.advance(3)
    assert capsys.readouterr().err == "reading: 100%\n"
