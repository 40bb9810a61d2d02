"""The story: read, quantize, split, capture, lower, prove, seal."""

from __future__ import annotations

import dataclasses
import hashlib
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer as Pieces

from quantize.affine import Loss
from quantize.recipe import Recipe as QuantizeRecipe
from runtime.bundle import manifest as m
from runtime.bundle.bundle import Workplace, check_destination, created
from runtime.bundle.parity import Reports
from runtime.errors import GemmaError
from runtime.language.tokenizer import Tokenizer
from runtime.machine.resident_memory import trim_heap
from runtime.progress import Progress

from .calibrate.cost import projected_seconds
from .calibrate.layers import calibrate
from .calibrate.store import Key, Store, stored
from .calibrate.text import AUTO, SEED, Text, sequences
from .checkpoint.checkpoint import Checkpoint
from .choose_recipe import suited
from .language.conversation_forms import check_turn_end, print_endless, rendered_forms
from .language.side_files import SideFiles, read_side_files
from .language.vocabulary import write_vocabulary
from .model.capture import capture
from .model.config import GemmaConfig
from .model.tensors import needed, part
from .prove.call_scripts import Script, answering, check_scripts
from .prove.check_scales import check_scales
from .prove.check_weights import check_weights
from .prove.compare import BEYOND, STEPS, compared
from .prove.readings import QuantizedSources, Reader
from .prove.seal import Draft, in_order, prove, unsealed
from .reference import FloatSource, hidden_states
from .targets import Target, load_targets
from .weights import linears as weights
from .weights import row_files as split
from .weights.cache_scales import Ranges, covers, released_scales

PASSAGE = Path(__file__).with_name("passage.txt")


def export_bundle(
    source: str | Path | Checkpoint,
    destination: Path,
    targets: Sequence[str | Target],
    recipe: QuantizeRecipe,
    *,
    replace: bool = False,
    text: Text = AUTO,
    scripts: Sequence[Script] = (),
    accept_loss: bool = False,
) -> Reports:
    """Make a bundle of a checkpoint; `text` calibrates a recipe that asks for it, calls are compared on `scripts`.

    Raises GemmaError for anything that can not be exported, or that verify does not pass, unless what it finds is a
    loss and `accept_loss` is said; then nothing is left behind.
    """
    loaded = load_targets(targets)
    check_destination(destination, replace=replace)
    checkpoint = source if isinstance(source, Checkpoint) else Checkpoint.open(source)
    recipe = suited(recipe, checkpoint.config)
    ids, side = passage_for(checkpoint, recipe)
    with (
        stored(destination, key_of(checkpoint, recipe, text)) as store,
        created(destination, replace=replace) as place,
    ):
        draft, sources = drafted(checkpoint, place, loaded, recipe, ids, side, store, text, scripts)
        return prove(draft, place.bundle, sources, scripts, lambda: FloatSource(checkpoint), accept_loss=accept_loss)


def drafted(
    checkpoint: Checkpoint,
    place: Workplace,
    targets: Mapping[str, Target],
    recipe: QuantizeRecipe,
    ids: NDArray[np.int64],
    side: SideFiles,
    store: Store | None,
    text: Text,
    scripts: Sequence[Script] = (),
) -> tuple[Draft, QuantizedSources]:
    """All of a bundle but the proof of what its artifacts answer, in `place`; and where references take values from.

    Raises GemmaError before the long part for scripts that the artifacts could not be asked.
    """
    config, model, folder = checkpoint.config, FloatSource(checkpoint), place.bundle
    tokenizer, template = side.copy(folder)
    speaker = speaker_of(folder, tokenizer, template, side)
    check_calls(scripts, speaker, targets, checkpoint)
    vocabulary = write_vocabulary(folder)
    calibrated, how = None, m.Calibration()
    if store:
        calibrated, how = calibration(model, speaker, side.generation.stop, recipe, text, store)
    del speaker
    trim_heap()
    with Progress("quantizing", weights.work(config)) as progress:
        units = store.units if store else place.scratch
        quantized, losses = weights.quantize_weights(checkpoint, recipe, units, progress.advance, calibrated)
    with Progress("writing rows", split.work(config)) as progress:
        tables, row_losses = split.split_rows(checkpoint, recipe, folder, progress.advance)
    released = released_scales(config, checkpoint.cache_scales) if recipe.released else {}
    ranges = Ranges(config, calibrated.values if calibrated else {})
    beginning = ids[: compared(config.window, len(ids))] if covers(released, config) else ids
    with Progress("reading in float", len(config.layers)) as progress:
        hidden = hidden_states(model, beginning[None], ranges.see, progress.advance)[0]
    if not recipe.cache.is_float:
        config = dataclasses.replace(config, cache_bits=recipe.cache.bits)
        quantized = quantized.with_vectors(ranges.scales() | released)
    graph = capture(config)
    artifacts = {name: target.lower(graph, quantized, folder) for name, target in targets.items()}
    del graph
    trim_heap()
    manifest = m.Manifest(
        format="gemma-edge",
        version=m.version_of({}),
        model=model_facts(config, rescored(checkpoint, recipe)),
        recipe=recipe_facts(recipe, released_rules(checkpoint, recipe), losses | row_losses, how),
        provenance=m.Provenance(
            checkpoint=checkpoint.folder.resolve().name, tool=f"gemma-edge {version('gemma-edge')}"
        ),
        generation=side.generation,
        tables=tables,
        artifacts=artifacts,
        files={},
        tokenizer=tokenizer,
        vocabulary=vocabulary,
        chat_template=template,
        special_tokens=side.special_tokens,
        golden="golden.json",
        parity="parity.json",
    )
    for name in in_order(artifacts):
        check_weights(folder, quantized, targets[name], artifacts[name].file)
        check_scales(folder, config, targets[name], artifacts[name].file)
    sources = QuantizedSources(config, quantized, unsealed(manifest, folder))
    readings = Reader(ids, config.window, place.scratch, manifest).readings(model, hidden, sources)
    return Draft(manifest, ids, config, recipe, readings, generated=checkpoint.is_generated), sources


def speaker_of(folder: Path, tokenizer: str, template: str, side: SideFiles) -> Tokenizer:
    """What renders conversations.  Raises GemmaError for a template that loses a text, or whose turns would not end."""
    path = folder / template if template else None
    speaker = Tokenizer(folder / tokenizer, side.generation.bos, path, side.special_tokens)
    if template:
        rendered_forms(speaker)
        check_turn_end(speaker, side.generation.stop)
        print_endless(speaker)
    return speaker


def check_calls(
    scripts: Sequence[Script], speaker: Tokenizer, targets: Mapping[str, Target], checkpoint: Checkpoint
) -> None:
    """Raises GemmaError for scripts that the first artifact could not be asked."""
    if scripts:
        context = targets[answering(list(targets))].longest(checkpoint.config.context)
        check_scripts(scripts, speaker, context, str(checkpoint.folder))


def passage_for(checkpoint: Checkpoint, recipe: QuantizeRecipe) -> tuple[NDArray[np.int64], SideFiles]:
    """The text that verify reads, and the side files, of a checkpoint that has all that a recipe needs."""
    side, pieces = read_side_files(checkpoint)
    ids = passage(checkpoint.config, side.generation.bos, pieces)
    del pieces
    trim_heap()
    check_released(checkpoint, recipe)
    side.print_notes()
    return ids, side


def check_released(checkpoint: Checkpoint, recipe: QuantizeRecipe) -> None:
    """Raises GemmaError if a recipe wants integers that the checkpoint does not have, or if its head is damaged."""
    if recipe.released and not checkpoint.is_packed and not checkpoint.on_grid:
        raise GemmaError(
            f"{checkpoint.folder}: recipe {recipe.name} is for a release of integers, and this one has floats",
            "choose another recipe",
        )
    checkpoint.check_head()


def rescored(checkpoint: Checkpoint, recipe: QuantizeRecipe) -> int:
    """Rows of a release hold the integers that its head holds: there is nothing to compute again."""
    return 0 if recipe.released and checkpoint.packed("embed_tokens.weight") else recipe.rescored


def released_rules(checkpoint: Checkpoint, recipe: QuantizeRecipe) -> list[list[str]]:
    """Names and schemes of what is stored as it was released: rules before the recipe's own."""
    if not recipe.released:
        return []
    tables = [row for row in split.row_tables(checkpoint.config) if split.released(checkpoint, row, recipe)]
    units = [
        unit for unit in weights.units(checkpoint.config)
        if checkpoint.packed(unit.tensor) or unit.tensor in checkpoint.on_grid
    ]  # fmt: skip
    return [
        *([f"rows.{row.name}", str(split.scheme_of(checkpoint, row, recipe))] for row in tables),
        *([unit.label, str(weights.scheme_of(checkpoint, unit, recipe))] for unit in units),
    ]


def key_of(checkpoint: Checkpoint, recipe: QuantizeRecipe, text: Text) -> Key | None:
    """What a calibration depends on; None without one."""
    if not recipe.calibrated:
        return None
    stats = sorted((path.name, path.stat()) for path in checkpoint.folder.iterdir() if path.is_file())
    files = [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats]
    return Key(f"gemma-edge {version('gemma-edge')}", files, repr(recipe), text.origin, SEED)


def calibration(
    model: FloatSource, tokenizer: Tokenizer, stop: list[int], recipe: QuantizeRecipe, text: Text, store: Store
) -> tuple[weights.Calibrated, m.Calibration]:
    """Choose the text, then the integers of every layer; or go on where a killed export stopped."""
    config = model.config
    tokens = text.tokens(recipe)
    seconds = projected_seconds(config, recipe, tokens, written=text.path is None)
    print(f"calibrating on about {tokens:,} tokens: about {duration(seconds)}", file=sys.stderr)
    if not store.has("text"):
        with Progress("writing a text" if text.path is None else "reading the text", tokens) as progress:
            store.save("text", sequences(text, tokens, model, tokenizer, stop, progress.advance))
    ids = np.array(store.load("text"))
    with Progress("calibrating", len(config.layers)) as progress:
        calibrated = calibrate(model, ids, recipe, store, progress.advance)
    return calibrated, m.Calibration(
        method=recipe.calibration,
        text=text.origin,
        tokens=ids.size,
        seed=SEED,
        sha256=hashlib.sha256(ids.tobytes()).hexdigest(),
    )


def duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} minutes"


def passage(config: GemmaConfig, bos: int, pieces: Pieces) -> NDArray[np.int64]:
    """A text as tokens, as many as verify compares: the caches' scales come from them too."""
    wanted = min(config.context, 2 * config.window + BEYOND + STEPS)
    once = pieces.encode(PASSAGE.read_text(encoding="utf-8"), add_special_tokens=False).ids
    ids = [bos, *(once * (wanted // len(once) + 1))][:wanted]
    return np.array(ids, np.int64) % config.vocab


def model_facts(config: GemmaConfig, rescored: int) -> m.Model:
    dtype: Literal["float32", "int8"] = "int8" if config.cache_bits else "float32"
    parameters: dict[str, int] = {}
    for name, shape in needed(config).items():
        parameters[part(config, name)] = parameters.get(part(config, name), 0) + int(np.prod(shape))
    return m.Model(
        family=config.family,
        layers=len(config.layers),
        own_kv_layers=config.own_kv_layers,
        hidden_size=config.hidden,
        vocab_size=config.vocab,
        per_layer_dim=config.per_layer_dim,
        window=config.window,
        context=config.context,
        softcap=config.softcap,
        rescored=min(rescored, config.vocab),
        caches=[
            m.Cache(layer=one.index, kind=one.kind, kv_heads=one.kv_heads, head_dim=one.head_dim, dtype=dtype)
            for one in config.layers
            if one.owns_kv
        ],
        sources=[layer.source for layer in config.layers],
        rope={
            kind: m.Rope(theta=rope.theta, head_dim=rope.head_dim, rotated_pairs=rope.rotated_pairs)
            for kind, rope in config.ropes
        },
        parameters=parameters,
        static_ranges=bool(config.activation_scales),
    )


def recipe_facts(
    recipe: QuantizeRecipe, released: list[list[str]], losses: dict[str, Loss], how: m.Calibration
) -> m.Recipe:
    return m.Recipe(
        name=recipe.name,
        summary=recipe.summary,
        rules=[*released, *([rule.pattern, str(rule.scheme)] for rule in recipe.rules)],
        loss={name: loss.relative for name, loss in losses.items()},
        calibration=how,
    )
