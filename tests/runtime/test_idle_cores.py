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


@LINUX
@pytest.mark.parametrize(("runnable", "threads"), [(1, 4), (2, 3), (4, 1), (9, 1)])
def test_a_busy_core_is_left_alone(monkeypatch, tmp_path, runnable, threads):
    stat = tmp_path / "stat"
    stat.write_text(STAT.format(runnable))
    monkeypatch.setattr(idle_cores, "STAT", stat)
    monkeypatch.setattr(idle_cores, "own", lambda: 1)
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    monkeypatch.setattr(idle_cores, "usable_cores", lambda: 4)
    assert idle_cores.idle_cores() == threads


@LINUX
def test_cores_that_are_not_ours_may_be_busy(monkeypatch, tmp_path):
    stat = tmp_path / "stat"
    stat.write_text(STAT.format(31))
    monkeypatch.setattr(idle_cores, "STAT", stat)
    monkeypatch.setattr(idle_cores, "own", lambda: 1)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(idle_cores, "usable_cores", lambda: 2)
    assert idle_cores.idle_cores() == 2


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


def test_a_thread_that_ends_while_it_is_looked_at_does_not_run(tmp_path, monkeypatch):
    for name, letter in (("11", "R"), ("12", "S"), ("13", "")):
        (tmp_path / name).mkdir()
        if letter:
            (tmp_path / name / "stat").write_text(f"{name} (a name) of) {letter} 1 2 3")
    monkeypatch.setattr(idle_cores, "THREADS", tmp_path)
    assert idle_cores.own() == 1
    assert idle_cores.state(tmp_path / "14") == ""
