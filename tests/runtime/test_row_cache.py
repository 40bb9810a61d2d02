"""The cache in front of a row table changes what is read, never what is found."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from runtime.bundle.row_cache import RowCache
from runtime.bundle.row_table import RowFormat, RowTable, products
from runtime.engine.head import Head
from runtime.engine.sampler import best

from .test_row_table import FORMATS, write

BIG = RowFormat(1000, 1, 32, 8, 1)


def test_reads_equal_the_tables_whatever_was_evicted(tmp_path: Path) -> None:
    write(tmp_path / "t.rows", BIG)
    table, cache = RowTable(tmp_path / "t.rows"), RowCache(RowTable(tmp_path / "t.rows"), rows=50)
    rng = np.random.default_rng(0)
    for count in (1, 50, 7, 50, 33, 50, 0, 12) * 20:
        ids = rng.permutation(BIG.rows)[:count] if count % 2 else rng.permutation(60)[:count]
        assert np.array_equal(cache.read(ids), table.read(ids))


def test_a_row_is_read_once(tmp_path: Path) -> None:
    write(tmp_path / "t.rows", BIG)
    table = RowTable(tmp_path / "t.rows")
    cache = RowCache(table, rows=50)
    for ids in (np.arange(40), np.arange(20, 50), np.arange(50)):
        cache.read(ids)
    assert table.counters.rows == 50
    cache.read(np.array([50]))  # takes the place of row 0, the oldest
    cache.read(np.array([1, 0]))
    assert table.counters.rows == 52


def test_a_cache_holds_the_longest_read(tmp_path: Path) -> None:
    write(tmp_path / "t.rows", BIG)
    cache = RowCache(RowTable(tmp_path / "t.rows"), rows=4, least=300)
    assert np.array_equal(cache.read(np.arange(300)), cache.table.read(np.arange(300)))


@pytest.mark.parametrize("form", [form for form in FORMATS.values() if form.layers == 1 or form.dim == 64], ids=str)
def test_products_are_those_of_the_values(tmp_path: Path, form: RowFormat) -> None:
    values = write(tmp_path / "t.rows", form)[:, 0]
    state = np.random.default_rng(1).standard_normal(form.dim).astype(np.float32)
    found = products(RowTable(tmp_path / "t.rows").read(np.arange(form.rows)), form, state)
    assert np.allclose(found, values @ state, rtol=1e-5, atol=1e-4)


BUSY_AFTER_PRODUCTS = """
import time
import numpy as np
from runtime.bundle.row_table import RowFormat, products

form = RowFormat(1000, 1, 2560, 8, {scales})
time.sleep(0.5)  # threads that a library starts wait busily at first
products(np.zeros((256, form.row_bytes), np.uint8), form, np.ones(form.dim, np.float32))
begun = time.process_time()
time.sleep(0.05)
print(time.process_time() - begun)
"""


@pytest.mark.parametrize("scales", [1, 2])
def test_products_leave_no_thread_that_waits_busily(scales: int) -> None:
    script = BUSY_AFTER_PRODUCTS.format(scales=scales)
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert float(run.stdout) < 0.02  # seconds of any thread, of 0.05; OpenBLAS waits for longer


@pytest.mark.parametrize("softcap", [0.0, 30.0])
def test_the_best_logits_are_recomputed_and_no_others(tmp_path: Path, softcap: float) -> None:
    values = write(tmp_path / "t.rows", BIG)[:, 0]
    rng = np.random.default_rng(2)
    hidden = rng.standard_normal((3, BIG.dim)).astype(np.float32)
    logits = rng.standard_normal((3, BIG.rows)).astype(np.float32)
    found = Head(RowTable(tmp_path / "t.rows"), 20, softcap).rescore(logits.copy(), hidden)
    for before, after, state in zip(logits, found, hidden, strict=True):
        ids = best(before, 20)
        exact = values[ids] @ state
        assert np.allclose(after[ids], np.tanh(exact / 30) * 30 if softcap else exact, rtol=1e-5, atol=1e-3)
        others = np.delete(np.arange(BIG.rows), ids)
        assert np.array_equal(after[others], before[others])
