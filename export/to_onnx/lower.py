"""Graph -> onnx/decoder.onnx and its data file, for onnxruntime on a CPU.

One graph serves prompt and decoding.  Linears become MatMulNBits over our integers, `attend` becomes
GroupQueryAttention with the head norms before it.  A sliding layer's cache is a window that the
host moves (FORMAT.md, "Caches"), so that plain GroupQueryAttention with explicit positions serves
every onnxruntime from 1.29 on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import onnx
from onnx import TensorProto, helper

from runtime.bundle.manifest import Artifact, Memory, Tensor
from runtime.engine.chunk import CHUNK
from runtime.errors import GemmaError

from ..model.capture import Graph
from ..model.config import GemmaConfig
from ..weights.linears import Weights
from .builder import Lowering, every_node
from .caches import MOST
from .external_data import ExternalData
from .operators import TRANSLATIONS
from .settings import Settings

# (bits, block) with a fast kernel; others fall back to one that is up to 50 times slower.
FAST = {
    (2, 32),
    (2, 64),
    (2, 128),
    (4, 16),
    (4, 32),
    (4, 64),
    (4, 128),
    (4, 256),
    (8, 16),
    (8, 32),
    (8, 64),
    (8, 128),
    (8, 256),
}


def lower(graph: Graph, settings: Settings, weights: Weights, folder: Path) -> Artifact:
    """Write the artifact below `folder`; raises GemmaError for an operator that is not known."""
    (folder / "onnx").mkdir()
    with ExternalData(folder / "onnx" / "decoder.data") as data:
        lowering = Lowering(graph, settings, weights, data)
        lowering.translate(TRANSLATIONS)
        model = lowering.model()
    path = folder / "onnx" / "decoder.onnx"
    path.write_bytes(model.SerializeToString())
    return Artifact(
        file="onnx/decoder.onnx",
        data="onnx/decoder.data",
        inputs=[described(value) for value in model.graph.input],
        outputs=[described(value) for value in model.graph.output],
        operators=census(model),
        memory=memory(data.tensors, graph.config),
    )


def memory(tensors: Sequence[TensorProto], config: GemmaConfig) -> Memory:
    """Say what memory onnxruntime takes, found by measuring (DECISIONS.md).

    It packs integers and scales into memory of its own and adds a float32 sum to each scale; a matrix
    of floats is packed too.  While it loads, the largest tensor stands beside its copy, and the file's
    scales are mapped.  A call holds the widest feed-forward of the layers that read a
    whole prompt (gate and up, and two factors), all their per-layer inputs twice, and four hidden states.
    """
    sizes = {tensor.name: int(tensor.external_data[2].value) for tensor in tensors}
    scales = sum(size for name, size in sizes.items() if name.endswith(".scales"))
    own = config.layers[: config.own_kv_layers]
    wide = 4 * max(layer.intermediate for layer in own) + 4 * config.hidden + 2 * len(own) * config.per_layer_dim
    score = 4 * max(layer.heads for layer in config.layers) if config.cache_bits else 0  # others are in tiles
    row, rows = floats_of_caches(config) if config.cache_bits else (0, 0)
    return Memory(
        weights=sum(sizes.values()) + scales,
        loading=max(sizes.values()) + scales,
        token=4 * wide,
        score=score,
        row=row,
        rows=rows,
    )


def floats_of_caches(config: GemmaConfig) -> tuple[int, int]:
    """Bytes for a position of an int8 cache that a call reads as floats, and the most positions.

    Integers, floats and their copy, of keys and values; the last layer with a cache only stores in it.
    """
    attending = config.layers[: config.own_kv_layers - 1]
    full = [layer for layer in attending if layer.kind == "full"]
    widths = [layer.kv_heads * layer.head_dim for layer in full or attending]
    return 2 * (1 + 4 + 4) * max(widths, default=0), MOST if full else config.window + CHUNK


def described(value: onnx.ValueInfoProto) -> Tensor:
    shape = [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
    dtype = helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type).name
    return Tensor(name=value.name, dtype=dtype, shape=shape)


def census(model: onnx.ModelProto) -> dict[str, int]:
    """Operators by kind.  Raises GemmaError for a matmul that would fall back to a slow kernel."""
    counted: Counter[str] = Counter()
    for node in every_node(model.graph.node):
        kind = node.op_type
        if kind == "MatMulNBits":
            attributes = {a.name: a.i for a in node.attribute}
            bits, block = attributes["bits"], attributes["block_size"]
            kind = f"{kind} int{bits}/{block}"
            if (bits, block) not in FAST:
                raise GemmaError(f"{node.name}: {kind} has no fast kernel in onnxruntime", "choose another recipe")
        counted[kind] += 1
    return dict(sorted(counted.items()))
