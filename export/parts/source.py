"""A part before it is lowered: a torch module, calls of it, and what a host must know."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.export import Dim, ExportedProgram

from quantize.scheme import FLOAT, Scheme
from runtime.bundle.manifest import Setting


@dataclass(frozen=True)
class PartSource:
    """A graph beside the decoder.

    module: in float32; its forward takes the arrays of a call as keywords, and gives a tensor or a tuple of them
    calls: arrays by the names of the inputs; they are run again to prove the part, and the first is captured
    outputs: names of what the module gives; dims: words for the sizes of inputs that vary, by input and axis
    tolerance: the most that an answer may be off, over the largest value of its output
    most: the largest of the sizes that vary, 0 for no bound; linears: how their weights are stored
    """

    name: str
    kind: str
    module: torch.nn.Module
    calls: tuple[Mapping[str, torch.Tensor], ...]
    outputs: tuple[str, ...]
    tolerance: float
    dims: Mapping[str, Mapping[int, str]] = field(default_factory=dict)
    settings: Mapping[str, Setting] = field(default_factory=dict)
    most: int = 0
    linears: Scheme = FLOAT

    def answers(self, call: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Run the module on a call, in float32; its outputs by name."""
        with torch.no_grad():
            values = self.module.eval()(**call)
        return dict(zip(self.outputs, values if isinstance(values, tuple) else (values,), strict=True))


@dataclass(frozen=True)
class PartGraph:
    """A captured part.

    program: its nodes are aten's; inputs, outputs: names in the order of the program's own
    weights: program input name -> values; words: a size that varies in the program -> its word
    """

    program: ExportedProgram
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    weights: dict[str, torch.Tensor]
    words: dict[str, str]

    def shape(self, name: str, value: torch.Tensor) -> list[int | str]:
        """Return the sizes of a value; one that varies and has no word of its own is named after `name`."""
        sizes: list[int | str] = []
        for axis, size in enumerate(value.shape):
            sizes.append(size if isinstance(size, int) else self.words.get(str(size), f"{name}_{axis}"))
        return sizes


def captured(source: PartSource) -> PartGraph:
    """Capture the module of a part on its first call."""
    call = dict(source.calls[0])
    dynamic = {name: dict.fromkeys(source.dims.get(name, {}), Dim.DYNAMIC) for name in call}  # torch relates them
    program = torch.export.export(source.module.eval(), (), call, dynamic_shapes=dynamic, strict=False)
    signature = program.graph_signature
    state: dict[str, Any] = {**program.state_dict, **program.constants}
    stored = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    stored |= signature.inputs_to_lifted_tensor_constants
    nodes = {node.name: node for node in program.graph.nodes if node.op == "placeholder"}
    ends = dict(zip(signature.user_inputs, call, strict=True))
    words = {
        str(nodes[end].meta["val"].shape[axis]): word
        for end, name in ends.items()
        for axis, word in source.dims.get(name, {}).items()
    }
    weights = {end: state[name].detach() for end, name in stored.items()}
    return PartGraph(program, tuple(call), source.outputs, weights, words)
