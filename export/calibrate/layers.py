"""Layer by layer: what the inputs of each linear look like on a text, and integers that suit them.

One layer's floats are in memory at a time.  The text runs through the float model; hidden states, and
keys and values that later layers read, stay on disk between layers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from quantize.affine import Floats, Loss, Quantized, quantize
from quantize.gptq import Factor, factor, round_in_order
from quantize.recipe import Recipe
from quantize.refine import refine
from quantize.scheme import Scales, Scheme

from ..model.arrays import Ids
from ..model.config import GemmaConfig, LayerConfig
from ..model.decoder import KV, Layer, Linear, rounded
from ..reference import FloatSource, embedded, final_norm, load_layer, per_layer_inputs, rotary_tables
from ..weights.linears import Calibrated, Rounding
from ..weights.plan import StoragePlan, StoredTensor
from .folding import INPUTS, fold_layer, folds_values, one_a_key_head
from .store import Store

ACTIVATIONS = 16 << 20  # bytes of the widest activation of a part of the text; larger ones cost fresh pages
BANDS = 8  # of rows of a symmetric matrix; below the diagonal nothing is computed


@dataclass
class Inputs:
    """Sums over the tokens of one linear input: of squares (d,), or of outer products (d, d), upper half."""

    total: Tensor
    tokens: int = 0

    def see(self, x: Tensor) -> None:
        """x (…, d)"""
        flat = x.reshape(-1, x.shape[-1])
        self.tokens += len(flat)
        if self.total.dim() == 1:
            self.total += flat.square().sum(0)
            return
        width = flat.shape[1]
        step = -(-width // BANDS)
        for start in range(0, width, step):
            band = self.total[start : start + step, start:]
            band.addmm_(flat[:, start : start + step].T, flat[:, start:])

    @property
    def moments(self) -> Floats:
        """Mean squares, (d,)."""
        squares = self.total if self.total.dim() == 1 else self.total.diagonal()
        return (squares / self.tokens).numpy().copy()


@torch.no_grad()
def calibrate(
    source: FloatSource,
    ids: Ids,
    recipe: Recipe,
    plan: StoragePlan,
    store: Store,
    progress: Callable[[float], None] = lambda done: None,
) -> Calibrated:
    """Choose the integers of all layers and write them into `store.units`, going on where it stopped; ids (n, T)."""
    config, weights = source.config, {weight.parameter: weight for weight in plan.weights}
    begin(source, ids, store)
    progress(store.state.layers)
    for layer in config.layers[store.state.layers :]:
        module = load_layer(source, layer)
        inputs = observe(config, layer, module, ids, recipe, store)
        floats = {name: p.numpy().copy() for name, p in module.named_parameters()}
        del module
        losses = quantize_layer(config, layer, floats, inputs, recipe, weights, store)
        store.finish(layer.index + 1, losses)
        store.drop(f"hidden.{layer.index}")
        progress(1)
    head = head_rounding(source, recipe, weights["head.weight"], store)
    return Calibrated(layer_parameters(config), store.losses, head, values(config, store))


def begin(source: FloatSource, ids: Ids, store: Store) -> None:
    """Embeddings, and what each layer gets of the per-layer ones."""
    if store.state.layers or store.has("hidden.0"):
        return
    config, dim = source.config, source.config.per_layer_dim
    if dim:
        path = store.folder / "per_layer.npy"
        slices = np.lib.format.open_memmap(path, "w+", np.float32, (len(config.layers), *ids.shape, dim))  # type: ignore[no-untyped-call]
        inputs = per_layer_inputs(source)
        for part in parts(config, ids):
            for index, inputs_of_layer in enumerate(inputs(ids[part], embedded(source, ids[part]))):
                slices[index, part] = inputs_of_layer.numpy()
        slices.flush()
    store.save("hidden.0", embedded(source, ids).numpy())


def parts(config: GemmaConfig, ids: Ids) -> Iterator[slice]:
    """Sequences that go through a layer together."""
    widest = max(max(layer.intermediate, layer.heads * ids.shape[1]) for layer in config.layers)
    step = max(1, ACTIVATIONS // (4 * widest * ids.shape[1]))
    return (slice(start, min(start + step, len(ids))) for start in range(0, len(ids), step))


def observe(
    config: GemmaConfig, layer: LayerConfig, module: Layer, ids: Ids, recipe: Recipe, store: Store
) -> dict[str, Inputs]:
    """Run the text through one layer; leaves the hidden states after it in the store."""
    inputs = {name: watched(module, name, recipe.gptq) for name in INPUTS}
    before, after = store.load(f"hidden.{layer.index}"), np.empty((*ids.shape, config.hidden), np.float32)
    slices = store.load("per_layer")[layer.index] if config.per_layer_dim else None
    positions, rope = torch.arange(ids.shape[1])[None], rotary_tables(config, ids.shape[1])[layer.kind]
    presents: list[KV] = []
    for part in parts(config, ids):
        per_layer = None if slices is None else torch.from_numpy(slices[part].copy())
        kv = past(layer, part, store)
        out, kv = module(torch.from_numpy(before[part].copy()), per_layer, positions, rope, kv, (None, None))
        after[part] = out.numpy()
        presents.append(kv)
    if any(reader.source == layer.index != reader.index for reader in config.layers):
        for name, arrays in zip(("key", "value"), zip(*presents, strict=True), strict=True):
            store.save(f"{name}.{layer.index}", torch.cat(arrays).numpy())
    store.save(f"hidden.{layer.index + 1}", after)
    return inputs


def watched(module: Layer, name: str, outer: bool) -> Inputs:
    """Sums that grow with every call of the linears that read an input."""
    linear = module.get_submodule(INPUTS[name][0])
    assert isinstance(linear, Linear)
    width = linear.weight.shape[1]
    inputs = Inputs(torch.zeros((width, width) if outer else width))
    linear.register_forward_pre_hook(lambda _, arguments: inputs.see(rounded(arguments[0], linear.scales.input)))
    return inputs


def past(layer: LayerConfig, part: slice, store: Store) -> KV:
    if not layer.owns_kv:
        return shared(layer.source, part, store)
    nothing = torch.zeros(part.stop - part.start, layer.kv_heads, 0, layer.head_dim)
    return nothing, nothing


def shared(source: int, part: slice, store: Store) -> KV:
    key, value = (torch.from_numpy(store.load(f"{name}.{source}")[part].copy()) for name in ("key", "value"))
    return key, value


def quantize_layer(
    config: GemmaConfig,
    layer: LayerConfig,
    floats: dict[str, Floats],
    inputs: dict[str, Inputs],
    recipe: Recipe,
    weights: Mapping[str, StoredTensor],
    store: Store,
) -> dict[str, Loss]:
    """Fold, choose integers, and write one layer; all losses so far."""
    moments = {name: seen.moments for name, seen in inputs.items()}
    factors = fold_layer(config, layer, floats, moments)
    moments = {name: seen / factors.get(name, np.float32(1)) ** 2 for name, seen in moments.items()}
    losses = store.losses
    prefix = f"layers.{layer.index}."
    for names in readers(floats):
        read = READ.get(names[0].removesuffix(".weight"), "")
        matrices = {f"{prefix}{name}": floats.pop(name) for name in names}
        fitted = quantize_input(
            matrices, recipe, weights, inputs.get(read), moments.get(read), factors.get(read), store
        )
        for scheme, loss in fitted.items():
            losses[scheme] = losses.get(scheme, Loss()) + loss
    if "output" in factors:
        store.save(f"values.{layer.index}", one_a_key_head(layer, factors["output"])[None, :, None])
    return losses


READ = {linear: name for name, linears in INPUTS.items() for linear in linears}


def readers(names: Iterable[str]) -> list[list[str]]:
    """Parameters that read the same input, together; all others alone."""
    together: dict[str, list[str]] = {}
    for name in names:
        together.setdefault(READ.get(name.removesuffix(".weight"), name), []).append(name)
    return list(together.values())


def quantize_input(
    matrices: dict[str, Floats],
    recipe: Recipe,
    weights: Mapping[str, StoredTensor],
    seen: Inputs | None,
    moments: Floats | None,
    factors: Floats | None,
    store: Store,
) -> dict[str, Loss]:
    """Choose and write the integers of all matrices of one input, those of one scheme together; losses by scheme."""
    together: dict[Scheme, list[str]] = {}
    for name, matrix in matrices.items():
        if weights[name].source == "float":
            np.save(store.units / f"{name}.values.npy", matrix)
        else:
            together.setdefault(weights[name].scheme, []).append(name)
    gptq = {scheme for scheme in together if seen and spread_errors(recipe, scheme)}
    shared = factor(folded(seen, factors)) if seen and gptq else None
    losses = {}
    for scheme, names in together.items():
        edges = np.cumsum([0, *(len(matrices[name]) for name in names)])
        matrix = np.concatenate([matrices.pop(name) for name in names])
        own = shared if scheme in gptq else None
        quantized, losses[str(scheme)] = fit(matrix, scheme, weights[names[0]].scales, moments, own)
        if own:
            quantized, losses[str(scheme)] = refine(matrix, quantized, own.hessian)
        for name, start, stop in zip(names, edges, edges[1:], strict=False):
            save(quantized.part(start, stop), str(store.units / name))
    return losses


def folded(seen: Inputs, factors: Floats | None) -> Tensor:
    """The mean outer product of the folded input; `seen` is used up."""
    hessian = mirrored(seen.total.div_(seen.tokens))
    if factors is not None:
        inverse = torch.from_numpy(1 / factors)
        hessian.mul_(inverse[:, None]).mul_(inverse)
    return hessian


def mirrored(upper: Tensor) -> Tensor:
    """The upper half copied to the lower, in place."""
    step = -(-len(upper) // BANDS)
    for start in range(0, len(upper), step):
        stop = start + step
        upper[stop:, start:stop] = upper[start:stop, stop:].T
    return upper


def save(quantized: Quantized, path: str) -> None:
    np.save(f"{path}.packed.npy", quantized.packed)
    np.save(f"{path}.scales.npy", quantized.scales)


def layer_parameters(config: GemmaConfig) -> tuple[str, ...]:
    """The names of all parameters of all layers."""
    with torch.device("meta"):
        modules = {layer.index: Layer(config, layer) for layer in config.layers}
    return tuple(f"layers.{index}.{name}" for index, module in modules.items() for name, _ in module.named_parameters())


def head_rounding(source: FloatSource, recipe: Recipe, head: StoredTensor, store: Store) -> Rounding:
    """How rows (n, hidden) of the head are rounded: to suit the hidden states that it reads."""
    width, scheme = source.config.hidden, head.scheme
    hidden, norm = store.load(f"hidden.{len(source.config.layers)}"), final_norm(source)
    seen = Inputs(torch.zeros((width, width) if recipe.gptq else width))
    for sequence in hidden:
        seen.see(norm(torch.from_numpy(sequence.copy())))
    moments = seen.moments
    shared = factor(folded(seen, None)) if spread_errors(recipe, scheme) else None
    return lambda rows: fit(rows, scheme, head.scales, moments, shared)


def fit(
    matrix: Floats, scheme: Scheme, scales: Scales, moments: Floats | None, shared: Factor | None
) -> tuple[Quantized, Loss]:
    quantized, loss = quantize(matrix, scheme, scales, moments)
    return round_in_order(matrix, quantized, shared) if shared else (quantized, loss)


def spread_errors(recipe: Recipe, scheme: Scheme) -> bool:
    """Whether GPTQ spreads errors: at 8 bits there is little to spread."""
    return recipe.gptq and 0 < scheme.bits < 8


def values(config: GemmaConfig, store: Store) -> dict[int, Floats]:
    return {
        layer.index: np.array(store.load(f"values.{layer.index}"))
        for layer in config.layers
        if folds_values(config, layer)
    }
