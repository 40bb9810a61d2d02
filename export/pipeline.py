"""The story: read, quantize, split, capture, lower, prove, seal."""

from __future__ import annotations

import dataclasses
import hashlib
import sys
from collections.abc import Sequence
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
from .targets import Lower, load_targets, longest
from .weights.cache_scales import Ranges, covers, released_scales
from .weights.linears import Calibrated, quantize_weights
from .weights.plan import StoragePlan, storage_plan, values
from .weights.row_files import write_row_files

PASSAGE = Path(__file__).with_name("passage.txt")


def export_bundle(
    source: str | Path | Checkpoint,
    destination: Path,
    targets: Sequence[str],
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
    lowerings = load_targets(targets)
    check_destination(destination, replace=replace)
    checkpoint = source if isinstance(source, Checkpoint) else Checkpoint.open(source)
    recipe = suited(recipe, checkpoint.config)
    plan = storage_plan(checkpoint, recipe)
    ids, side = passage_for(checkpoint)
    with (
        stored(destination, key_of(checkpoint, recipe, text)) as store,
        created(destination, replace=replace) as place,
    ):
        draft, sources = drafted(checkpoint, place, lowerings, recipe, plan, ids, side, store, text, scripts)
        return prove(draft, place.bundle, sources, scripts, lambda: FloatSource(checkpoint), accept_loss=accept_loss)


def drafted(
    checkpoint: Checkpoint,
    place: Workplace,
    lowerings: dict[str, Lower],
    recipe: QuantizeRecipe,
    plan: StoragePlan,
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
    check_calls(scripts, speaker, list(lowerings), checkpoint)
    vocabulary = write_vocabulary(folder)
    calibrated, how = None, m.Calibration()
    if store:
        calibrated, how = calibration(model, speaker, side.generation.stop, recipe, plan, text, store)
    del speaker
    trim_heap()
    with Progress("quantizing", values(plan.weights)) as progress:
        units = store.units if store else place.scratch
        quantized, losses = quantize_weights(checkpoint, plan, units, progress.advance, calibrated)
    with Progress("writing rows", values(plan.tables)) as progress:
        tables, row_losses = write_row_files(checkpoint, plan, folder, progress.advance)
    released = released_scales(config, plan.cache_scales)
    ranges = Ranges(config, calibrated.values if calibrated else {})
    beginning = ids[: compared(config.window, len(ids))] if covers(released, config) else ids
    with Progress("reading in float", len(config.layers)) as progress:
        hidden = hidden_states(model, beginning[None], ranges.see, progress.advance)[0]
    if not recipe.cache.is_float:
        config = dataclasses.replace(config, cache_bits=recipe.cache.bits)
        quantized = quantized.with_vectors(ranges.scales() | released)
    graph = capture(config)
    artifacts = {name: lower(graph, quantized, folder) for name, lower in lowerings.items()}
    del graph
    trim_heap()
    manifest = m.Manifest(
        format="gemma-edge",
        version=[m.MAJOR, m.MINOR],
        model=model_facts(config, plan.rescored),
        recipe=recipe_facts(recipe, plan.rules, losses | row_losses, how),
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
        check_weights(folder, quantized, name, artifacts[name].file)
        check_scales(folder, config, name, artifacts[name].file)
    sources = QuantizedSources(config, quantized, unsealed(manifest, folder))
    readings = Reader(ids, config.window, place.scratch, manifest).readings(model, hidden, sources)
    is_float = plan.is_float and recipe.cache.is_float
    return Draft(manifest, ids, config, recipe, readings, is_float, generated=checkpoint.is_generated), sources


def speaker_of(folder: Path, tokenizer: str, template: str, side: SideFiles) -> Tokenizer:
    """What renders conversations.  Raises GemmaError for a template that loses a text, or whose turns would not end."""
    path = folder / template if template else None
    speaker = Tokenizer(folder / tokenizer, side.generation.bos, path, side.special_tokens)
    if template:
        rendered_forms(speaker)
        check_turn_end(speaker, side.generation.stop)
        print_endless(speaker)
    return speaker


def check_calls(scripts: Sequence[Script], speaker: Tokenizer, targets: Sequence[str], checkpoint: Checkpoint) -> None:
    """Raises GemmaError for scripts that the first artifact could not be asked."""
    if scripts:
        context = longest(answering(targets), checkpoint.config.context)
        check_scripts(scripts, speaker, context, str(checkpoint.folder))


def passage_for(checkpoint: Checkpoint) -> tuple[NDArray[np.int64], SideFiles]:
    """The text that verify reads, and the side files of a checkpoint, all of which is sound."""
    side, pieces = read_side_files(checkpoint)
    ids = passage(checkpoint.config, side.generation.bos, pieces)
    del pieces
    trim_heap()
    checkpoint.check_head()
    side.print_notes()
    return ids, side


def key_of(checkpoint: Checkpoint, recipe: QuantizeRecipe, text: Text) -> Key | None:
    """What a calibration depends on; None without one."""
    if not recipe.calibrated:
        return None
    stats = sorted((path.name, path.stat()) for path in checkpoint.folder.iterdir() if path.is_file())
    files = [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats]
    return Key(f"gemma-edge {version('gemma-edge')}", files, repr(recipe), text.origin, SEED)


def calibration(
    model: FloatSource,
    tokenizer: Tokenizer,
    stop: list[int],
    recipe: QuantizeRecipe,
    plan: StoragePlan,
    text: Text,
    store: Store,
) -> tuple[Calibrated, m.Calibration]:
    """Choose the text, then the integers of every layer; or go on where a killed export stopped."""
    config = model.config
    tokens = text.tokens(recipe)
    seconds = projected_seconds(plan, len(config.layers), recipe, tokens, written=text.path is None)
    print(f"calibrating on about {tokens:,} tokens: about {duration(seconds)}", file=sys.stderr)
    if not store.has("text"):
        with Progress("writing a text" if text.path is None else "reading the text", tokens) as progress:
            store.save("text", sequences(text, tokens, model, tokenizer, stop, progress.advance))
    ids = np.array(store.load("text"))
    with Progress("calibrating", len(config.layers)) as progress:
        calibrated = calibrate(model, ids, recipe, plan, store, progress.advance)
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
