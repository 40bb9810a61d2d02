from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from runtime.engine.slots import Slots

WINDOW, CALL = 5, 7


def seen(slots: Slots, positions: np.ndarray) -> list[list[int]]:
    """Positions that each query sees."""
    return [sorted(slots.held[row == 0].tolist()) for row in slots.mask(positions)]


@given(calls=st.lists(st.integers(1, CALL), min_size=1, max_size=12))
def test_a_ring_shows_every_query_its_window(calls):
    slots, position = Slots(WINDOW + CALL, WINDOW), 0
    for tokens in calls:
        positions = np.arange(position, position + tokens)
        slots.take(positions)
        assert seen(slots, positions) == [list(range(max(0, p - WINDOW + 1), p + 1)) for p in positions]
        position += tokens


def test_a_full_cache_shows_all_before():
    slots = Slots(16, 0)
    slots.take(np.arange(9))
    assert seen(slots, np.array([0, 8])) == [[0], list(range(9))]


def test_rewinding_is_possible_while_the_window_is_held():
    slots = Slots(WINDOW + CALL, WINDOW)
    for start in range(0, 28, CALL):
        slots.take(np.arange(start, start + CALL))
    assert slots.reaches(28)
    assert slots.reaches(20)
    assert not slots.reaches(19)


def test_what_was_rewound_is_not_seen():
    slots = Slots(WINDOW + CALL, WINDOW)
    slots.take(np.arange(10))
    slots.rewind(6)
    assert slots.held.max() == 5
    slots.take(np.array([6]))
    assert seen(slots, np.array([6])) == [[2, 3, 4, 5, 6]]


def test_nothing_before_the_beginning_is_asked_for():
    slots = Slots(WINDOW + CALL, WINDOW)
    assert slots.reaches(0)
    assert not slots.reaches(1)
