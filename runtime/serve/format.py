"""The field `response_format` of a request: text, an object of JSON, or JSON by a schema."""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any

from ..session.structured import JsonSchema, ResponseFormat
from .fields import refuse
from .refusal import Refusal

NOTES = frozenset(("name", "description", "strict"))  # an answer is held to its schema whatever they say


def response_format(field: Mapping[str, Any]) -> ResponseFormat | None:
    """A schema stands in `json_schema`, or beside the type.  Raises Refusal for what is no format."""
    kind = field.get("type", "text")
    if kind == "text":
        check_fields(kind, field, {"type"})
        return None
    inner = field
    if kind == "json_schema" and field.get("json_schema") is not None:
        check_fields(kind, field, {"type", "json_schema"})
        inner = field["json_schema"]
    schema = inner.get("schema") if isinstance(inner, Mapping) else None
    if kind == "json_object" and schema is None:
        schema = {}
    if kind not in ("json_object", "json_schema") or not isinstance(schema, Mapping):
        raise Refusal(
            400,
            f"response_format of the type {kind!r:.40} is unknown, or has no schema",
            'give {"type": "json_schema", "json_schema": {"name": ..., "schema": {...}}}, json_object or text',
            code="unsupported_parameter",
            param="response_format",
        )
    check_fields(kind, inner, {"type", "schema"} if inner is field else {"schema"})
    return JsonSchema(of_object(schema) if kind == "json_object" else schema)


def check_fields(kind: str, field: Mapping[str, Any], known: Set[str]) -> None:
    """Raises Refusal for a field that would ask for another form."""
    for name in sorted(name for name in field.keys() - known - NOTES if field[name] is not None):
        refuse(f"response_format.{name:.40}", f"the field {name!r:.40} of a response_format {kind} is not supported")


def of_object(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """The schema of an object, where it does not say of what it is."""
    says = schema.keys() & {"type", "$ref", "anyOf", "oneOf", "allOf", "enum", "const"}
    return schema if says else {"type": "object", **schema}
