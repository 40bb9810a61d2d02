"""Bytes of keys and values, computed by hand from the released shape of Gemma 4 E2B."""

from __future__ import annotations

import numpy as np
import pytest

from runtime.bundle.kv_bytes import bytes_by_context, row_bytes, rows_seen, shown_contexts
from runtime.bundle.manifest import Cache

SLIDING = Cache(layer=0, kind="sliding", kv_heads=1, head_dim=256, dtype="int8")
FULL = Cache(layer=4, kind="full", kv_heads=1, head_dim=512, dtype="float32")


@pytest.mark.parametrize("cache", [SLIDING, FULL])
def test_a_row_is_what_the_arrays_take(cache):
    key, value = (np.zeros((1, cache.kv_heads, 1, cache.head_dim), cache.dtype) for _ in range(2))
    assert row_bytes(cache, cache.dtype) == key.nbytes + value.nbytes


def test_a_window_ends_what_a_sliding_layer_sees():
    assert [rows_seen(SLIDING, 512, context) for context in (100, 512, 4096)] == [100, 512, 512]
    assert [rows_seen(FULL, 512, context) for context in (100, 512, 4096)] == [100, 512, 4096]


def test_contexts_end_at_the_model_s():
    assert shown_contexts(131072) == [1024, 8192, 32768, 131072]
    assert shown_contexts(2000) == [1024, 2000]
    assert shown_contexts(256) == [256]


def test_all_layers_are_added():
    layers = [(SLIDING, SLIDING.dtype), (FULL, FULL.dtype)]
    assert bytes_by_context(layers, 512, 2048) == {
        "1024": 2 * 256 * 512 + 2 * 512 * 4 * 1024,
        "2048": 2 * 256 * 512 + 2 * 512 * 4 * 2048,
    }
