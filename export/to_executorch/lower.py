"""Graph -> executorch/decoder.pte, for XNNPACK.

Two methods, `prefill` of many tokens and `decode` of one, share weights in the file and caches in memory.
What XNNPACK does not take runs in ExecuTorch's own kernels: writing keys and values into their slots, and
nothing else.  A census holds it to that.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from quantize.affine import Quantized
from runtime.bundle.manifest import Artifact
from runtime.bundle.manifest import Tensor as Described
from runtime.errors import GemmaError

from ..model.arrays import Floats
from ..model.capture import Graph
from ..model.config import FLOATS, GemmaConfig
from ..weights.linears import Weights
from .containers import Container, contained
from .linears import XnnLinear, contained_linear, float_linear
from .methods import CacheRows, Method, MethodWeights, empty_caches, inputs, method
from .operators import Cache
from .program import write_program
from .read import DELEGATE, File
from .settings import Settings
from .xnnpack_graph import XnnValue

# Running the artifact takes the most: libraries, and of each weight the mapped file's and XNNPACK's own copy.
BASE, COPIES = 600_000_000, 2.05
SPILL = 1.03  # bytes of a file over those of its integers, scales and floats
GRAPH_BYTES = 64 << 10  # of the graph itself, for each layer of each method
OUTSIDE = "aten::index_put_"  # what ExecuTorch's own kernels compute


def lower(graph: Graph, settings: Settings, weights: Weights, folder: Path) -> Artifact:
    """Write the artifact below `folder`.

    Raises GemmaError for a matrix that XNNPACK has no exact container for, an operator that is not known, or
    a file that holds its weights twice.
    """
    config = graph.config
    announce(weights)
    path = folder / "executorch" / "decoder.pte"
    path.parent.mkdir()
    with TemporaryDirectory(dir=weights.folder) as scratch:
        model = build(graph, settings, weights, Path(scratch))
        write_program(model.methods, model.states, path)
        check_size(path, expected_bytes(weights, model.containers), config)
    return Artifact(
        file="executorch/decoder.pte",
        data="",
        inputs=model.inputs,
        outputs=[
            Described(name="logits", dtype="float32", shape=[1, 1, config.vocab]),
            Described(name="hidden", dtype="float32", shape=[1, 1, config.hidden]),
        ],
        operators=census(path, config) | kinds(model.containers),
        context=model.rows.full,
        functions={"prefill": settings.tokens, "decode": 1},
        states=[Described(name=name, dtype="float32", shape=list(value.shape)) for name, value in model.states.items()],
    )


@dataclass(frozen=True)
class MethodModel:
    """What a program is written of.

    inputs: those of `decode`; states: the caches, by the names they have in the file
    """

    methods: list[Method]
    inputs: list[Described]
    states: dict[str, XnnValue]
    containers: dict[str, Container]
    rows: CacheRows


def build(graph: Graph, settings: Settings, weights: Weights, scratch: Path) -> MethodModel:
    """Build both methods of a graph; the codes of its matrices are written below `scratch`.

    Raises GemmaError for a matrix that XNNPACK has no exact container for, or an operator that is not known.
    """
    config = graph.config
    rows = CacheRows(config.window + settings.tokens, min(config.context, settings.context))
    calls = {
        "decode": inputs(config, rows, 1, whole=True),
        "prefill": inputs(config, rows, settings.tokens, whole=False),
    }
    containers = {
        name: contained(weight, name, scratch, static=has_static_input(config, name))
        for name, weight in weights.items()
        if isinstance(weight, Quantized)
    }
    caches = empty_caches(config, rows)
    shared = MethodWeights(linears(weights, containers), vectors(weights), caches)
    methods = [method(name, graph, shared, tensors, whole=name == "decode") for name, tensors in calls.items()]
    return MethodModel(methods, calls["decode"], states(caches), containers, rows)


def has_static_input(config: GemmaConfig, parameter: str) -> bool:
    return config.activation_scales.get(parameter.removesuffix(".weight"), FLOATS).input > 0


def announce(weights: Weights) -> None:
    """Say before it begins what it will take."""
    size = BASE + COPIES * sum(weight.nbytes for weight in weights.values())
    print(f"executorch: about {size / 1e9:.1f} GB of memory", file=sys.stderr)


def linears(weights: Weights, containers: Mapping[str, Container]) -> dict[str, XnnLinear]:
    integers = {name: contained_linear(name, container) for name, container in containers.items()}
    return integers | {name: float_linear(name, matrix) for name, matrix in float_weights(weights, 2).items()}


def vectors(weights: Weights) -> dict[str, Floats]:
    """Norms and scalars; not the scales of int8 caches, which are ONNX's."""
    return {name: np.asarray(vector, np.float32) for name, vector in float_weights(weights, 1).items()}


def float_weights(weights: Weights, dimensions: int) -> dict[str, Floats]:
    """What stays float, of a number of dimensions."""
    floats = {name: weight for name, weight in weights.items() if not isinstance(weight, Quantized)}
    return {name: np.asarray(weight) for name, weight in floats.items() if weight.ndim == dimensions}


def census(path: Path, config: GemmaConfig) -> dict[str, int]:
    """Calls of the written file by kind.

    Raises GemmaError for one that is not XNNPACK's but for writing caches, or more parts than these cut.
    """
    counted = Counter(File(path).calls())
    for name, count in counted.items():
        method, kind = name.split(maxsplit=1)
        if kind == DELEGATE and count > config.own_kv_layers + 1:
            raise GemmaError(
                f"{method} has {count} XNNPACK parts, more than one for each cache", "report this as a bug"
            )
        if kind not in (DELEGATE, OUTSIDE):
            raise GemmaError(
                f"XNNPACK does not support {name}", "write it in another form in export/to_executorch/operators.py"
            )
    return dict(sorted(counted.items()))


def expected_bytes(weights: Weights, containers: Mapping[str, Container]) -> int:
    floats = sum(weight.nbytes for weight in weights.values() if not isinstance(weight, Quantized))
    return floats + sum(container.nbytes for container in containers.values())


def check_size(path: Path, expected: int, config: GemmaConfig) -> None:
    """Raises GemmaError for a file that is larger than its weights: some are there twice, or as floats."""
    size, layers = path.stat().st_size, len(config.layers) + config.own_kv_layers
    if size > SPILL * expected + layers * GRAPH_BYTES:
        raise GemmaError(f"{path} has {size:,} bytes for {expected:,} bytes of weights", "report this as a bug")


def kinds(containers: Mapping[str, Container]) -> dict[str, int]:
    """Matrices by container, for people."""
    return dict(sorted(Counter(container.kind for container in containers.values()).items()))


def states(caches: Mapping[int, Cache]) -> dict[str, XnnValue]:
    """The caches, by the names they have in the file."""
    tensors: dict[str, XnnValue] = {}
    for layer, cache in caches.items():
        tensors |= {f"cache_{layer}_key": cache.key, f"cache_{layer}_value": cache.value}
    return tensors
