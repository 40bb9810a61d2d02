"""Linears over the containers of executorch_weights.py, as the patterns that XNNPACK recognizes."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.ao.quantization.fx._decomposed  # noqa: F401  registers operators
import torchao.quantization.quant_primitives  # noqa: F401  as well
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from .executorch_weights import Container, Part

torchao, decomposed = torch.ops.torchao, torch.ops.quantized_decomposed


class Inputs:
    """What several linears multiply: x (1, S, K); sums of its blocks are made once for all."""

    def __init__(self, x: Tensor) -> None:
        self.x = x
        self._sums: dict[int, Tensor] = {}

    def rounded(self) -> Tensor:
        """To 8 bits and back, with a scale and zero point for each token.

        For every linear anew: where they share it, XNNPACK's partitioner cuts the graph in pieces.
        """
        block = [1] * (self.x.dim() - 1) + [self.x.shape[-1]]
        how = (torch.int8, -128, 127)
        scale, zero = torchao.choose_qparams_affine(self.x, "ASYMMETRIC", block, *how, None, None, torch.int8)
        codes = torchao.quantize_affine(self.x, block, scale, zero, *how)
        found: Tensor = torchao.dequantize_affine(codes, block, scale, zero, *how)
        return found

    def sums(self, blocks: int, ones: Tensor) -> Tensor:
        """Of every block, (1, S, blocks)."""
        if blocks not in self._sums:
            x = self.x.view(self.x.shape[0], self.x.shape[1], blocks, -1)
            self._sums[blocks] = F.linear(x, ones).flatten(2)
        return self._sums[blocks]


class PartLinear(nn.Module):
    """x · Wᵀ for one part of a container."""

    codes: Tensor
    scales: Tensor
    zeros: Tensor

    def __init__(self, part: Part) -> None:
        super().__init__()
        scales = torch.from_numpy(part.scales)
        self.inputs, self.lowest = int(part.codes.shape[1]), -(1 << (part.bits - 1))
        self.block = self.inputs // scales.shape[1]
        self.by_row = self.block == self.inputs
        self.register_buffer("codes", torch.from_numpy(part.codes))
        self.register_buffer("scales", scales[:, 0].contiguous() if self.by_row else scales)
        self.register_buffer("zeros", torch.zeros(self.scales.shape, dtype=torch.int64 if self.by_row else torch.int8))

    def forward(self, inputs: Inputs) -> Tensor:
        return F.linear(inputs.rounded(), self.weight())

    def weight(self) -> Tensor:
        """XNNPACK knows scales of rows by one operator, those of blocks by another."""
        lowest, highest = self.lowest, -1 - self.lowest
        args: tuple[Any, ...] = (self.codes, self.scales, self.zeros, 0, lowest, highest, torch.int8)
        if self.by_row:
            return decomposed.dequantize_per_channel(*args)  # type: ignore[no-any-return]
        args = (self.codes, [1, self.block], self.scales, self.zeros, torch.int8, lowest, highest)
        return torchao.dequantize_affine(*args)  # type: ignore[no-any-return]


class ContainedLinear(nn.Module):
    """x · Wᵀ of a container."""

    offsets: Tensor
    ones: Tensor

    def __init__(self, container: Container) -> None:
        super().__init__()
        parts = [PartLinear(part) for part in container.parts.values()]
        self.parts, self.blocks = nn.ModuleList(parts), 0
        if container.offsets is not None:
            self.blocks = int(container.offsets.shape[1])
            self.register_buffer("offsets", torch.from_numpy(container.offsets))
            self.register_buffer("ones", torch.ones(1, parts[0].inputs // self.blocks))

    def forward(self, inputs: Inputs) -> Tensor:
        terms: list[Tensor] = [part(inputs) for part in self.parts]
        if self.blocks:
            terms.append(F.linear(inputs.sums(self.blocks, self.ones), self.offsets))
        out = terms[0]
        for term in terms[1:]:
            out = out + term
        return out


class FloatLinear(nn.Module):
    values: Tensor

    def __init__(self, values: NDArray[np.float32]) -> None:
        super().__init__()
        self.register_buffer("values", torch.from_numpy(np.array(values)))

    def forward(self, inputs: Inputs) -> Tensor:
        return F.linear(inputs.x, self.values)
