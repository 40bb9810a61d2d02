"""Two things that are loaded at once, though one of them keeps Python's lock for seconds."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")
U = TypeVar("U")
PATIENT = threading.Lock()
KEPT = 60.0  # seconds that a thread may keep the lock while others ask for it


def load_beside(outside: Callable[[], T], inside: Callable[[], U]) -> tuple[T, U]:
    """`outside`, which lets Python's lock go while it works, in a thread; `inside`, which does not, in this one.

    The thread gets as far as letting the lock go by itself: were it taken away, as it is every 5 ms, the
    thread would not begin before `inside` has ended.  Raises what either of them raises.
    """
    begun = threading.Event()

    def work() -> T:
        begun.set()
        return outside()

    with ThreadPoolExecutor(1) as pool:
        with patient_threads():
            loading = pool.submit(work)
            begun.wait()
        loaded = inside()
        return loading.result(), loaded


@contextmanager
def patient_threads() -> Iterator[None]:
    """No thread of the process takes Python's lock away from another meanwhile; one block at a time."""
    with PATIENT:
        interval = sys.getswitchinterval()
        sys.setswitchinterval(KEPT)
        try:
            yield
        finally:
            sys.setswitchinterval(interval)
