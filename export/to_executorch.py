"""Graph -> executorch/decoder.pte, for XNNPACK.

Two methods, `prefill` of many tokens and `decode` of one, share weights in the file and caches in memory.
What XNNPACK does not take runs in ExecuTorch's own kernels: writing keys and values into their slots, and
nothing else.  A census holds it to that.
"""

from __future__ import annotations

import operator
import sys
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from executorch.backends.xnnpack import xnnpack_preprocess
from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
from executorch.exir import (
    EdgeCompileConfig,
    EdgeProgramManager,
    ExecutorchBackendConfig,
    to_edge_transform_and_lower,
)
from executorch.exir.passes import MemoryPlanningPass

from quantize.affine import Quantized
from quantize.pack import pack
from runtime.errors import GemmaError
from runtime.manifest import Artifact
from runtime.manifest import Tensor as Described

from .capture import Graph
from .config import GemmaConfig
from .executorch_linears import ContainedLinear, FloatLinear
from .executorch_methods import Method, Rows, Values, empty_caches, example
from .executorch_weights import PART_SEP, Container, contained
from .weights import Weights

TOKENS = 128  # of a call of prefill
CONTEXT = 4096  # positions of the full layers' caches: each step reads them all
ALIGNMENT = 16
# What lowering takes, measured on layers of E2B with heads of two sizes: bytes at the peak, and seconds.
BASE, LAYER = 440_000_000, 57_000_000  # of the libraries; of the graph, for each layer of each method
VALUE, LARGEST = 1.25, 2  # for each weight; for each of the largest matrix
SECONDS = 18
SPILL = 1.03  # bytes of a file over those of its integers, scales and floats
GRAPH_BYTES = 64 << 10  # of the graph itself, for each layer of each method
DELEGATE = "executorch_call_delegate"
IDLE_PASSES = {
    "ConvertToUpsampleBilinear2d", "ConvertToSDPAPass", "FuseBatchNormPass", "DecomposeBatchNorm",
    "InsertPadQDQPass", "Conv1dUnsqueezePass", "PReLUReshapePass",
}  # fmt: skip
OUTSIDE = ("aten.index_put.default",)  # what ExecuTorch's own kernels compute


def lower(graph: Graph, weights: Weights, folder: Path) -> Artifact:
    """Write the artifact below `folder`.

    Raises GemmaError for a matrix that XNNPACK has no exact container for, an operator that is not known or
    that XNNPACK does not take, or a file larger than its weights.
    """
    config = graph.config
    rows = Rows(config.window + TOKENS, min(config.context, CONTEXT))
    announce(config, weights)
    (folder / "executorch").mkdir()
    with TemporaryDirectory(dir=weights.folder) as scratch:
        containers = {
            name: contained(one, name, Path(scratch)) for name, one in weights.items() if isinstance(one, Quantized)
        }
        inputs = {
            "prefill": example(config, rows, TOKENS, whole=False),
            "decode": example(config, rows, 1, whole=True),
        }
        edge = delegated(methods(graph, weights, containers, rows, inputs), inputs)
        operators = census(edge, config)
        name_weights(edge, containers)
        path = folder / "executorch" / "decoder.pte"
        write(edge, path)
        check_size(path, expected_bytes(weights, containers), config)
    return Artifact(
        file="executorch/decoder.pte",
        data="",
        inputs=[described(name, tensor) for name, tensor in inputs["decode"].items()],
        outputs=[
            Described(name="logits", dtype="float32", shape=[1, 1, config.vocab]),
            Described(name="hidden", dtype="float32", shape=[1, 1, config.hidden]),
        ],
        operators=operators | kinds(containers),
        context=rows.full,
        functions={"prefill": TOKENS, "decode": 1},
        states=states(config, rows),
    )


def announce(config: GemmaConfig, weights: Weights) -> None:
    """Say before it begins what it will take."""
    size, seconds = needed(config, weights)
    print(f"lowering for XNNPACK: about {size / 1e9:.1f} GB of memory, {seconds / 60:.0f} minutes", file=sys.stderr)


def needed(config: GemmaConfig, weights: Weights) -> tuple[int, float]:
    """Bytes at the peak, without pages of mapped files, and seconds."""
    sizes = [one.rows * one.inputs for one in weights.values() if isinstance(one, Quantized)]
    layers = len(config.layers) + config.own_kv_layers  # of decode, and of prefill
    size = BASE + LAYER * layers + int(VALUE * sum(sizes)) + LARGEST * max(sizes, default=0)
    return size, SECONDS * layers


def methods(
    graph: Graph,
    weights: Weights,
    containers: Mapping[str, Container],
    rows: Rows,
    inputs: Mapping[str, Mapping[str, torch.Tensor]],
) -> dict[str, Method]:
    linears: dict[str, torch.nn.Module] = {name: ContainedLinear(one) for name, one in containers.items()}
    vectors = {}
    for name, one in weights.items():
        if not isinstance(one, Quantized) and one.ndim == 2:
            linears[name] = FloatLinear(one)
        elif not isinstance(one, Quantized) and one.ndim == 1:  # not the scales of int8 caches, which are ONNX's
            vectors[name] = torch.from_numpy(np.array(one))
    values = Values(linears, vectors, empty_caches(graph.config, rows))
    return {name: Method(graph, values, list(given), whole=name == "decode").eval() for name, given in inputs.items()}


def delegated(modules: Mapping[str, Method], inputs: Mapping[str, Mapping[str, torch.Tensor]]) -> EdgeProgramManager:
    with torch.no_grad(), few_passes(), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of torch, about how ExecuTorch uses it
        programs = {
            name: torch.export.export(module, tuple(inputs[name].values()), strict=False)
            for name, module in modules.items()
        }
        return to_edge_transform_and_lower(
            programs,
            partitioner={name: [XnnpackPartitioner()] for name in programs},
            compile_config=EdgeCompileConfig(_check_ir_validity=False),
        )


@contextmanager
def few_passes() -> Iterator[None]:
    """Without XNNPACK's passes for what no Gemma has: each traces the graph anew, a second for every layer."""

    class Few(xnnpack_preprocess.XNNPACKPassManager):  # type: ignore[misc]
        def __init__(self, program: Any, passes: Any = None) -> None:
            super().__init__(program, passes)
            kept = [one for one in vars(self)["passes"] if one.__name__ not in IDLE_PASSES]
            self.passes = kept

    whole = xnnpack_preprocess.XNNPACKPassManager
    xnnpack_preprocess.XNNPACKPassManager = Few
    try:
        yield
    finally:
        xnnpack_preprocess.XNNPACKPassManager = whole


def census(edge: EdgeProgramManager, config: GemmaConfig) -> dict[str, int]:
    """Operators by kind.  Raises GemmaError for one that XNNPACK did not take, or too many delegates."""
    counted: Counter[str] = Counter()
    for method in sorted(edge.methods):
        for node in edge.exported_program(method).graph.nodes:
            if node.op == "call_function" and node.target is not operator.getitem:
                counted[f"{method} {kind(node.target)}"] += 1
        delegates, most = counted[f"{method} {DELEGATE}"], config.own_kv_layers + 2
        if delegates > most:
            raise GemmaError(
                f"{method}: {delegates} parts for XNNPACK, where {most} are enough", "report this as a bug"
            )
    unexpected = [name for name in counted if name.split()[1] not in (DELEGATE, *OUTSIDE)]
    if unexpected:
        raise GemmaError(
            f"XNNPACK does not take {', '.join(unexpected)}",
            "write it in another form in export/executorch_operators.py",
        )
    return dict(sorted(counted.items()))


def kind(target: Any) -> str:
    """aten.index_put.default, of an operator in any of the dialects."""
    return str(getattr(target, "_op", target))


def name_weights(edge: EdgeProgramManager, containers: Mapping[str, Container]) -> None:
    """Give the weights their names in the file, beside the hashes that XNNPACK finds them by."""
    store = edge._named_data_store
    for name, container in containers.items():
        for part, one in container.parts.items():
            store.add_named_data(f"{name}{PART_SEP}{part}", pack(np.asarray(one.codes), one.bits).tobytes(), ALIGNMENT)
        if container.offsets is not None:
            store.add_named_data(f"{name}{PART_SEP}offsets", container.offsets.tobytes(), ALIGNMENT)


def write(edge: EdgeProgramManager, path: Path) -> None:
    program = edge.to_executorch(
        ExecutorchBackendConfig(
            memory_planning_pass=MemoryPlanningPass(share_mutable_buffers=True),
            emit_mutable_buffer_names=True,
            run_reinplace_pass=True,
        )
    )
    with path.open("wb") as file:
        program.write_to_file(file)


def expected_bytes(weights: Weights, containers: Mapping[str, Container]) -> int:
    floats = sum(one.nbytes for one in weights.values() if not isinstance(one, Quantized))
    return floats + sum(one.nbytes for one in containers.values())


def check_size(path: Path, expected: int, config: GemmaConfig) -> None:
    """Raises GemmaError for a file that is larger than its weights: some are there twice, or as floats."""
    size, layers = path.stat().st_size, len(config.layers) + config.own_kv_layers
    if size > SPILL * expected + layers * GRAPH_BYTES:
        raise GemmaError(f"{path}: {size:,} bytes for {expected:,} of weights", "report this as a bug")


def kinds(containers: Mapping[str, Container]) -> dict[str, int]:
    """Matrices by container, for people."""
    return dict(sorted(Counter(container.kind for container in containers.values()).items()))


def states(config: GemmaConfig, rows: Rows) -> list[Described]:
    """The caches, as buffers of the program."""
    return [
        described(f"cache_{layer}_{part}", tensor)
        for layer, cache in empty_caches(config, rows).items()
        for part, tensor in (("key", cache.key), ("value", cache.value))
    ]


def described(name: str, tensor: torch.Tensor) -> Described:
    return Described(name=name, dtype=str(tensor.dtype).removeprefix("torch."), shape=list(tensor.shape))
