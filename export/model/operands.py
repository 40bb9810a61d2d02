"""What an operator of a captured graph is applied to, by name: a backend asks for no operand by its place.

The fields are those of the operators of the same names in operators.py, in their order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch.fx import Node


def arguments(node: Node) -> Any:
    """A node's arguments in order: nodes, numbers, lists of either."""
    return node.args


@dataclass(frozen=True)
class Attend:
    """Queries over the past and the new keys and values, which are stored."""

    q: Node
    k: Node
    v: Node
    q_gain: Node
    k_gain: Node
    positions: Node
    cos: Node
    sin: Node
    past_key: Node
    past_value: Node
    scale: float
    window: int
    value_norm: bool
    eps: float
    k_scale: Node | None
    v_scale: Node | None
    layer: int

    @classmethod
    def of(cls, node: Node) -> Attend:
        return cls(*arguments(node))


@dataclass(frozen=True)
class StoreKV:
    """New keys and values, which are stored and not attended to."""

    k: Node
    v: Node
    k_gain: Node
    positions: Node
    cos: Node
    sin: Node
    past_key: Node
    past_value: Node
    value_norm: bool
    eps: float
    k_scale: Node | None
    v_scale: Node | None
    layer: int

    @classmethod
    def of(cls, node: Node) -> StoreKV:
        return cls(*arguments(node))


@dataclass(frozen=True)
class AttendCached:
    """Queries over keys and values that another operator has stored."""

    q: Node
    q_gain: Node
    positions: Node
    cos: Node
    sin: Node
    key: Node
    value: Node
    scale: float
    window: int
    eps: float
    k_scale: Node | None
    v_scale: Node | None
    layer: int

    @classmethod
    def of(cls, node: Node) -> AttendCached:
        return cls(*arguments(node))
