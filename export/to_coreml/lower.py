"""Graph -> coreml/decoder.mlpackage: a Core ML program for iOS 18 and macOS 15.

Two functions of static shapes share the weights and the states: `prefill` reads many tokens and
answers one of them, `decode` reads one.  The program is written as it is walked, and the weight file
as a stream from the integers on disk, so that memory does not grow with the model.
"""

from __future__ import annotations

import json
import math
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from coremltools.proto import FeatureTypes_pb2, Model_pb2
from coremltools.proto import MIL_pb2 as mil
from numpy.typing import NDArray
from torch.fx import Node

from quantize.affine import Quantized
from runtime.bundle.manifest import Artifact, Tensor
from runtime.errors import GemmaError

from ..model.arrays import PIECE_ROWS, Array, Bytes, Floats, Shape
from ..model.capture import Graph
from ..model.config import FLOATS, KINDS, GemmaConfig, Kind
from ..weights.linears import Weights
from .operators import TRANSLATIONS, Cached, Ends, MilMatrix, Translation
from .program import BlobTensor, FunctionBuilder, MilValue
from .read import scales_as_stored
from .settings import Settings
from .weight_bin import WeightWriter

STATE_ROWS = 32  # states have a multiple of this
SPECIFICATION = 9  # iOS 18, macOS 15
NARROWEST = 16  # inputs that share a scale
SLACK = 0.03  # the weight file over integers and scales
EDGE = 192  # bytes a tensor may lose to its record and to alignment
WORST_SCALE = 1e-2  # relative: a float16 scale that is further from the decided one is refused

PACKAGE = "coreml/decoder.mlpackage"
CACHE_SCALES = (".k_scale", ".v_scale")
DATA = "Data/com.apple.CoreML"
# What the program may be made of.
OPERATORS = {
    "add", "cast", "clip", "concat", "const", "constexpr_blockwise_shift_scale", "constexpr_lut_to_dense", "gather",
    "gelu", "identity", "linear", "matmul", "mul", "read_state", "real_div", "reduce_mean", "reshape", "round", "rsqrt",
    "slice_by_index", "slice_by_size", "slice_update", "softmax", "split", "sub", "tanh", "transpose", "write_state",
}  # fmt: skip


def lower(graph: Graph, settings: Settings, weights: Weights, folder: Path) -> Artifact:
    """Write the artifact below `folder`.

    Raises GemmaError for an operator that is not known, or weights that Core ML can not hold.
    """
    package = folder / PACKAGE
    (package / DATA / "weights").mkdir(parents=True)
    path = package / DATA / "weights" / "weight.bin"
    with WeightWriter(path) as writer:
        stored = StoredWeights(writer, graph.config, weights)
        functions = {
            name: CoreMLFunction(graph, stored, tokens, settings.context)
            for name, tokens in (("prefill", settings.tokens), ("decode", 1))
        }
        stored.check_all_used(set.intersection(*(function.translation.used for function in functions.values())))
    check_size(path, weights, [4 * matrix.shape[0] for matrix in stored.matrices.values() if matrix.factor])
    program = mil.Program(version=1, functions={name: function.function for name, function in functions.items()})
    operators = census(program)
    model = specification(program, functions)
    (package / DATA / "model.mlmodel").write_bytes(model.SerializeToString(deterministic=True))
    (package / "Manifest.json").write_text(json.dumps(package_items(), indent=2) + "\n", encoding="utf-8")
    prefill = functions["prefill"]
    return Artifact(
        file=f"{PACKAGE}/{DATA}/model.mlmodel",
        data=f"{PACKAGE}/{DATA}/weights/weight.bin",
        inputs=[described(value) for value in prefill.to.inputs],
        outputs=[described(value) for value in prefill.outputs],
        operators=operators,
        functions={name: function.tokens for name, function in functions.items()},
        states=[described(value) for value in prefill.to.states],
        scale_error=stored.scale_error,
    )


def described(value: MilValue) -> Tensor:
    return Tensor(name=value.name, dtype=value.dtype, shape=list(value.shape))


# ---- the weight file ----


class StoredWeights:
    """All weights in the weight file, for every function to refer to."""

    def __init__(self, writer: WeightWriter, config: GemmaConfig, weights: Weights) -> None:
        self.writer, self.config = writer, config
        self.matrices: dict[str, MilMatrix] = {}
        self.vectors: dict[str, BlobTensor] = {}
        self.scale_error = 0.0
        self._zeros: dict[tuple[str, int], BlobTensor] = {}
        for name in weights:
            if name.endswith(CACHE_SCALES):
                continue  # of int8 caches: the states here are float16
            weight = weights[name]
            if isinstance(weight, Quantized):
                self.matrices[name] = self._integers(name, weights)
            elif weight.ndim == 2:
                self.matrices[name] = MilMatrix(self._floats(weight, weights.read_rows(name, PIECE_ROWS)))
            else:
                self.vectors[name] = self._floats(weight, iter([np.asarray(weight)]))

    def zeros(self, dtype: str, size: int) -> BlobTensor:
        """Store the zeros that a linear adds, once for each size."""
        if (dtype, size) not in self._zeros:
            record = self.writer.write(dtype, (size,), [np.zeros(size, dtype)])
            self._zeros[dtype, size] = BlobTensor(record, dtype, (size,))
        return self._zeros[dtype, size]

    def check_all_used(self, used: set[str]) -> None:
        left = sorted({*self.matrices, *self.vectors} - used)
        if left:
            raise RuntimeError(f"weights not used: {left}")

    def _floats(self, array: Array, pieces: Iterator[Array]) -> BlobTensor:
        return BlobTensor(self.writer.write("float32", array.shape, pieces), "float32", array.shape)

    def _integers(self, name: str, weights: Weights) -> MilMatrix:
        weight = weights[name]
        assert isinstance(weight, Quantized)
        decided = even_scales(name, weight)
        shape, scales = (weight.rows, weight.inputs), scales_as_stored(decided)
        factor = self._factor(name, decided, scales)
        moved = self._moved(name, decided, scales)
        self.scale_error = max(self.scale_error, 0.0 if factor else moved)
        if weight.scheme.bits == 2:
            table = (scales[..., None] * np.arange(-2, 2, dtype=np.float32)).astype(np.float16)[..., None]
            return MilMatrix(self._packed(weight, "uint2", shape), table=self._small(table), factor=factor)
        kind = "int4" if weight.scheme.bits == 4 else "int8"
        return MilMatrix(self._packed(weight, kind, shape), scale=self._small(scales.astype(np.float16)), factor=factor)

    def _factor(self, name: str, decided: Floats, kept: Floats) -> BlobTensor | None:
        """Store what float16 takes from each scale: with rounded inputs a last digit moves values to other steps."""
        static = self.config.activation_scales.get(name.removesuffix(".weight"), FLOATS).input
        if not static or decided.shape[1] > 1:
            return None
        rest = np.divide(decided, kept, out=np.ones_like(decided), where=kept != 0)[:, 0]
        values = rest * np.float32(static)
        return BlobTensor(self.writer.write("float32", values.shape, [values]), "float32", values.shape)

    def _packed(self, weight: Quantized, dtype: str, shape: Shape) -> BlobTensor:
        return BlobTensor(self.writer.write(dtype, shape, packed_pieces(weight)), dtype, shape)

    def _small(self, array: NDArray[np.float16]) -> BlobTensor:
        return BlobTensor(self.writer.write("float16", array.shape, [array]), "float16", array.shape)

    @staticmethod
    def _moved(name: str, decided: Floats, kept: Floats) -> float:
        """Give by how much of itself a scale has to move.  Raises GemmaError if that is too much."""
        sized = decided[decided != 0]
        moved = float(np.abs(kept[decided != 0] / sized - 1).max()) if sized.size else 0.0
        if not moved <= WORST_SCALE:
            raise GemmaError(
                f"{name}: Core ML stores scales as float16, which moves one of them by {moved:.2g} of its value",
                "choose another recipe, or another target",
            )
        return moved


def even_scales(name: str, weight: Quantized) -> Floats:
    """Scales (rows, groups) of groups that divide a row: where a last group is shorter, all are cut to what divides.

    Raises GemmaError for rows that no useful groups divide, or that do not fill their bytes.
    """
    width, scales = weight.scheme.width(weight.inputs), np.asarray(weight.scales)
    even = math.gcd(width, weight.inputs)
    if even < min(width, NARROWEST) or weight.inputs * weight.scheme.bits % 8:
        raise GemmaError(
            f"{name}: {weight.scheme} on rows of {weight.inputs} does not come out even, which Core ML asks for",
            "choose another recipe",
        )
    return scales if even == width else np.repeat(scales, width // even, 1)[:, : weight.inputs // even]


def packed_pieces(weight: Quantized) -> Iterator[Bytes]:
    """Bytes as Core ML packs them: as ours, but four bits are two's complement."""
    for start in range(0, weight.rows, PIECE_ROWS):
        piece = np.asarray(weight.packed[start : start + PIECE_ROWS])
        yield piece ^ np.uint8(0x88) if weight.scheme.bits == 4 else piece


def check_size(path: Path, weights: Weights, factors: Sequence[int] = ()) -> None:
    """Raises GemmaError unless the weight file is as large as what was decided: a copy of floats shows here.

    factors: bytes of each factor of rows.
    """
    expected, rows = 0, set()
    for weight in (weights[name] for name in weights if not name.endswith(CACHE_SCALES)):
        if isinstance(weight, Quantized):
            entries = 4 if weight.scheme.bits == 2 else 1  # values of a table, or a scale
            expected += weight.packed.nbytes + 2 * entries * even_scales(str(path), weight).size
        else:
            expected += 4 * weight.size
        rows |= {len(weight.scales) if isinstance(weight, Quantized) else len(weight)}
    expected += sum(factors)
    most = expected * (1 + SLACK) + 2 * (len(weights) + len(factors)) * EDGE
    most += 4 * sum(rows)  # rows: of zeros that linears add
    size = path.stat().st_size
    if not expected <= size <= most:
        raise GemmaError(f"{path}: {size:,} bytes, but integers and scales take {expected:,}", "report this as a bug")


# ---- the functions ----


class CoreMLFunction:
    """One function that reads `tokens` tokens and answers one; its full layers hold `context` positions at most."""

    def __init__(self, graph: Graph, stored: StoredWeights, tokens: int, context: int) -> None:
        self.graph, self.config, self.tokens = graph, graph.config, tokens
        self.rows = state_rows(graph.config, context)
        self.to = FunctionBuilder()
        self.news: dict[str, list[MilValue]] = {}
        ends = self._inputs()
        self.states = {name: self.to.state(name, shape) for name, shape in state_shapes(self.config, self.rows).items()}
        self.before = {name: self.to.read_state(state) for name, state in self.states.items()}
        self.translation = Translation(
            self.to, self.config, ends, self._pasts(), stored.matrices, stored.vectors, stored.zeros
        )
        self._walk()
        self._remember()
        self.function = self.to.function(self.outputs)

    def _inputs(self) -> Ends:
        config, to, s = self.config, self.to, self.tokens
        values = {"inputs_embeds": to.input("inputs_embeds", "float32", (1, s, config.hidden))}
        if config.per_layer_dim:
            shape = (1, s, config.own_kv_layers * config.per_layer_dim)
            values["per_layer_inputs"] = to.input("per_layer_inputs", "float32", shape)
            if config.shared_layers:
                shape = (1, 1, config.shared_layers * config.per_layer_dim)
                values["per_layer_inputs_kept"] = to.input("per_layer_inputs_kept", "float32", shape)
        cos: dict[Kind, MilValue] = {}
        sin: dict[Kind, MilValue] = {}
        mask: dict[Kind, MilValue] = {}
        for kind, rows in self.rows.items():
            half = (1, 1, s, config.rope[kind].head_dim // 2)
            cos[kind] = to.input(f"{kind}_cos", "float32", half)
            sin[kind] = to.input(f"{kind}_sin", "float32", half)
            mask[kind] = to.input(f"{kind}_mask", "float32", (1, 1, s, rows + s))
        self.position = to.input("position", "int32", (1,)) if "full" in cos else None
        kept = to.input("kept", "int32", (1,)) if s > 1 else None
        self.read = to.input("tokens", "int32", (1,)) if s > 1 and "sliding" in cos else None
        return Ends(values, kept, cos, sin, mask)

    def _pasts(self) -> dict[str, MilValue]:
        """Every owning layer's own part (1, K, T, D) of the states, by the graph's names."""
        pasts = {}
        for kind, layers in owners(self.config).items():
            for index, layer in enumerate(layers):
                for part in ("key", "value"):
                    before = self.before[f"{kind}_{part}"]
                    begin, end = (index, 0, 0, 0), (index + 1, *before.shape[1:])
                    pasts[f"past.{layer}.{part}"] = self.to.slice(before, begin, end)
        return pasts

    def _walk(self) -> None:
        of, names = self.translation, iter(self.graph.inputs)
        for node in self.graph.program.graph.nodes:
            if node.op == "placeholder":
                if node.name in self.graph.weights:
                    of.parameters[node] = self.graph.weights[node.name]
                elif node.meta["val"] is not None:
                    name = next(names)
                    of.values[node] = of.ends.values.get(name) or of.pasts.get(name)
            elif node.op == "call_function":
                of.values[node] = translated(of, node)
            else:
                self._finish(dict(zip(self.graph.outputs, node.args[0], strict=True)))

    def _finish(self, ends: dict[str, Node]) -> None:
        of = self.translation
        self.outputs = [of.to.output(of.floats(ends[name]), name) for name in ("logits", "hidden")]
        for kind, layers in owners(self.config).items():
            for part in ("key", "value"):
                cached = [of.values[ends[f"present.{layer}.{part}"]] for layer in layers]
                assert all(isinstance(tensor, Cached) for tensor in cached)
                self.news[f"{kind}_{part}"] = [tensor.new for tensor in cached]

    def _remember(self) -> None:
        """Write the states: the new rows of all layers at once."""
        for name, news in self.news.items():
            before, new = self.before[name], self.to.concat(news, 0) if len(news) > 1 else news[0]
            shift = self._moved if name.startswith("sliding") else self._placed
            self.to.write_state(self.states[name], shift(before, new))

    def _moved(self, before: MilValue, new: MilValue) -> MilValue:
        """Sliding layers: the last rows of the past and of the tokens that were read."""
        to, (layers, kv_heads, rows, dim) = self.to, before.shape
        together = to.concat([before, new], 2)
        if self.read is None:
            return to.slice(together, (0, 0, 1, 0), (layers, kv_heads, rows + 1, dim))
        begin = to.concat([to.integers(0, 0), self.read, to.integers(0)], 0)
        arguments = {"x": together, "begin": begin, "size": to.integers(layers, kv_heads, rows, dim)}
        return to.emit("slice_by_size", arguments, before.dtype, before.shape)

    def _placed(self, before: MilValue, new: MilValue) -> MilValue:
        """Full layers: row p is position p.  What a call read beyond its tokens is written over by the next."""
        assert self.position is not None
        to, (layers, kv_heads, _, dim) = self.to, before.shape
        stop = to.both("add", self.position, to.integers(self.tokens))
        begin = to.concat([to.integers(0, 0), self.position, to.integers(0)], 0)
        end = to.concat([to.integers(layers, kv_heads), stop, to.integers(dim)], 0)
        arguments = {"x": before, "update": new, "begin": begin, "end": end}
        return to.emit("slice_update", arguments, before.dtype, before.shape)


def translated(of: Translation, node: Node) -> Any:
    translate = TRANSLATIONS.get(node.target)
    if translate is None:
        raise GemmaError(
            f"the graph has the operator {node.target}, which the Core ML lowering does not know",
            "add it to export/to_coreml/operators.py",
        )
    return translate(of, node)


def owners(config: GemmaConfig) -> dict[Kind, list[int]]:
    """Layers that own keys and values, by kind; of no kind that none is of."""
    by_kind: dict[Kind, list[int]] = {}
    for kind in KINDS.values():
        layers = [layer.index for layer in config.layers if layer.owns_kv and layer.kind == kind]
        if layers:
            by_kind[kind] = layers
    return by_kind


def state_rows(config: GemmaConfig, context: int) -> dict[Kind, int]:
    """Rows of a state, by kind: the window before a token, and all positions."""
    wanted: dict[Kind, int] = {"sliding": config.window - 1, "full": min(config.context, context)}
    return {kind: -(-wanted[kind] // STATE_ROWS) * STATE_ROWS for kind in owners(config)}


def state_shapes(config: GemmaConfig, rows: Mapping[Kind, int]) -> dict[str, Shape]:
    """Give the shapes (layers, K, rows, D) of a few states: each is one more thing that a phone may refuse."""
    shapes: dict[str, Shape] = {}
    for kind, layers in owners(config).items():
        layer = config.layers[layers[0]]
        for part in ("key", "value"):
            shapes[f"{kind}_{part}"] = (len(layers), layer.kv_heads, rows[kind], layer.head_dim)
    return shapes


# ---- what is around the program ----


def census(program: mil.Program) -> dict[str, int]:
    """Operators by kind, over all functions; a linear's kind says what its weight is made of.

    Raises GemmaError for an operator that was not meant, a linear whose weight is not made of integers or
    stored floats, or a GELU that is not the tanh one.
    """
    counted: Counter[str] = Counter()
    for function in program.functions.values():
        makers: dict[str, mil.Operation] = {}
        for operation in function.block_specializations[function.opset].operations:
            makers |= {value.name: operation for value in operation.outputs}
            counted[kind_of(operation, makers)] += 1
    del counted["const"]
    return dict(sorted(counted.items()))


def kind_of(operation: mil.Operation, makers: dict[str, mil.Operation]) -> str:
    kind = str(operation.type)
    if kind not in OPERATORS:
        raise GemmaError(f"unexpected operator {kind} in the Core ML program", "report this as a bug")
    if kind == "linear":
        weight = makers[operation.inputs["weight"].arguments[0].name]
        if not weight.type.startswith("constexpr_") and weight.attributes["val"].WhichOneof("value") != "blobFileValue":
            raise GemmaError(
                f"{operation.outputs[0].name}: the weight is not stored as integers", "report this as a bug"
            )
        return f"{kind} of {weight.type}"
    if kind == "gelu":
        mode = makers[operation.inputs["mode"].arguments[0].name].attributes["val"].immediateValue.tensor.strings.values
        if list(mode) != ["TANH_APPROXIMATION"]:
            raise GemmaError(
                f"{operation.outputs[0].name}: unexpected GELU of mode {list(mode)}", "report this as a bug"
            )
    return kind


def specification(program: mil.Program, functions: dict[str, CoreMLFunction]) -> Model_pb2.Model:
    model = Model_pb2.Model(specificationVersion=SPECIFICATION, mlProgram=program)
    for name, function in functions.items():
        model.description.functions.append(
            Model_pb2.FunctionDescription(
                name=name,
                input=[feature(value) for value in function.to.inputs],
                output=[feature(value) for value in function.outputs],
                state=[feature(value) for value in function.to.states],
            )
        )
    model.description.defaultFunctionName = "decode"
    return model


def feature(value: MilValue) -> Model_pb2.FeatureDescription:
    array = FeatureTypes_pb2.ArrayFeatureType
    dtype = {"float16": array.FLOAT16, "float32": array.FLOAT32, "int32": array.INT32}[value.dtype]
    kind = array(shape=value.shape, dataType=dtype)
    feature_type = FeatureTypes_pb2.FeatureType(multiArrayType=kind)
    if value.state:
        feature_type = FeatureTypes_pb2.FeatureType(stateType=FeatureTypes_pb2.StateFeatureType(arrayType=kind))
    return Model_pb2.FeatureDescription(name=value.name, type=feature_type)


def package_items() -> dict[str, Any]:
    """Manifest.json of the package: the same for the same files."""
    items = [("model.mlmodel", "CoreML Model Specification"), ("weights", "CoreML Model Weights")]
    names = [str(uuid.uuid5(uuid.NAMESPACE_URL, f"gemma-edge/{name}")) for name, _ in items]
    entries = {
        key: {"author": "com.apple.CoreML", "description": text, "name": name, "path": f"com.apple.CoreML/{name}"}
        for key, (name, text) in zip(names, items, strict=True)
    }
    return {"fileFormatVersion": "1.0.0", "itemInfoEntries": entries, "rootModelIdentifier": names[0]}
