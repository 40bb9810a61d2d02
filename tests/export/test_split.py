"""Tables of a checkpoint as row files."""

from __future__ import annotations

import numpy as np
import pytest

from export.checkpoint.checkpoint import Checkpoint
from export.weights.plan import storage_plan
from export.weights.row_files import file_of, row_format, write_row_files
from quantize.affine import quantize
from quantize.recipe import Gate, Recipe, rules
from quantize.scheme import FLOAT, INT4_B32, INT8, Scheme
from runtime.bundle.row_table import RowTable
from runtime.errors import GemmaError


def recipe(scheme: Scheme) -> Recipe:
    return Recipe("r", "", rules(("*", scheme)), Gate(0, 0))


@pytest.mark.parametrize("scheme", [FLOAT, INT8, INT4_B32, Scheme(4)], ids=str)
@pytest.mark.parametrize("name", ["e2b", "gemma3"])
def test_rows_hold_what_was_quantized(checkpoint, tmp_path, name, scheme):
    source = Checkpoint.open(checkpoint(name))
    plan = storage_plan(source, recipe(scheme))
    tables, losses = write_row_files(source, plan, tmp_path)
    assert [f"rows.{name}" for name in tables] == [rows.name for rows in plan.tables]
    for rows in plan.tables:
        values = source.gather(rows.tensor, np.arange(source.config.vocab)).reshape(-1, rows.inputs)
        expected = values if scheme.is_float else quantize(values, scheme)[0].dequantize()
        table = RowTable(tmp_path / file_of(rows), rows.multiplier)
        read = table.rows(np.arange(source.config.vocab)).reshape(-1, rows.inputs)
        assert np.allclose(read, expected * np.float32(rows.multiplier), rtol=1e-6, atol=0)
        assert (losses[rows.name].relative == 0) == scheme.is_float


def test_blocks_that_do_not_divide_a_row_are_refused(checkpoint):
    source = Checkpoint.open(checkpoint("gemma3"))
    tokens = storage_plan(source, recipe(Scheme(4, 48))).tables[0]
    with pytest.raises(GemmaError, match=r"rows\.tokens: 64 values cannot be divided into blocks of 48"):
        row_format(source, tokens)
