"""What moves values against torch, and what is out of range."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from export.to_coreml.movement import MOVEMENT

X = np.arange(48, dtype=np.float32).reshape(2, 4, 6)
T = torch.from_numpy(X)
NO = np.bool_(False)


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int32)


def gathered(*indices: int) -> np.ndarray:
    axis, none = np.int32(1), np.int32(0)
    values: np.ndarray = MOVEMENT["gather"](
        x=X, indices=ints(*indices), axis=axis, batch_dims=none, validate_indices=NO
    )
    return values


CASES = {
    "concat": (MOVEMENT["concat"](values=[X, X], axis=np.int32(1), interleave=NO), torch.cat([T, T], 1)),
    "gather": (gathered(3, 0), T.index_select(1, torch.tensor([3, 0]))),
    "reshape": (MOVEMENT["reshape"](x=X, shape=ints(8, 6)), T.reshape(8, 6)),
    "slice_by_index": (MOVEMENT["slice_by_index"](x=X, begin=ints(0, 1, 2), end=ints(2, 3, 6)), T[:, 1:3, 2:]),
    "slice_by_size": (MOVEMENT["slice_by_size"](x=X, begin=ints(1, 0, 3), size=ints(1, 4, 2)), T[1:, :, 3:5]),
    "slice_update": (
        MOVEMENT["slice_update"](x=X, update=-X[:1, :2], begin=ints(1, 2, 0), end=ints(2, 4, 6)),
        T.clone().index_put((torch.tensor([1, 1]), torch.tensor([2, 3])), -T[0, :2]),
    ),
    "split": (MOVEMENT["split"](x=X, split_sizes=ints(2, 4), axis=np.int32(-1))[1], T.split([2, 4], -1)[1]),
    "transpose": (MOVEMENT["transpose"](x=X, perm=ints(1, 0, 2)), T.permute(1, 0, 2)),
}


@pytest.mark.parametrize("name", MOVEMENT)
def test_an_operator_moves_as_torch_does(name):
    found, expected = CASES[name]
    assert np.array_equal(found, expected.numpy())


def test_an_update_leaves_what_was_read():
    before = X.copy()
    MOVEMENT["slice_update"](x=X, update=X[:1] * 0, begin=ints(1, 0, 0), end=ints(2, 4, 6))
    assert np.array_equal(X, before)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("slice_by_index", {"begin": ints(0, 0, 0), "end": ints(2, 5, 6)}),
        ("slice_by_index", {"begin": ints(0, -1, 0), "end": ints(2, 4, 6)}),
        ("slice_by_index", {"begin": ints(0, 2, 0), "end": ints(2, 2, 6)}),
        ("slice_by_size", {"begin": ints(0, 2, 0), "size": ints(2, 3, 6)}),
        ("slice_by_size", {"begin": ints(0, 0), "size": ints(2, 4)}),
        ("slice_update", {"update": X[:, :2], "begin": ints(0, 3, 0), "end": ints(2, 5, 6)}),
        ("slice_update", {"update": X[:, :1], "begin": ints(0, 2, 0), "end": ints(2, 4, 6)}),
        ("split", {"split_sizes": ints(2, 3), "axis": np.int32(-1)}),
        ("gather", {"indices": ints(4), "axis": np.int32(1), "batch_dims": np.int32(0), "validate_indices": NO}),
        ("gather", {"indices": ints(-1), "axis": np.int32(1), "batch_dims": np.int32(0), "validate_indices": NO}),
    ],
)
def test_what_is_out_of_range_is_refused(name, arguments):
    with pytest.raises(ValueError, match=r"of|into"):
        MOVEMENT[name](x=X, **arguments)
