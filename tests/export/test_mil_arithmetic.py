"""The evaluator's arithmetic against torch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from export.to_coreml.arithmetic import ARITHMETIC

RNG = np.random.default_rng(0)
X, Y = (RNG.standard_normal((2, 3, 8)).astype(np.float32) for _ in range(2))
TX, TY = torch.from_numpy(X), torch.from_numpy(Y)
TRUE, FALSE = np.bool_(True), np.bool_(False)

CASES: dict[str, tuple[dict[str, Any], torch.Tensor]] = {
    "add": ({"x": X, "y": Y}, TX + TY),
    "sub": ({"x": X, "y": Y}, TX - TY),
    "mul": ({"x": X, "y": Y}, TX * TY),
    "real_div": ({"x": X, "y": Y}, TX / TY),
    "round": ({"x": np.array([-1.5, -0.5, 0.5, 1.5, 2.5], np.float32)}, torch.tensor([-2.0, 0.0, 0.0, 2.0, 2.0])),
    "clip": ({"x": X, "alpha": np.float32(-1), "beta": np.float32(0.5)}, TX.clamp(-1, 0.5)),
    "identity": ({"x": X}, TX),
    "tanh": ({"x": X}, torch.tanh(TX)),
    "rsqrt": ({"x": X * X, "epsilon": np.float32(1e-3)}, torch.rsqrt(TX * TX + 1e-3)),
    "reduce_mean": ({"x": X, "axes": np.array([-1], np.int32), "keep_dims": TRUE}, TX.mean(-1, keepdim=True)),
    "softmax": ({"x": X, "axis": np.int32(-1)}, TX.softmax(-1)),
    "gelu": ({"x": X * 3, "mode": "TANH_APPROXIMATION"}, torch.nn.functional.gelu(TX * 3, approximate="tanh")),
    "matmul": ({"x": X, "y": Y, "transpose_x": FALSE, "transpose_y": TRUE}, TX @ TY.transpose(-1, -2)),
}


@pytest.mark.parametrize("name", ARITHMETIC)
def test_an_operator_computes_what_torch_does(name):
    arguments, expected = CASES[name]
    found = ARITHMETIC[name](**arguments)
    assert found.dtype == np.float32
    assert np.abs(found - expected.numpy()).max() < 1e-5


def test_float16_is_summed_in_float32():
    x = np.full((1, 4096), 8, np.float16)
    found = ARITHMETIC["matmul"](x=x, y=x, transpose_x=FALSE, transpose_y=TRUE)
    assert found.tolist() == [[262144.0]]  # past float16


def test_the_other_gelu_is_refused():
    with pytest.raises(ValueError, match="EXACT"):
        ARITHMETIC["gelu"](x=X, mode="EXACT")
