"""The calls that some tools allow, as a grammar for llguidance: only their names, arguments by their schemas.

Arguments come in the order in which the template writes them: sorted, without regard to case.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .call_syntax import render_value
from .control_tokens import QUOTE
from .errors import GemmaError
from .json_schema import resolved
from .tool_schema import Declaration

SCALARS = ("integer", "number", "boolean", "null")
RANGES = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")
KINDS = (*SCALARS, "string", "array", "object")
ANY = "any"  # the reference of a value of any kind


def call_grammar(declared: Sequence[Declaration], call_end: int, quote: int) -> str:
    """Lark rules for what stands between `<|tool_call>` and the end token, which is the last of it.

    Raises GemmaError for a schema that has no such rules.
    """
    calls = []
    rules = Rules(quote)
    for tool in declared:
        rules.root = tool["function"]["parameters"]
        rules.references = {where: rule for where, rule in rules.references.items() if where == ANY}
        calls.append(f"{text(tool['function']['name'])} {rules.value({'additionalProperties': False, **rules.root})}")
    return f'start: "call:" ({" | ".join(calls)}) <[{call_end}]>\n' + "\n".join(rules.lines) + "\n"


@dataclass
class Rules:
    """Rules made so far; `value` adds one for a schema and gives its name."""

    quote: int
    root: Mapping[str, Any] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)
    references: dict[str, str] = field(default_factory=dict)
    count: int = 0

    def value(self, schema: Any) -> str:
        if isinstance(schema, Mapping) and "$ref" in schema:
            return self.reference(schema)
        return self.anything() if schema is True else self.named(self.alternatives(schema))

    def named(self, rule: str) -> str:
        self.count += 1
        self.lines.append(f"v{self.count}: {rule}")
        return f"v{self.count}"

    def reference(self, schema: Mapping[str, Any]) -> str:
        """A rule that may be asked for again, also inside itself."""
        where = str(schema["$ref"])
        if where not in self.references:
            self.count += 1
            self.references[where] = f"r{self.count}"
            self.lines.append(f"{self.references[where]}: {self.alternatives(resolved(schema, self.root))}")
        return self.references[where]

    def alternatives(self, schema: Any) -> str:
        if not isinstance(schema, Mapping) or "allOf" in schema or "not" in schema:
            raise GemmaError(f"calls can not be constrained to {schema!r:.60}", "simplify the schema of the tool")
        nullable = ["null"] if schema.get("nullable") else []
        if "enum" in schema or "const" in schema:
            values = [*schema.get("enum", [schema.get("const")]), *([None] if nullable else [])]
            return " | ".join(self.literal(value) for value in values)
        for keyword in ("anyOf", "oneOf"):
            if keyword in schema:
                return " | ".join([*(self.value(one) for one in schema[keyword]), *map(text, nullable)])
        asked = schema.get("type") or ("object" if "properties" in schema else list(KINDS))
        kinds = [asked] if isinstance(asked, str) else list(asked)
        return " | ".join(self.kind(kind, schema) for kind in dict.fromkeys([*kinds, *nullable]))

    def kind(self, kind: str, schema: Mapping[str, Any]) -> str:
        if kind in SCALARS:
            ranges = {word: schema[word] for word in RANGES if word in schema and kind in ("integer", "number")}
            return self.named(f"%json {json.dumps({'type': kind, **ranges})}")
        if kind == "string":
            return self.string(schema)
        if kind == "array":
            return self.array(schema)
        if kind == "object":
            return self.object(schema)
        raise GemmaError(f"the type {kind!r} is not one of {', '.join(KINDS)}", "correct the schema of the tool")

    def literal(self, value: Any) -> str:
        """A value as it is written, its quotes as tokens."""
        pieces = render_value(value).split(QUOTE)
        return f" <[{self.quote}]> ".join(text(piece) if piece else "" for piece in pieces).strip()

    def string(self, schema: Mapping[str, Any]) -> str:
        least, most = schema.get("minLength", 0), schema.get("maxLength", "")
        pattern = schema.get("pattern")
        inner = searched(pattern) if pattern is not None else f"(?s:.{{{least},{most}}})"
        self.count += 1
        escaped = inner.replace("/", "\\/")
        self.lines.append(f"S{self.count}: /{escaped}/")
        return f"<[{self.quote}]> S{self.count} <[{self.quote}]>"

    def array(self, schema: Mapping[str, Any]) -> str:
        item = self.value(schema.get("items", True))
        least, most = schema.get("minItems", 0), schema.get("maxItems")
        if most == 0:
            return '"[" "]"'
        more = f'("," {item}){{{max(least - 1, 0)},{"" if most is None else most - 1}}}'
        return f'"[" {item} {more} "]"' if least else f'"[" ({item} {more})? "]"'

    def object(self, schema: Mapping[str, Any]) -> str:
        """Properties in their order; a comma before each but the first that is there."""
        known = sorted(schema.get("properties", {}).items(), key=lambda item: item[0].lower())
        extra = schema.get("additionalProperties", not known)
        if not known:
            return self.mapping(extra)
        required = set(schema.get("required", ()))
        pairs = [(name in required, f'{text(name)} ":" {self.value(one)}') for name, one in known]
        firsts = []
        for index, (needed, pair) in enumerate(pairs):
            after = [f'"," {other}' if must else f'("," {other})?' for must, other in pairs[index + 1 :]]
            firsts.append(" ".join([pair, *after]))
            if needed:
                break
        every = "(" + " | ".join(firsts) + ")"
        return f'"{{" {every if required else every + "?"} "}}"'

    def mapping(self, values: Any) -> str:
        """An object whose names are free."""
        if values is False:
            return '"{" "}"'
        pair = self.named(f'/[A-Za-z_][A-Za-z0-9_]*/ ":" {self.value(values)}')
        return f'"{{" ({pair} ("," {pair})*)? "}}"'

    def anything(self) -> str:
        """A value of any kind: one rule, because it holds such values again."""
        if ANY not in self.references:
            self.references[ANY] = "any"
            self.lines.append(f"any: {self.alternatives({'type': list(KINDS)})}")
        return "any"


def text(word: str) -> str:
    return json.dumps(word, ensure_ascii=False)


def searched(pattern: str) -> str:
    """A pattern that matches a part, as one that matches the whole."""
    begin = "" if pattern.startswith("^") else "(?s:.*)"
    end = "" if pattern.endswith("$") and not pattern.endswith("\\$") else "(?s:.*)"
    inner = pattern.removeprefix("^")
    return f"{begin}(?:{inner if end else inner.removesuffix('$')}){end}"
