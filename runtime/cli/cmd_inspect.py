"""`gemma-edge inspect`: what is in a bundle or a checkpoint, and what it weighs."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..bundle.bundle import MANIFEST, Bundle
from ..bundle.kv_bytes import bytes_by_context, shown_contexts
from ..bundle.manifest import Manifest
from ..bundle.parts import part_facts
from ..bundle.proof_facts import proof_facts
from ..bundle.sizes import sizes
from ..engine.engine import first_planner
from ..engine.memory_plan import Planned
from ..errors import GemmaError
from ..machine.available_memory import available
from ..needs import needs
from .table import text


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Explain a bundle or a checkpoint: its parts and their sizes, its context and its caches. For a "
        "checkpoint, also show what each recipe would make of it; for a bundle, how it was proved."
    )
    parser.add_argument("path", metavar="PATH", help="the folder of a bundle or a checkpoint, or a hub id")
    parser.add_argument(
        "--context",
        type=int,
        metavar="N",
        help="for a bundle, show how much memory `gemma-edge run` would take with a context of N tokens",
    )
    parser.add_argument("--json", action="store_true", help="print one line of JSON")


def run(args: argparse.Namespace) -> int:
    if (Path(args.path) / MANIFEST).is_file():
        facts = bundle_facts(Bundle.open(Path(args.path)), args.context)
    elif args.context is not None:
        raise GemmaError(
            f"--context {args.context} needs a bundle, and {args.path} is not one", "leave it out, or export a bundle"
        )
    else:
        facts = checkpoint_facts(args.path)
    print(json.dumps(facts) if args.json else text(facts))
    return 0


def checkpoint_facts(source: str) -> dict[str, Any]:
    """Asked of the export room, whose packages may not be installed."""
    module = needs("export.inspect_checkpoint", "export", f"{source} is not a bundle, and reading a checkpoint")
    facts: dict[str, Any] = module.facts(source)
    return facts


def bundle_facts(bundle: Bundle, context: int | None = None) -> dict[str, Any]:
    """Explain a bundle, with a context also its memory plan.  Raises GemmaError if the model has no such context."""
    manifest = bundle.manifest
    model = manifest.model
    plan = first_planner(manifest, text=True)
    planned = {} if context is None else {"memory plan": memory_plan(manifest, plan, context)}
    return {
        "kind": "bundle",
        "family": model.family,
        "made from": manifest.provenance.checkpoint,
        "recipe": f"{manifest.recipe.name}: {manifest.recipe.summary}",
        "layers": f"{model.layers}, of which {model.own_kv_layers} own keys and values",
        "context": model.context,
        "window": model.window,
        "parameters": model.parameters,
        "activations": activations(manifest),
        "compact vocabulary": manifest.vocabulary or "none: applications refuse this bundle",
        "bytes": sizes(manifest),
        "cache bytes": bytes_by_context([(cache, cache.dtype) for cache in model.caches], model.window, model.context),
        **({"peak bytes of run": peaks(manifest, plan)} if plan else {}),
        **planned,
        "proof": proof_facts(bundle),
        "artifacts": {name: artifact.operators for name, artifact in manifest.artifacts.items()},
        **({"parts": part_facts(manifest)} if manifest.parts else {}),
        "schemes": {rule[0]: rule[1] for rule in manifest.recipe.rules},
    }


def activations(manifest: Manifest) -> str:
    """How the linears round what they read and give."""
    if manifest.lost_ranges:
        return "the static ranges of the release were dropped: export it again"
    if manifest.model.static_ranges:
        return "rounded to the static 8-bit ranges of the release, before and behind each linear"
    return "as the engine rounds them"


def peaks(manifest: Manifest, plan: Planned) -> dict[str, int]:
    return {str(tokens): plan(tokens).peak for tokens in shown_contexts(manifest.model.context)}


def memory_plan(manifest: Manifest, plan: Planned | None, context: int) -> dict[str, int]:
    """Raises GemmaError for a context that the model does not have, or if no engine here can say what it takes."""
    if not 1 <= context <= manifest.model.context:
        raise GemmaError(f"--context must be 1 to {manifest.model.context}, not {context}")
    if plan is None:
        artifacts = ", ".join(manifest.artifacts) or "nothing"
        raise GemmaError(f"no memory plan for {artifacts}", "export it with targets=['onnx']")
    parts = plan(context)
    return {**asdict(parts), "peak": parts.peak, "available": available()}
