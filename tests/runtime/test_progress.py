"""A pipe reads a line now and then, and nothing of what is over at once."""

from __future__ import annotations

import pytest

from runtime.progress import Progress


class Clock:
    """Seconds, which a test moves."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock():
    return Clock()


def test_a_stage_that_is_over_at_once_says_nothing(clock, capsys):
    with Progress("reading", 4, clock) as stage:
        for _ in range(4):
            clock.seconds += 1
            stage.advance(1)
    assert capsys.readouterr() == ("", "")


def test_a_long_stage_says_how_far_it_is(clock, capsys):
    with Progress("reading", 10, clock) as stage:
        for _ in range(10):
            clock.seconds += 8
            stage.advance(1)
    out, lines = capsys.readouterr()
    assert out == ""
    assert lines.splitlines() == ["reading: 30%", "reading: 60%", "reading: 90%"]


def test_a_stage_that_does_more_than_was_thought_stays_at_all_of_it(clock, capsys):
    with Progress("reading", 1, clock) as stage:
        clock.seconds += 60
        stage.advance(3)
    assert capsys.readouterr().err == "reading: 100%\n"
