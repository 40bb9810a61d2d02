"""Schemas drawn at random for tools, and calls drawn at random from what a grammar allows."""

from __future__ import annotations

import random
from typing import Any

import numpy as np

NAMES = [
    "a",
    "b",
    "Name",
    "og:title",
    "a,b",
    "x}y",
    "[0]",
    '"q"',
    "'s'",
    "with space",
    "é日",
    "$ref",
    "type",
    "",
    "k-1",
]
PATTERNS = ["^[a-z]{1,4}$", "b", "^x|y$", "^(red|green) (apple|pear)s?$", "^[0-9/]+\\.$", "^[(]?a$", "é{1,2}"]
FORMATS = ["date", "time", "date-time", "uuid", "ipv4", "hostname", "email", "uri"]
VALUES: list[Any] = [
    "x",
    "",
    "a b",
    'say "x", y',
    "5",
    "null",
    0,
    -7,
    2.5,
    1e22,
    True,
    None,
    [1, "x"],
    {"a,b": [None]},
    10**15,
]
DEEPEST = 3


class Drawn:
    """`schema()` draws one; `$ref` leads to the two in `defs`, of which one refers to itself."""

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)

    def tool(self) -> dict[str, Any]:
        parameters = {"type": "object", **self.fields(DEEPEST)}
        tree = {"type": "object", "properties": {"next": {"anyOf": [{"$ref": "#/$defs/tree"}, {"type": "null"}]}}}
        parameters["$defs"] = {"tree": tree, "leaf": self.schema(0), "part": {"properties": {"a": self.schema(0)}}}
        return {"name": "f", "parameters": parameters}

    def maybe(self, chance: float, **keywords: Any) -> dict[str, Any]:
        return keywords if self.draw.random() < chance else {}

    def some(self, values: list[Any], most: int) -> list[Any]:
        return self.draw.sample(values, self.draw.randint(1, min(most, len(values))))

    def schema(self, depth: int) -> Any:
        plain = [self.number, self.text, self.listed, self.simple]
        deep = [self.array, self.object, self.alternatives, self.all_of, self.reference]
        made = self.draw.choice([*plain, *deep] if depth else plain)(depth - 1)
        return {**made, **self.maybe(0.1, description="d", default=1)} if isinstance(made, dict) else made

    def simple(self, depth: int) -> Any:
        kinds = ["null", "boolean", "integer", "number", "string"]
        return self.draw.choice([{"type": self.draw.choice(kinds)}, {"type": self.some(kinds, 3)}, {}, True])

    def number(self, depth: int) -> dict[str, Any]:
        low = self.draw.choice([-100, -3.5, 0, 0.1, 7, 1e6])
        return {
            "type": self.draw.choice(["integer", "number"]),
            **self.maybe(0.5, **{self.draw.choice(["minimum", "exclusiveMinimum"]): low}),
            **self.maybe(
                0.5, **{self.draw.choice(["maximum", "exclusiveMaximum"]): low + self.draw.choice([0, 2, 99.5])}
            ),
            **self.maybe(0.2, multipleOf=self.draw.choice([2, 0.1, 0.3, 0.25, 5])),
        }

    def text(self, depth: int) -> dict[str, Any]:
        return {
            "type": "string",
            **self.maybe(0.3, minLength=self.draw.randint(0, 4)),
            **self.maybe(0.5, maxLength=self.draw.randint(3, 12)),
            **self.maybe(0.3, pattern=self.draw.choice(PATTERNS)),
            **self.maybe(0.1, format=self.draw.choice(FORMATS)),
        }

    def listed(self, depth: int) -> dict[str, Any]:
        values = {"enum": self.some(VALUES, 5)} if self.draw.random() < 0.7 else {"const": self.draw.choice(VALUES)}
        return {
            **values,
            **self.maybe(0.2, type=["string", "number", "null"]),
            **self.maybe(0.2, **{"not": {"const": 0}}),
        }

    def array(self, depth: int) -> dict[str, Any]:
        unique = self.draw.random() < 0.2
        return {
            "type": "array",
            **self.maybe(1 if unique else 0.8, items={"enum": self.some(VALUES, 6)} if unique else self.schema(depth)),
            **self.maybe(
                0.2 if not unique else 0, prefixItems=[self.schema(depth) for _ in range(self.draw.randint(1, 3))]
            ),
            **self.maybe(0.4, minItems=self.draw.randint(0, 3)),
            **self.maybe(0.4, maxItems=self.draw.randint(1, 4)),
            **({"uniqueItems": True} if unique else {}),
        }

    def object(self, depth: int) -> dict[str, Any]:
        return {"type": "object", **self.fields(depth)}

    def fields(self, depth: int) -> dict[str, Any]:
        names = self.some(NAMES, 5)
        return {
            **self.maybe(0.9, properties={name: self.schema(depth) for name in names}),
            **self.maybe(0.5, required=self.some(names, 2)),
            **self.maybe(0.3, additionalProperties=self.draw.choice([False, True, self.schema(0)])),
            **self.maybe(0.1, patternProperties={self.draw.choice(PATTERNS): self.schema(0) for _ in range(2)}),
            **self.maybe(0.1, propertyNames={"pattern": "^[a-zA-Z:]*$", "maxLength": 8}),
            **self.maybe(0.2, minProperties=self.draw.randint(0, 2)),
            **self.maybe(0.2, maxProperties=self.draw.randint(1, 4)),
        }

    def alternatives(self, depth: int) -> dict[str, Any]:
        if self.draw.random() < 0.3:
            kinds = [{"type": "object", "properties": {"kind": {"const": one}}, "required": ["kind"]} for one in "xyz"]
            return {"oneOf": [self.more(one, depth) for one in kinds[: self.draw.randint(1, 3)]]}
        ways = {"anyOf": [self.schema(depth) for _ in range(self.draw.randint(1, 3))]}
        return {**ways, **self.maybe(0.1, type="string"), **self.maybe(0.1, minLength=2)}

    def more(self, schema: dict[str, Any], depth: int) -> dict[str, Any]:
        return {**schema, "properties": {**schema["properties"], "other": self.schema(depth)}}

    def all_of(self, depth: int) -> dict[str, Any]:
        kind = self.draw.choice([self.schema, self.number, self.text, self.object, self.array])
        return {"allOf": [kind(depth) for _ in range(self.draw.randint(1, 2))]}

    def reference(self, depth: int) -> dict[str, Any]:
        place = self.draw.choice(["tree", "leaf", "part"])
        return {"$ref": f"#/$defs/{place}", **self.maybe(0.2, **self.fields(0))}


def walk(matcher: Any, tokens: int, closing: list[int], draw: random.Random, most: int = 400) -> list[int] | None:
    """Tokens that a grammar allows, to its last; none if it goes on and on.  The longer, the sooner it closes."""
    bits = np.zeros(-(-tokens // 32), np.int32)
    said: list[int] = []
    while len(said) < most:
        if matcher.is_stopped():
            return said
        matcher.unsafe_compute_mask_ptr(bits.ctypes.data, bits.nbytes)
        assert not matcher.is_error(), matcher.get_error()
        allowed = np.flatnonzero(np.unpackbits(bits.view(np.uint8), count=tokens, bitorder="little"))
        assert len(allowed), said
        ends = [token for token in closing if token in allowed]
        token = draw.choice(ends) if ends and draw.random() < 0.2 + len(said) / most else int(draw.choice(allowed))
        assert matcher.consume_token(int(token))
        said.append(int(token))
    return None
