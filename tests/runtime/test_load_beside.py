"""The thread gets to where it lets Python's lock go before the other work takes it."""

from __future__ import annotations

import sys
import time

import pytest

from runtime.machine.load_beside import load_beside


def busy(seconds: float) -> None:
    """Keeps Python's lock as far as it can."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


def test_the_thread_is_not_interrupted_before_it_waits():
    events: list[str] = []

    def outside() -> str:
        busy(0.05)  # ten times as long as a thread keeps the lock else
        events.append("outside waits")
        time.sleep(0.05)
        return "loaded"

    def inside() -> int:
        events.append("inside")
        return 7

    assert load_beside(outside, inside) == ("loaded", 7)
    assert events == ["outside waits", "inside"]


def test_the_switch_interval_is_as_before():
    before = sys.getswitchinterval()
    load_beside(lambda: None, lambda: None)
    assert sys.getswitchinterval() == before


@pytest.mark.parametrize("broken", ["outside", "inside"])
def test_an_error_of_either_is_raised(broken):
    def fail() -> None:
        raise LookupError(broken)

    def nothing() -> None: ...

    with pytest.raises(LookupError, match=broken):
        load_beside(fail if broken == "outside" else nothing, fail if broken == "inside" else nothing)
    assert sys.getswitchinterval() < 1
