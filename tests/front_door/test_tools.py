"""Functions that can not be tools are refused by their names."""

from __future__ import annotations

from typing import Literal

import pytest

from gemma_edge import Model, RequestError


@pytest.fixture(scope="module")
def model(bundle):
    with Model.open(bundle("sample", "int4-datafree"), context=256, threads=1) as opened:
        yield opened


def missing(place: "Atlantis") -> str:  # noqa: F821, UP037
    """Nobody knows the type"""
    return ""


def of_bytes(place: Literal[b"x"]) -> str:
    """No text"""
    return ""


def of_nothing(place: Literal[None]) -> str:
    """Nothing"""
    return ""


def of_two_kinds(place: Literal["a", 1]) -> str:
    """A text or a number"""
    return ""


async def later(place: str) -> str:
    """Later"""
    return ""


@pytest.mark.parametrize(
    ("tool", "said"),
    [
        (missing, "the tool missing can not be read: name 'Atlantis' is not defined"),
        (int, "the tool <class 'int'> is not a function"),
        (max, "the tool max can not be read"),
        (of_bytes, r"of_bytes.place: the values \[b'x'\] have no JSON schema"),
        (of_nothing, r"of_nothing.place: the values \[None\] have no JSON schema"),
        (of_two_kinds, "of_two_kinds.place: the values .* have no JSON schema"),
        (lambda place: place, "the tool <lambda> has no name a model can call"),
        (later, "the tool later is asynchronous"),
        ("look", "the tool 'look' is not a function"),
    ],
)
def test_what_is_no_tool(model, tool, said):
    with pytest.raises(RequestError, match=said):
        model.ask("Look!", tools=[tool])


def test_a_literal_may_have_none_beside_texts(model):
    from runtime.calls.tool_schema import schema_of

    assert schema_of(Literal["a", None], "x") == {"type": "string", "enum": ["a"], "nullable": True}
