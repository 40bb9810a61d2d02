"""Operands of a captured graph have the names and the order of the operators, and say which layer they are of."""

from __future__ import annotations

import inspect
from dataclasses import fields

import pytest

from export.model import operators
from export.model.capture import Graph, capture
from export.model.config import parse_config
from export.model.operands import Attend, AttendCached, StoreKV
from tests import tiny

VIEWS = [(Attend, operators.attend), (StoreKV, operators.store_kv), (AttendCached, operators.attend_cached)]


def layers_of(graph: Graph, view, operator) -> list[int]:
    return [view.of(node).layer for node in graph.program.graph.nodes if node.target is operator.overload]


@pytest.mark.parametrize(("view", "operator"), VIEWS)
def test_a_view_has_the_operands_in_their_order(view, operator):
    """As torch has registered them, and as the body takes them."""
    names = [field.name for field in fields(view)]
    assert names == [argument.name for argument in operator.overload._schema.arguments]
    assert names == list(inspect.signature(operator).parameters)


@pytest.mark.parametrize("name", tiny.CONFIGS)
def test_every_operator_knows_its_layer(name):
    config = parse_config(tiny.CONFIGS[name], name)
    graph, own = capture(config), config.own_kv_layers
    stored, cached = layers_of(graph, *VIEWS[1]), layers_of(graph, *VIEWS[2])
    assert layers_of(graph, *VIEWS[0]) == list(range(own - 1))
    assert stored == [own - 1]
    assert cached == list(range(own - 1, len(config.layers)))  # the last that stores asks for the kept positions
    kinds = [config.layers[layer].kind for layer in range(len(config.layers))]
    nodes = graph.program.graph.nodes
    windows = [Attend.of(node).window for node in nodes if node.target is operators.attend.overload]
    windows += [AttendCached.of(node).window for node in nodes if node.target is operators.attend_cached.overload]
    assert ["sliding" if window else "full" for window in windows] == kinds
