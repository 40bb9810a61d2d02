"""How each tensor of a checkpoint is stored in a bundle: decided here once, and read by everybody.

Whether the integers of a release are kept is asked nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Literal

from quantize.recipe import Recipe
from quantize.scheme import FLOAT, Scales, Scheme
from runtime.errors import GemmaError

from ..model.arrays import Shape
from ..model.config import GemmaConfig
from ..model.tensors import HEAD, TABLE, needed

if TYPE_CHECKING:
    from ..checkpoint.checkpoint import Checkpoint

StoredAs = Literal["packed", "on_grid", "rounded", "float"]
PER_LAYER_TABLE = "embed_tokens_per_layer.weight"
ROWS = "rows."  # begins the name of what becomes a row file
PER_LAYER_PROJECTION = "per_layer_model_projection"  # one matrix of a checkpoint, two of the graph


@dataclass(frozen=True, kw_only=True)
class Placement:
    """A weight of the graph, or a row file, and the rows of a checkpoint's tensor that it holds.

    name: what the pattern of a recipe's rule is matched with
    parameter: its name in model.TextDecoder; "" for a row file
    rows: of the tensor, read as a matrix; inputs: values in a row, or in one part of it; 0 for a vector
    parts: of a row, one for each layer that reads it; multiplier: what a row is multiplied by when it is read
    """

    name: str
    tensor: str
    rows: range
    inputs: int
    parameter: str = ""
    parts: int = 1
    multiplier: float = 1.0

    @property
    def values(self) -> int:
        """The number of values that a scheme says how to store; a vector has none."""
        return len(self.rows) * self.parts * self.inputs


@dataclass(frozen=True, kw_only=True)
class StoredTensor(Placement):
    """A placement, and what is stored there.

    source: "packed", the integers of a release as they are; "on_grid", those that its floats were made of;
        "rounded", integers that are chosen here; "float", the checkpoint's own values
    scales: how the scales of rounded integers are chosen
    """

    scheme: Scheme
    source: StoredAs
    scales: Scales = "least-squares"


@dataclass(frozen=True)
class StoragePlan:
    """Row files, and then the weights in the order of the checkpoint.

    rescored: the best logits that a runtime computes again from the token rows
    cache_scales: of int8 keys and values, as they were released, by parameter
    """

    tensors: tuple[StoredTensor, ...]
    rescored: int
    cache_scales: dict[str, float]

    @property
    def tables(self) -> tuple[StoredTensor, ...]:
        """What becomes row files."""
        return tuple(tensor for tensor in self.tensors if not tensor.parameter)

    @property
    def weights(self) -> tuple[StoredTensor, ...]:
        """What the graph holds."""
        return tuple(tensor for tensor in self.tensors if tensor.parameter)

    @property
    def rules(self) -> list[list[str]]:
        """Names and schemes of what is stored as it was released; they come before the recipe's own rules."""
        kept = (tensor for tensor in self.tensors if tensor.source in ("packed", "on_grid"))
        return [[tensor.name, str(tensor.scheme)] for tensor in kept]

    @property
    def is_float(self) -> bool:
        return all(tensor.source == "float" for tensor in self.tensors)


def storage_plan(checkpoint: Checkpoint, recipe: Recipe) -> StoragePlan:
    """Decide how every tensor is stored.

    Raises GemmaError for a recipe that keeps integers which the checkpoint does not have, and for a table whose
    integers a row file can not hold.
    """
    if not has_what_it_keeps(checkpoint, recipe):
        raise GemmaError(
            f"{checkpoint.folder} holds floats, but the recipe {recipe.name} needs a release of integers",
            "choose another recipe",
        )
    tensors = tuple(stored_tensor(checkpoint, recipe, placement) for placement in placements(checkpoint.config))
    keeps = recipe.keeps_released_integers
    # Where the rows hold the integers that the head holds, there is nothing to compute again.
    rescored = 0 if keeps and checkpoint.packed(TABLE) else recipe.rescored
    return StoragePlan(tensors, rescored, dict(checkpoint.cache_scales) if keeps else {})


def has_what_it_keeps(checkpoint: Checkpoint, recipe: Recipe) -> bool:
    """Whether a checkpoint has the integers that a recipe keeps; true for a recipe that keeps none."""
    return checkpoint.of_integers or not recipe.keeps_released_integers


def stored_tensor(checkpoint: Checkpoint, recipe: Recipe, placement: Placement) -> StoredTensor:
    source = source_of(checkpoint, recipe, placement)
    return StoredTensor(
        **vars(placement),
        scheme=scheme_of(checkpoint, recipe, placement, source),
        source=source,
        scales=recipe.scales_of(placement.name) if placement.parameter else "least-squares",
    )


def source_of(checkpoint: Checkpoint, recipe: Recipe, placement: Placement) -> StoredAs:
    if recipe.keeps_released_integers and checkpoint.packed(placement.tensor):
        return "packed"
    if recipe.keeps_released_integers and placement.parameter and placement.tensor in checkpoint.on_grid:
        return "on_grid"
    return "float" if not placement.inputs or recipe.scheme(placement.name).is_float else "rounded"


def scheme_of(checkpoint: Checkpoint, recipe: Recipe, placement: Placement, source: StoredAs) -> Scheme:
    """The scheme of a row, or of one part of it."""
    if source in ("packed", "on_grid"):
        released = checkpoint.released_schemes[placement.tensor]
        return released if placement.parameter else part_scheme(checkpoint, placement)
    return recipe.scheme(placement.name) if placement.inputs else FLOAT


def part_scheme(checkpoint: Checkpoint, placement: Placement) -> Scheme:
    """The scheme of one layer's part of a released row.

    Raises GemmaError for scales that go over parts of several layers: a row file has none such.
    """
    packed = checkpoint.packed(placement.tensor)
    assert packed is not None  # source_of said so
    scales = packed.scales.shape[1]
    if (scales > 1 and scales % placement.parts) or placement.inputs * packed.bits % 8:
        raise GemmaError(
            f"{packed.scales.origin}: {scales} scales for each row cannot be divided among {placement.parts} layers",
            "choose another recipe",
        )
    groups = scales // placement.parts  # 0: one scale for all layers
    return Scheme(packed.bits, placement.inputs // groups if groups > 1 else 0)


def values(tensors: Iterable[StoredTensor]) -> int:
    """The number of values in all of them, for progress."""
    return sum(tensor.values for tensor in tensors)


def placements(config: GemmaConfig) -> tuple[Placement, ...]:
    """Say where every tensor of a model goes: row files first, then the parameters of model.TextDecoder."""
    shapes = needed(config)
    weights = (placement for tensor, shape in shapes.items() for placement in weights_of(config, tensor, shape))
    return (*row_files(config), *weights)


def row_files(config: GemmaConfig) -> Iterator[Placement]:
    rows, layers = range(config.vocab), len(config.layers)
    yield Placement(
        name=f"{ROWS}tokens", tensor=TABLE, rows=rows, inputs=config.hidden, multiplier=config.embedding_multiplier
    )
    if config.per_layer_dim:
        yield Placement(
            name=f"{ROWS}per_layer",
            tensor=PER_LAYER_TABLE,
            rows=rows,
            inputs=config.per_layer_dim,
            parts=layers,
            multiplier=config.per_layer_multiplier,
        )


def weights_of(config: GemmaConfig, tensor: str, shape: Shape) -> Iterator[Placement]:
    """The weights of the graph that a tensor becomes: none, one, or two for its parts."""
    name = tensor.removesuffix(".weight")
    rows, inputs = matrix_of(shape)
    if tensor == PER_LAYER_TABLE or (tensor == TABLE and config.own_head):
        return  # row files hold these, and nothing else
    if tensor in (TABLE, HEAD):
        yield Placement(name="head", tensor=tensor, rows=range(rows), inputs=inputs, parameter="head.weight")
    elif name == PER_LAYER_PROJECTION:
        edge = config.own_kv_layers * config.per_layer_dim
        for part, chosen in (("own", range(edge)), ("shared", range(edge, rows))):
            if chosen:
                parameter = f"per_layer_{part}.projection.weight"
                yield Placement(name=name, tensor=tensor, rows=chosen, inputs=inputs, parameter=parameter)
    else:
        yield Placement(name=name, tensor=tensor, rows=range(rows), inputs=inputs, parameter=tensor)


def matrix_of(shape: Shape) -> tuple[int, int]:
    """Rows and inputs of a shape; matrices that are stacked are one above the other, and a vector has no inputs."""
    return (prod(shape[:-1]), shape[-1]) if len(shape) > 1 else (prod(shape), 0)
