"""The story: read, quantize, write rows, capture, lower, prove, seal."""

from __future__ import annotations

import dataclasses
import hashlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
from .calibrate.store import CalibrationKey, Store, stored
from .calibrate.text import AUTO, SEED, Text, sequences
from .checkpoint.checkpoint import Checkpoint
from .choose_recipe import suited
from .language.conversation_forms import check_turn_end, print_endless, rendered_forms
from .language.side_files import SideFiles, read_side_files
from .language.vocabulary import write_vocabulary
from .model.arrays import Ids
from .model.capture import capture
from .model.config import GemmaConfig
from .model.tensors import needed, part
from .parts.every import parts_of
from .parts.lower import lowered_parts
from .prove.call_scripts import Script, answering, check_scripts
from .prove.check_scales import check_scales
from .prove.check_weights import check_weights
from .prove.readings import QuantizedSources, ReadText
from .prove.runs import BEYOND, STEPS, in_order, tokens_to_compare
from .prove.seal import Draft, prove, unsealed
from .reference import FloatSource, hidden_states
from .request import AS_SHIPPED, ExportSettings
from .targets import Target, load_targets
from .weights.cache_scales import Ranges, covers, released_scales
from .weights.linears import Calibrated, Weights, quantize_weights
from .weights.plan import StoragePlan, storage_plan, values
from .weights.row_files import write_row_files

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
    settings: ExportSettings = AS_SHIPPED,
) -> Reports:
    """Make a bundle of a checkpoint for some targets, by their names, or by name with what lowers a graph for them.

    `text` calibrates a recipe that asks for it, calls are compared on `scripts`.

    Raises GemmaError for anything that can not be exported, or that verify does not pass, unless what it finds is a
    loss and `accept_loss` is said; then nothing is left behind.
    """
    loaded = load_targets(targets)
    check_destination(destination, replace=replace)
    checkpoint = source if isinstance(source, Checkpoint) else Checkpoint.open(source)
    prepared = prepare(checkpoint, loaded, recipe, text, scripts, settings)
    with (
        stored(destination, prepared.calibration_key) as store,
        created(destination, replace=replace) as place,
    ):
        draft, sources = drafted(prepared, place, store)
        model = lambda: FloatSource(checkpoint)  # noqa: E731
        return prove(draft, place.bundle, sources, scripts, model, accept_loss=accept_loss, settings=settings.proof)


@dataclass(frozen=True)
class Prepared:
    """A checkpoint that was checked, and all that was decided of its export before the long part.

    side: its files beside the weights; ids: (T,), the text that references read
    """

    checkpoint: Checkpoint
    targets: Mapping[str, Target]
    recipe: QuantizeRecipe
    plan: StoragePlan
    side: SideFiles
    ids: Ids
    text: Text
    scripts: Sequence[Script]
    settings: ExportSettings

    @property
    def calibration_key(self) -> CalibrationKey | None:
        """What a calibration depends on; None for a recipe without one."""
        if not self.recipe.calibrated:
            return None
        stats = sorted((path.name, path.stat()) for path in self.checkpoint.folder.iterdir() if path.is_file())
        files = [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats]
        return CalibrationKey(f"gemma-edge {version('gemma-edge')}", files, repr(self.recipe), self.text.origin, SEED)


def prepare(
    checkpoint: Checkpoint,
    targets: Mapping[str, Target],
    recipe: QuantizeRecipe,
    text: Text = AUTO,
    scripts: Sequence[Script] = (),
    settings: ExportSettings = AS_SHIPPED,
) -> Prepared:
    """Decide how everything is stored, and read what is not a weight.

    Raises GemmaError for a checkpoint that lacks what the recipe needs, and for files that are not sound.
    """
    recipe = suited(recipe, checkpoint.config)
    side, pieces = read_side_files(checkpoint)
    ids = passage(checkpoint.config, side.generation.bos, pieces)
    del pieces
    trim_heap()
    plan = storage_plan(checkpoint, recipe)
    checkpoint.check_head()
    side.print_notes()
    return Prepared(checkpoint, targets, recipe, plan, side, ids, text, scripts, settings)


@dataclass(frozen=True)
class LanguageFiles:
    """The files of a bundle that texts are read and written with, by name; "" for one that there is not."""

    tokenizer: str
    template: str
    vocabulary: str


@dataclass(frozen=True)
class WeightFiles:
    """The weights of a draft: those of the graph, the tables beside it, what rounding cost, and how it was chosen."""

    weights: Weights
    tables: dict[str, m.Table]
    losses: dict[str, Loss]
    calibrated: Calibrated | None
    calibration: m.Calibration


def drafted(prepared: Prepared, place: Workplace, store: Store | None) -> tuple[Draft, QuantizedSources]:
    """Make all of a bundle but the proof of what its artifacts answer; and say where references take values from.

    Raises GemmaError before the long part for scripts that the artifacts could not be asked.
    """
    model, folder = FloatSource(prepared.checkpoint), place.bundle
    speaker, files = write_language_files(prepared, folder)
    calibrated, calibration = None, m.Calibration()
    if store:
        calibrated, calibration = calibrate_on_text(prepared, model, speaker, store)
    del speaker
    trim_heap()
    weights = store_weights(prepared, place, store.units if store else place.scratch, calibrated, calibration)
    hidden, config, quantized = with_cache_scales(prepared, model, weights)
    artifacts = lower_all(prepared.targets, config, quantized, folder)
    parts = lowered_parts(parts_of(prepared.checkpoint), prepared.targets, folder)
    manifest = manifest_of(prepared, config, files, weights, artifacts, parts)
    for name in in_order(artifacts):
        check_weights(folder, quantized, prepared.targets[name], artifacts[name].file)
        check_scales(folder, config, prepared.targets[name], artifacts[name].file)
    sources = QuantizedSources(config, quantized, unsealed(manifest, folder))
    text = ReadText(prepared.ids, config.window, place.scratch, manifest, prepared.settings.proof)
    draft = Draft(
        manifest,
        prepared.ids,
        config,
        prepared.recipe,
        text.logits_of_all(model, hidden, sources),
        is_float=prepared.plan.is_float and prepared.recipe.cache.is_float,
        generated=prepared.checkpoint.is_generated,
    )
    return draft, sources


# ---- the steps of a draft ----


def write_language_files(prepared: Prepared, folder: Path) -> tuple[Tokenizer, LanguageFiles]:
    """Write tokenizer, chat template and vocabulary, and check that conversations can be held with them.

    Raises GemmaError for a template that loses a text, and for scripts that the first artifact could not be asked.
    """
    tokenizer, template = prepared.side.copy(folder)
    speaker = speaker_of(folder, tokenizer, template, prepared.side)
    check_calls(prepared.scripts, speaker, prepared.targets, prepared.checkpoint)
    return speaker, LanguageFiles(tokenizer, template, write_vocabulary(folder))


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


def calibrate_on_text(
    prepared: Prepared, model: FloatSource, speaker: Tokenizer, store: Store
) -> tuple[Calibrated, m.Calibration]:
    """Choose the text, then the integers of every layer; or go on where a killed export stopped."""
    recipe, text, amounts = prepared.recipe, prepared.text, prepared.settings.text
    tokens = text.tokens(recipe, amounts)
    layers = len(model.config.layers)
    seconds = projected_seconds(prepared.plan, layers, recipe, tokens, written=text.path is None)
    print(f"calibrating on about {tokens:,} tokens: about {duration(seconds)}", file=sys.stderr)
    if not store.has("text"):
        with Progress("writing a text" if text.path is None else "reading the text", tokens) as progress:
            stop = prepared.side.generation.stop
            store.save("text", sequences(text, tokens, amounts, model, speaker, stop, progress.advance))
    ids = np.array(store.load("text"))
    with Progress("calibrating", layers) as progress:
        calibrated = calibrate(model, ids, recipe, prepared.plan, store, progress.advance)
    return calibrated, m.Calibration(
        method=recipe.calibration,
        text=text.origin,
        tokens=ids.size,
        seed=SEED,
        sha256=hashlib.sha256(ids.tobytes()).hexdigest(),
    )


def duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} minutes"


def store_weights(
    prepared: Prepared, place: Workplace, units: Path, calibrated: Calibrated | None, calibration: m.Calibration
) -> WeightFiles:
    """Write the weights of the graph to `units`, where calibrated ones are already, and the row files."""
    checkpoint, plan = prepared.checkpoint, prepared.plan
    with Progress("quantizing", values(plan.weights)) as progress:
        weights, losses = quantize_weights(checkpoint, plan, units, progress.advance, calibrated)
    with Progress("writing rows", values(plan.tables)) as progress:
        tables, row_losses = write_row_files(checkpoint, plan, place.bundle, progress.advance)
    return WeightFiles(weights, tables, losses | row_losses, calibrated, calibration)


def with_cache_scales(
    prepared: Prepared, model: FloatSource, stored: WeightFiles
) -> tuple[NDArray[np.float32], GemmaConfig, Weights]:
    """Read the text with the float model: its hidden states, and the scales of caches that hold integers.

    The states are (n, hidden), of the whole text if the scales come from it, else of as much as is compared.  Config
    and weights have the scales if the recipe's caches hold integers.
    """
    config, ids = model.config, prepared.ids
    released = released_scales(config, prepared.plan.cache_scales)
    ranges = Ranges(config, stored.calibrated.values if stored.calibrated else {})
    beginning = ids[: tokens_to_compare(config.window, len(ids))] if covers(released, config) else ids
    with Progress("reading in float", len(config.layers)) as progress:
        hidden = hidden_states(model, beginning[None], ranges.see, progress.advance)[0]
    cache = prepared.recipe.cache
    if cache.is_float:
        return hidden, config, stored.weights
    scales = ranges.scales() | released
    return hidden, dataclasses.replace(config, cache_bits=cache.bits), stored.weights.with_vectors(scales)


def lower_all(
    targets: Mapping[str, Target], config: GemmaConfig, weights: Weights, folder: Path
) -> dict[str, m.Artifact]:
    """Capture the graph once, and write the artifact of every target."""
    graph = capture(config)
    artifacts = {name: target.lower(graph, weights, folder) for name, target in targets.items()}
    del graph
    trim_heap()
    return artifacts


def passage(config: GemmaConfig, bos: int, pieces: Pieces) -> Ids:
    """A text as tokens, as many as verify compares: the caches' scales come from them too."""
    wanted = min(config.context, 2 * config.window + BEYOND + STEPS)
    once = pieces.encode(PASSAGE.read_text(encoding="utf-8"), add_special_tokens=False).ids
    ids = [bos, *(once * (wanted // len(once) + 1))][:wanted]
    return np.array(ids, np.int64) % config.vocab


# ---- what the manifest says ----


def manifest_of(
    prepared: Prepared,
    config: GemmaConfig,
    files: LanguageFiles,
    stored: WeightFiles,
    artifacts: dict[str, m.Artifact],
    parts: dict[str, m.Part],
) -> m.Manifest:
    checkpoint, side = prepared.checkpoint, prepared.side
    return m.Manifest(
        format="gemma-edge",
        version=m.version_of(parts),
        model=model_facts(config, prepared.plan.rescored),
        recipe=recipe_facts(prepared.recipe, prepared.plan.rules, stored.losses, stored.calibration),
        provenance=m.Provenance(
            checkpoint=checkpoint.folder.resolve().name, tool=f"gemma-edge {version('gemma-edge')}"
        ),
        generation=side.generation,
        tables=stored.tables,
        artifacts=artifacts,
        files={},
        tokenizer=files.tokenizer,
        vocabulary=files.vocabulary,
        chat_template=files.template,
        special_tokens=side.special_tokens,
        golden="golden.json",
        parity="parity.json",
        parts=parts,
    )


def model_facts(config: GemmaConfig, rescored: int) -> m.ModelFacts:
    dtype: Literal["float32", "int8"] = "int8" if config.cache_bits else "float32"
    parameters: dict[str, int] = {}
    for name, shape in needed(config).items():
        parameters[part(config, name)] = parameters.get(part(config, name), 0) + int(np.prod(shape))
    return m.ModelFacts(
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
            m.Cache(layer=layer.index, kind=layer.kind, kv_heads=layer.kv_heads, head_dim=layer.head_dim, dtype=dtype)
            for layer in config.layers
            if layer.owns_kv
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
    recipe: QuantizeRecipe, kept: list[list[str]], losses: dict[str, Loss], calibration: m.Calibration
) -> m.Recipe:
    """Rules, of which those for tensors that are `kept` as released come first, and the loss by scheme or table."""
    return m.Recipe(
        name=recipe.name,
        summary=recipe.summary,
        rules=[*kept, *([rule.pattern, str(rule.scheme)] for rule in recipe.rules)],
        loss={name: loss.relative for name, loss in losses.items()},
        calibration=calibration,
    )
