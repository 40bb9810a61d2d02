"""The default number of threads leaves out the cores that others keep busy."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import pytest

from runtime.machine import idle_cores
from runtime.machine.idle_cores import running, usable_cores

STAT = "cpu  1 2 3\nbtime 1\nprocesses 10\nprocs_running {}\nprocs_blocked 0\n"
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="what else runs is known on Linux only")


@pytest.fixture
def threads(tmp_path):
    """Three threads of this process, one of them running."""
    folder = tmp_path / "task"
    for name, letter in (("11", "R"), ("12", "S"), ("13", "")):
        (folder / name).mkdir(parents=True)
        if letter:
            (folder / name / "stat").write_text(f"{name} (a name) of) {letter} 1 2 3")
    return folder


@pytest.mark.parametrize(("runnable", "others"), [(1, 0), (2, 1), (4, 3), (0, 0)])
def test_threads_of_others_are_what_runs_but_for_our_own(tmp_path, threads, runnable, others):
    stat = tmp_path / "stat"
    stat.write_text(STAT.format(runnable))
    assert idle_cores.busy(stat, threads) == others


@pytest.mark.parametrize(("others", "cores"), [(0, 4), (1, 3), (3, 1), (8, 1)])
def test_a_busy_core_is_left_alone(others, cores):
    assert idle_cores.beside(others, usable=4, cores=4) == cores


def test_cores_that_are_not_ours_may_be_busy():
    assert idle_cores.beside(30, usable=2, cores=64) == 2


def test_at_least_one_thread_and_not_more_than_there_are_cores():
    assert 1 <= idle_cores.idle_cores() <= usable_cores()


@LINUX
def test_the_kernel_counts_processes_that_spin():
    spin = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(os.cpu_count() or 1)]
    try:
        assert comes_true(lambda: idle_cores.idle_cores() == 1)
        assert running(idle_cores.STAT.read_text()) >= len(spin)
    finally:
        for process in spin:
            process.kill()
            process.wait()


@LINUX
def test_threads_of_this_process_are_not_others():
    going = threading.Event()
    data = bytearray(1 << 24)  # hashing it runs without Python's lock
    thread = threading.Thread(target=lambda: [hashlib.sha256(data) for _ in iter(going.is_set, True)])
    thread.start()
    try:
        assert comes_true(lambda: idle_cores.own() >= 2)
    finally:
        going.set()
        thread.join()


def comes_true(condition: Callable[[], bool], seconds: float = 10) -> bool:
    """What the kernel says of a process that has just begun, or of a busy machine, takes a moment."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
    return True


def test_a_thread_that_ends_while_it_is_looked_at_does_not_run(threads):
    assert idle_cores.own(threads) == 1
    assert idle_cores.state(threads / "14") == ""
