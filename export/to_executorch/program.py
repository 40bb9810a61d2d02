"""Methods of parts and puts to a .pte file: values, instructions, where values lie in memory, and the weights.

Caches have an arena of their own, where they lie at the same places for all methods: a host that loads the
methods over one such arena has one set of caches.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from executorch.exir import schema
from executorch.exir.scalar_type import ScalarType

from .methods import Method
from .serialization import Data, tree_text, write_pte
from .xnnpack_graph import INT64, Part, Put, Step, XnnValue

BACKEND = "XnnpackBackend"
PUT = schema.Operator(name="aten::index_put_", overload="")
ARENA, CACHES = 1, 2  # 0 is that of constants
ALIGNMENT = 16
ALL = -1  # of a dimension that no index chooses from


def write_program(methods: Sequence[Method], caches: Mapping[str, XnnValue], path: Path) -> None:
    """`caches`: by the names that a host finds them under."""
    plans: list[schema.ExecutionPlan] = []
    graphs: list[bytes] = []
    for method in methods:
        plan = Plan(method, caches, first_graph=len(graphs))
        plans.append(plan.written())
        graphs += plan.graphs
    program = schema.Program(
        version=0,
        execution_plan=plans,
        constant_buffer=[schema.Buffer(storage=b"")],
        backend_delegate_data=[schema.BackendDelegateInlineData(data=graph) for graph in graphs],
        segments=[],
        constant_segment=schema.SubsegmentOffsets(segment_index=0, offsets=[]),
    )
    write_pte(program, constants(methods), ALIGNMENT, path)


def constants(methods: Sequence[Method]) -> dict[str, Data]:
    """The constants of all parts, by name."""
    parts = (step for method in methods for step in method.steps if isinstance(step, Part))
    return {constant.name: constant.data for part in parts for constant in part.constants}


class Plan:
    """How one method runs."""

    def __init__(self, method: Method, caches: Mapping[str, XnnValue], first_graph: int) -> None:
        self.method, self.first_graph = method, first_graph
        self.graphs: list[bytes] = []
        self.values: list[schema.EValue] = []
        lives = lifetimes(method, set(caches.values()))
        places, size = arranged(lives)
        cache_places, cache_size = arranged({value: Life(0, 0) for value in caches.values()})
        self.sizes = [0, size, cache_size]
        self.numbers: dict[XnnValue, int] = {}
        for name, value in caches.items():
            self.tensor(value, CACHES, cache_places[value], schema.ExtraTensorInfo(fully_qualified_name=name))
        for value in lives:
            self.tensor(value, ARENA, places[value], None)

    def tensor(self, value: XnnValue, arena: int, offset: int, extra: schema.ExtraTensorInfo | None) -> None:
        where = schema.AllocationDetails(arena, offset & 0xFFFFFFFF, offset >> 32)
        self.numbers[value] = self.other(
            schema.Tensor(
                scalar_type=ScalarType.LONG if value.datatype == INT64 else ScalarType.FLOAT,
                storage_offset=0,
                sizes=list(value.shape),
                dim_order=list(range(len(value.shape))),
                requires_grad=False,
                layout=0,
                data_buffer_idx=0,
                allocation_info=where,
                shape_dynamism=schema.TensorShapeDynamism.STATIC,
                extra_tensor_info=extra,
            )
        )

    def other(self, value: Any) -> int:
        self.values.append(schema.EValue(value))
        return len(self.values) - 1

    def written(self) -> schema.ExecutionPlan:
        method = self.method
        instructions = [schema.Instruction(call) for call in self.instructions()]
        graphs = range(self.first_graph, self.first_graph + len(self.graphs))
        return schema.ExecutionPlan(
            name=method.name,
            container_meta_type=schema.ContainerMetadata(*tree_text(len(method.inputs), len(method.outputs))),
            values=self.values,
            inputs=[self.numbers[value] for value in method.inputs.values()],
            outputs=[self.numbers[value] for value in method.outputs],
            chains=[schema.Chain(inputs=[], outputs=[], instructions=instructions, stacktrace=None)],
            operators=[PUT],
            delegates=[schema.BackendDelegate(BACKEND, inline(graph), compile_specs=[]) for graph in graphs],
            non_const_buffer_sizes=self.sizes,
        )

    def instructions(self) -> Iterator[schema.DelegateCall | schema.KernelCall]:
        for step in self.method.steps:
            if isinstance(step, Part):
                yield self.call(step, [value for value in step.outputs if value in self.numbers])
            else:
                yield self.put(step)

    def call(self, part: Part, outputs: Sequence[XnnValue]) -> schema.DelegateCall:
        self.graphs.append(part.written(outputs))
        return schema.DelegateCall(len(self.graphs) - 1, [self.numbers[value] for value in (*part.read, *outputs)])

    def put(self, step: Put) -> schema.KernelCall:
        indices = [ALL] * step.dimension + [self.numbers[step.slots]]
        cache = self.numbers[step.cache]
        chosen, added = self.other(schema.OptionalTensorList(indices)), self.other(schema.Bool(bool_val=False))
        return schema.KernelCall(0, [cache, chosen, self.numbers[step.new], added, cache])


def inline(index: int) -> schema.BackendDelegateDataReference:
    return schema.BackendDelegateDataReference(schema.DataLocation.INLINE, index)


@dataclass(frozen=True)
class Life:
    """Steps from the one that makes a value to the last that reads it."""

    first: int
    last: int

    def meets(self, other: Life) -> bool:
        return self.first <= other.last and other.first <= self.last


def lifetimes(method: Method, caches: set[XnnValue]) -> dict[XnnValue, Life]:
    """Give the lives of values that come from outside, leave, or are read in another step than makes them."""
    end = len(method.steps)
    lives = dict.fromkeys(method.inputs.values(), Life(0, 0))
    maker: dict[XnnValue, int] = {}
    for index, step in enumerate(method.steps):
        for value in read(step):
            if value not in caches:
                lives[value] = Life(lives[value].first if value in lives else maker[value], index)
        if isinstance(step, Part):
            maker |= dict.fromkeys(step.outputs, index)
    return lives | {value: Life(maker[value], end) for value in method.outputs}


def read(step: Step) -> list[XnnValue]:
    return step.read if isinstance(step, Part) else [step.new, step.slots]


def arranged(lives: Mapping[XnnValue, Life]) -> tuple[dict[XnnValue, int], int]:
    """A place in bytes for each, the largest first, and what all take: none that live at once overlap."""
    places: dict[XnnValue, int] = {}
    for value in sorted(lives, key=lambda other: -size(other)):
        beside = [other for other in places if lives[other].meets(lives[value])]
        taken = sorted((places[other], places[other] + size(other)) for other in beside)
        offset = 0
        for start, end in taken:
            if offset + size(value) <= start:
                break
            offset = max(offset, end)
        places[value] = offset
    return places, max((places[other] + size(other) for other in places), default=0)


def size(value: XnnValue) -> int:
    """Bytes, aligned."""
    count = prod(value.shape) * (8 if value.datatype == INT64 else 4)
    return -(-count // ALIGNMENT) * ALIGNMENT
