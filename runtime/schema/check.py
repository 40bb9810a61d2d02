"""JSON schemas from outside, checked before an answer begins: what they say, how deep and how large they are."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Mapping
from typing import Any

from ..errors import RequestError
from ..needs import needs
from .json_schema import resolved, subschemas
from .text_pattern import is_pattern

DEPTH = 64  # schemas inside each other
NODES = 5_000  # schemas once their references are written out
TOLD_LATER = ("$dynamicRef", "$recursiveRef")  # references whose target depends on the way to them


def check_schema(schema: Any, what: str) -> None:
    """Raises GemmaError, which names the keyword and where it is, for what draft 2020-12 calls no schema.

    `what` names the schema in the sentence.  Needs the package jsonschema.
    """
    try:
        text = json.dumps(schema, allow_nan=False, ensure_ascii=False)
        text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise RequestError(f"{what} is not JSON: {error}", "give a JSON schema") from error
    check_text(text, what)


@functools.lru_cache(256)
def check_text(text: str, what: str) -> None:
    """Check a schema by its text, which is all that is kept of one that is right."""
    schema = json.loads(text)
    judge = metaschema()
    for path, part in written_schemas(schema, what):
        for error in sorted(judge.iter_errors(part), key=lambda error: len(error.absolute_path), reverse=True)[:1]:
            where = "/".join(map(str, [*path, *error.absolute_path]))
            raise RequestError(f"{what}: {where or 'the whole'}: {error.message:.120}", "correct the schema")
        if isinstance(part, Mapping):
            check_words(part, "/".join(path), what)
    check_size(schema, what)


def check_words(schema: Mapping[str, Any], where: str, what: str) -> None:
    """What jsonschema leaves to others: patterns, and references that no program follows."""
    patterns = [schema["pattern"]] if "pattern" in schema else []
    place = f"{what}: {where}/" if where else f"{what}: "
    for pattern in [*patterns, *schema.get("patternProperties", ())]:
        if not is_pattern(pattern):
            raise RequestError(f"{place}pattern: {pattern!r:.80} does not compile", "correct the pattern")
    for keyword in TOLD_LATER:
        if keyword in schema:
            raise RequestError(f"{place}{keyword} is not supported", "use $ref instead")


def written_schemas(schema: Any, what: str) -> Iterator[tuple[list[str], Any]]:
    """Every schema as it is written, with its path."""
    waiting: list[tuple[list[str], Any, int]] = [([], schema, 1)]
    count = 0
    while waiting:
        path, part, depth = waiting.pop()
        count += 1
        check_bounds(depth, count, what)
        yield path, part
        if isinstance(part, Mapping):
            waiting += [([*path, *step.split("/", 1)], inner, depth + 1) for step, inner in subschemas(part)]


def check_size(schema: Any, what: str) -> None:
    """References written out, each once on a way: one that leads back to itself ends there."""
    waiting: list[tuple[Any, int, tuple[int, ...]]] = [(schema, 1, ())]
    count = 0
    while waiting:
        part, depth, behind = waiting.pop()
        count += 1
        check_bounds(depth, count, what)
        if not isinstance(part, Mapping):
            continue
        waiting += [
            (inner, depth + 1, behind)
            for step, inner in subschemas(part)
            if not step.startswith(("$defs/", "definitions/"))
        ]
        if "$ref" in part:
            target = resolved(part, schema)
            if id(target) not in behind:
                waiting.append((target, depth + 1, (*behind, id(target))))


def check_bounds(depth: int, count: int, what: str) -> None:
    if depth > DEPTH:
        raise RequestError(f"{what} is more than {DEPTH} schemas deep", "give a flatter schema")
    if count > NODES:
        raise RequestError(
            f"{what} has more than {NODES} parts once its references are written out", "give a smaller schema"
        )


@functools.cache
def metaschema() -> Any:
    """jsonschema's own check of one schema without those inside it, which are checked one by one.

    It is draft 2020-12's metaschema, its vocabularies in one and without recursion.
    """
    validator = needs("jsonschema", "structured", "the check of a JSON schema").Draft202012Validator
    registry = needs("jsonschema_specifications", "structured", "the check of a JSON schema").REGISTRY
    whole = validator.META_SCHEMA
    base = "https://json-schema.org/draft/2020-12/"
    parts = [whole, *(registry.contents(base + inner["$ref"]) for inner in whole["allOf"])]
    merged = {
        kind: {name: inner for part in parts for name, inner in part.get(kind, {}).items()}
        for kind in ("properties", "$defs")
    }
    text = json.dumps({"type": ["object", "boolean"], **merged})
    text = text.replace('"$dynamicRef": "#meta"', '"type": ["object", "boolean"]')
    return validator(json.loads(text.replace('"meta/validation#', '"#')))
