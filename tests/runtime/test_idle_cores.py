"""The default number of threads leaves out the cores that others keep busy."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from runtime import idle_cores
from runtime.idle_cores import running, usable_cores

STAT = "cpu  1 2 3\nbtime 1\nprocesses 10\nprocs_running {}\nprocs_blocked 0\n"
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="what else runs is known on Linux only")


@LINUX
@pytest.mark.parametrize(("runnable", "threads"), [(1, 4), (2, 3), (4, 1), (9, 1)])
def test_a_busy_core_is_left_alone(monkeypatch, tmp_path, runnable, threads):
    stat = tmp_path / "stat"
    stat.write_text(STAT.format(runnable))
    monkeypatch.setattr(idle_cores, "STAT", stat)
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    monkeypatch.setattr(idle_cores, "usable_cores", lambda: 4)
    assert idle_cores.idle_cores() == threads


@LINUX
def test_cores_that_are_not_ours_may_be_busy(monkeypatch, tmp_path):
    stat = tmp_path / "stat"
    stat.write_text(STAT.format(31))
    monkeypatch.setattr(idle_cores, "STAT", stat)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(idle_cores, "usable_cores", lambda: 2)
    assert idle_cores.idle_cores() == 2


def test_at_least_one_thread_and_not_more_than_there_are_cores():
    assert 1 <= idle_cores.idle_cores() <= usable_cores()


@LINUX
def test_the_kernel_counts_a_process_that_spins():
    spin = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(os.cpu_count() or 1)]
    try:
        assert running(idle_cores.STAT.read_text()) >= len(spin)
        assert idle_cores.idle_cores() == 1
    finally:
        for process in spin:
            process.kill()
            process.wait()
