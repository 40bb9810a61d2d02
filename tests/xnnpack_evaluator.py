"""A .pte file run by torch, operator by operator: what XNNPACK is compared with.

Read by ExecuTorch's own readers, so that nothing of the exporter is believed.
"""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from executorch.backends.xnnpack.serialization import xnnpack_graph_serialize as serialize
from executorch.exir import schema
from executorch.exir._serialize._flatbuffer import _flatc_decompile
from executorch.exir._serialize._program import deserialize_pte_binary
from torch import Tensor


class EagerProgram:
    """Methods that share their caches."""

    def __init__(self, path: Path) -> None:
        file = deserialize_pte_binary(path.read_bytes())
        self.program = file.program
        named = file.named_data.pte_data if file.named_data else {}
        self.data = {name: file.named_data.buffers[one.buffer_index] for name, one in named.items()}
        self.caches: dict[str, Tensor] = {}
        self.methods: dict[str, EagerMethod] = {}  # those that were asked for

    def method(self, name: str) -> EagerMethod:
        if name not in self.methods:
            plan = next(plan for plan in self.program.execution_plan if plan.name == name)
            self.methods[name] = EagerMethod(self, plan)
        return self.methods[name]


class EagerMethod:
    """With the surface of ExecuTorch's."""

    def __init__(self, program: EagerProgram, plan: schema.ExecutionPlan) -> None:
        self.plan, self._method, self.caches = plan, self, program.caches
        self.graphs = [
            EagerGraph(program.program.backend_delegate_data[one.processed.index].data, program.data)
            for one in plan.delegates
        ]
        self.values = [self.start(one.val) for one in plan.values]

    def start(self, value: Any) -> Any:
        if isinstance(value, schema.Tensor) and value.extra_tensor_info is not None:
            return self.caches.setdefault(value.extra_tensor_info.fully_qualified_name, torch.zeros(value.sizes))
        return value

    def get_attribute(self, name: str) -> Tensor:
        return self.caches[name]

    def execute(self, inputs: list[Tensor]) -> list[Tensor]:
        values = list(self.values)
        for index, one in zip(self.plan.inputs, inputs, strict=True):
            values[index] = one
        for instruction in self.plan.chains[0].instructions:
            call = instruction.instr_args
            if isinstance(call, schema.DelegateCall):
                self.graphs[call.delegate_index].run(values, call.args)
            else:
                cache, indices, new = (values[index] for index in call.args[:3])
                chosen = [slice(None) if index < 0 else values[index] for index in indices.items]
                cache[tuple(chosen)] = new
        return [values[index].clone() for index in self.plan.outputs]


class EagerGraph:
    """One graph of XNNPACK's."""

    def __init__(self, blob: bytes, data: dict[str, bytes]) -> None:
        size = serialize.XNNHeader.EXPECTED_LENGTH
        header = serialize.XNNHeader.from_bytes(blob[:size])
        self.graph = decompiled(blob[header.flatbuffer_offset : header.flatbuffer_offset + header.flatbuffer_size])
        self.data = [b"", *(data[one["named_key"]] for one in self.graph["constant_data"][1:])]
        self.constants: dict[int, Tensor] = {}
        self.external: dict[int, int] = {}  # number in the call -> value
        self.dynamic: set[int] = set()
        self.calls: list[tuple[list[Tensor], list[Tensor]]] = []  # inputs and outputs of every run
        for one in self.graph["xvalues"]:
            self.value(one["xvalue_union"])

    def value(self, one: dict[str, Any]) -> None:
        tensor, how = one.get("tensor_value", one), one.get("quant_params")
        number = tensor.get("id_out", 0)
        if tensor.get("flags", 0):
            self.external[tensor.get("external_id", 0)] = number
        if tensor["datatype"] == "xnn_datatype_qdint8":
            self.dynamic.add(number)
        if tensor.get("constant_buffer_idx", 0):
            self.constants[number] = self.constant(tensor, how)

    def constant(self, tensor: dict[str, Any], how: dict[str, Any] | None) -> Tensor:
        data, shape, kind = self.data[tensor["constant_buffer_idx"]], tensor["dims"], tensor["datatype"]
        if how is None:
            dtype = {"xnn_datatype_fp32": np.float32, "xnn_datatype_fp16": np.float16}[kind]
            return torch.from_numpy(np.frombuffer(data, dtype).astype(np.float32).reshape(shape))
        codes = np.frombuffer(data, np.int8)
        if kind != "xnn_datatype_qcint8":
            low = codes.view(np.uint8)
            codes = np.stack([low & 15, low >> 4], -1).astype(np.int8) - np.int8(8)
        stored = self.data[how["scale_buffer_idx"]]
        if kind == "xnn_datatype_qbint4":
            scales = (np.frombuffer(stored, np.uint16).astype(np.uint32) << 16).view(np.float32)
        else:
            scales = np.frombuffer(stored, np.float32)
        blocks = codes.reshape(shape[0], -1, shape[1] // (len(scales) // shape[0]))
        return torch.from_numpy((blocks * scales.reshape(shape[0], -1, 1)).reshape(shape))

    def run(self, values: list[Any], numbers: list[int]) -> None:
        found = dict(self.constants)
        inputs = set(self.graph["input_ids"])
        read = [values[number].clone() for number in numbers[: len(inputs)]]
        for external, number in self.external.items():
            if number in inputs:
                found[number] = values[numbers[external]]
        for node in self.graph["xnodes"]:
            one = node["xnode_union"]
            out = one["output_id"]
            made = OPERATORS[node["xnode_union_type"]](one, found)
            found[out] = rounded(made) if out in self.dynamic else made
        for external, number in self.external.items():
            if number not in inputs:
                values[numbers[external]] = found[number].contiguous()
        self.calls.append((read, [values[number] for number in numbers[len(inputs) :]]))


def decompiled(flatbuffer: bytes) -> dict[str, Any]:
    with TemporaryDirectory() as folder:
        (Path(folder) / "schema.fbs").write_bytes(serialize._get_schema_bytes())
        (Path(folder) / "graph.bin").write_bytes(flatbuffer)
        _flatc_decompile(folder, f"{folder}/schema.fbs", f"{folder}/graph.bin", ["--raw-binary", "--defaults-json"])
        found: dict[str, Any] = json.loads((Path(folder) / "graph.json").read_text())
        return found


def rounded(x: Tensor) -> Tensor:
    """To 8 bits and back, a vector each: XNNPACK's choice of scale and zero point (params-init, `qd8_asymmetric`)."""
    low, high = x.amin(-1, keepdim=True).clamp(max=0), x.amax(-1, keepdim=True).clamp(min=0)
    factor = torch.where(low == high, torch.ones_like(low), 255 / (high - low))
    from_low = -128 + low * factor + (127 + high * factor) > 0
    zero = torch.where(from_low, -128 - low * factor, 127 - high * factor).clamp(-128, 127).round()
    codes = ((x * factor).round() + zero).clamp(-128, 127)
    return (codes - zero) / factor


def first(one: dict[str, Any], found: dict[int, Tensor]) -> Tensor:
    return found[one["input_id"]]


def two(one: dict[str, Any], found: dict[int, Tensor]) -> tuple[Tensor, Tensor]:
    return found[one["input1_id"]], found[one["input2_id"]]


def sliced(one: dict[str, Any], found: dict[int, Tensor]) -> Tensor:
    where = zip(one["offsets"], one["sizes"], strict=True)
    return first(one, found)[tuple(slice(start, start + size) for start, size in where)]


OPERATORS = {
    "XNNAdd": lambda one, found: torch.add(*two(one, found)),
    "XNNSubtract": lambda one, found: torch.sub(*two(one, found)),
    "XNNMultiply": lambda one, found: torch.mul(*two(one, found)),
    "XNNBatchMatrixMultiply": lambda one, found: torch.bmm(*two(one, found)),
    "XNNFullyConnected": lambda one, found: found[one["input1_id"]] @ found[one["filter_id"]].T,
    "XNNConcatenate2": lambda one, found: torch.cat(two(one, found), one["axis"]),
    "XNNConvert": first,
    "XNNSquare": lambda one, found: first(one, found).square(),
    "XNNReciprocalSquareRoot": lambda one, found: first(one, found).rsqrt(),
    "XNNTanh": lambda one, found: first(one, found).tanh(),
    "XNNSigmoid": lambda one, found: first(one, found).sigmoid(),
    "XNNSoftmax": lambda one, found: first(one, found).softmax(-1),
    "XNNStaticReshape": lambda one, found: first(one, found).reshape(one["new_shape"]),
    "XNNStaticTranspose": lambda one, found: first(one, found).permute(one["perm"]),
    "XNNStaticSlice": sliced,
}
