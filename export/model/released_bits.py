"""How many bits each module of a quantized release has, by the rules of its config.json.

`quant_method: "gemma"`: patterns in order, searched for in a module's name, as transformers does
(integrations/gemma_quant.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

WIDTHS = (2, 4, 8)
# Scales beside the integers: of what a linear reads and gives, and of keys and values with our names for them.
ACTIVATIONS = ("input_activation_scale", "output_activation_scale")
CACHES = {"k_cache_scale": "k_scale", "v_cache_scale": "v_scale"}
LONGEST_PATTERN = 200  # characters of a pattern, and of a tensor's name
REPEATS = 2  # in a pattern
MOST = 100  # patterns
ESCAPED = re.compile(r"\\.", re.S)
QUANTIFIER = re.compile(r"[*+{]|(?<!\()\?")
REPEATED_GROUP = re.compile(r"\)[*+{?]")


@dataclass(frozen=True)
class ReleasedBits:
    rules: tuple[tuple[str, int], ...]
    otherwise: int

    @cached_property
    def _any(self) -> re.Pattern[str]:
        return alternatives(pattern for pattern, _ in self.rules)

    def of(self, module: str) -> int:
        """Bits of a module, by its released name: of all patterns that begin to fit earliest, the first."""
        match = self._any.search(module)
        if match is None:
            return self.otherwise
        return next(bits for i, (_, bits) in enumerate(self.rules) if match[f"g{i}"] is not None)

    def idle(self, modules: Iterable[str]) -> list[str]:
        """Patterns that fit none of the modules."""
        names = list(modules)
        return [pattern for pattern, _ in self.rules if not any(re.search(pattern, name) for name in names)]


def parse_bits(raw: Mapping[str, Any]) -> ReleasedBits | None:
    """Read the rules of a whole config.json; None for a model that is not quantized.

    Raises ValueError for another method, a width that there is not, and a pattern that is none or that could
    take for ever: a config is not trusted.
    """
    quantization = raw.get("quantization_config")
    if quantization is None:
        return None
    method = quantization.get("quant_method")
    if method == "compressed-tensors":
        raise ValueError(
            "it is quantized by compressed-tensors, which is not read; "
            "use the sibling release whose name ends in -qat-mobile-transformers or -qat-q4_0-unquantized"
        )
    if method != "gemma":
        raise ValueError(f"it is quantized already (quant_method {method!r}); use the unquantized checkpoint")
    otherwise = width(quantization.get("num_bits", 4))
    patterns = quantization.get("module_quant_configs") or {}
    if len(patterns) > MOST:
        raise ValueError(f"module_quant_configs has {len(patterns)} patterns, more than {MOST}")
    rules = tuple((safe(pattern), width(each.get("num_bits", otherwise))) for pattern, each in patterns.items())
    return ReleasedBits(rules, otherwise)


def alternatives(patterns: Iterable[str]) -> re.Pattern[str]:
    """One pattern with a group for each, g0, g1, ...; it fits nothing if there are none."""
    return re.compile("|".join(f"(?P<g{i}>{pattern})" for i, pattern in enumerate(patterns)) or "(?!)")


def width(bits: Any) -> int:
    if bits not in WIDTHS:
        raise ValueError(f"num_bits {bits!r} is not 2, 4 or 8")
    return int(bits)


def safe(pattern: str) -> str:
    """A pattern whose search takes little time: what repeats is one character, few times in a pattern."""
    bare = ESCAPED.sub("x", pattern)
    if len(pattern) > LONGEST_PATTERN or len(QUANTIFIER.findall(bare)) > REPEATS or REPEATED_GROUP.search(bare):
        raise ValueError(f"module_quant_configs has a pattern that is too complex: {pattern[:LONGEST_PATTERN]!r}")
    try:
        groups = re.compile(pattern).groupindex
        if not groups:
            alternatives([pattern])  # flags are for the beginning of a whole
    except re.error as error:
        raise ValueError(f"module_quant_configs has {pattern!r}, which is not a pattern: {error}") from error
    if groups:
        raise ValueError(f"module_quant_configs has a pattern with a named group: {pattern!r}")
    return pattern
