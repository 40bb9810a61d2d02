"""A bundle answers before it is sealed: in a form that is asked for, and with a call of a tool.

What it says is of no matter here.  A grammar holds the answer, and readers that know nothing of the grammar must
be able to read it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from jsonschema import Draft202012Validator

from runtime.bundle.parity import Rehearsal
from runtime.errors import GemmaError
from runtime.language.events import End, Event, Text, ToolCall
from runtime.session.options import Options
from runtime.session.session import Session
from runtime.session.structured import JsonSchema

from ..language.conversation_forms import check_turn_end, rendered_forms
from .call_scripts import knows_calls

MOST_TOKENS = 120  # more than any answer that the schemas below allow
GREEDY = Options(temperature=0.0, max_new_tokens=MOST_TOKENS)
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "maxLength": 12},
        "people": {"type": "integer", "minimum": 0, "maximum": 99},
    },
    "required": ["city", "people"],
    "additionalProperties": False,
}
ASKED = {"role": "user", "content": "Which city is the capital of France, and how many people do you know there?"}
TOOL = {"name": "visit", "description": "Plan a visit to a city", "parameters": SCHEMA}
NO_TEMPLATE = "not asked: the model has no chat template"
NO_CALLS = "not asked: the model knows no tool calls"


def rehearse(session: Session) -> Rehearsal:
    """Raises GemmaError for a conversation that loses a text, an answer that does not end, or a form that is broken."""
    tokenizer, stop = session.tokenizer, session.manifest.generation.stop
    named = {str(tokenizer.pieces.id_to_token(token)): token for token in stop}
    if not tokenizer.template:
        return Rehearsal(forms={}, stop=named, structured=NO_TEMPLATE, call=NO_TEMPLATE)
    forms = rendered_forms(tokenizer)
    check_turn_end(tokenizer, stop)
    call = called(session) if knows_calls(tokenizer) else NO_CALLS
    return Rehearsal(forms=forms, stop=named, structured=structured(session), call=call)


def structured(session: Session) -> str:
    """The answer, which is JSON of the schema."""
    events = session.chat([ASKED], replace(GREEDY, response_format=JsonSchema(SCHEMA)))
    said = "".join(event.text for event in whole(events))
    try:
        wrong = next(Draft202012Validator(SCHEMA).iter_errors(json.loads(said)), None)
    except ValueError as error:
        raise broken(f"an answer in JSON can not be read: {said!r:.100}: {error}") from error
    if wrong:
        raise broken(f"an answer does not have the form that was asked for: {said!r:.100}: {wrong.message}")
    return said


def whole(events: Iterator[Event]) -> Iterator[Text]:
    """The texts of an answer that ends by itself."""
    for event in events:
        if isinstance(event, Text):
            yield event
        elif isinstance(event, End) and event.stop != "stop":
            raise broken(f"an answer in JSON did not end within {MOST_TOKENS} tokens: {event.stop}")


def called(session: Session) -> str:
    """The first call, which the reader of calls understands and the tool's schema allows."""
    events = session.chat([ASKED], replace(GREEDY, tools=[TOOL], tool_choice="required"))
    call = next((event for event in events if isinstance(event, ToolCall)), None)
    if call is None:
        raise broken("a tool was to be called, and was not")
    wrong = next(Draft202012Validator(SCHEMA).iter_errors(call.arguments), None)
    if call.problem or wrong or call.name != TOOL["name"]:
        raise broken(f"a call of a tool can not be used: {call.problem or (wrong and wrong.message) or call.name}")
    return f"{call.name} {json.dumps(call.arguments, ensure_ascii=False)}"


def broken(what: str) -> GemmaError:
    return GemmaError(what, "the bundle is not sealed; report this as a bug, with the checkpoint's name")
